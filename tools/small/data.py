"""The samples that `small` learns from, as manifests under a data root of its own.

    python -m tools.small.data --data-root DATA --out ROOT

ROOT holds links to the released folders and ``manifests/*.jsonl``, which the readers of the package prefer to their
own. What differs from them: both folders of photographs are one corpus whose fifth is held out by person; composed
clips keep to that split; every explanation names the polarity of its feeling, so that sentiment can be learnt without
one question about it, and comments without a word of feeling get an explanation that is nothing but that; comments are
also asked with the label names that clips are asked with; intents are mostly asked with a part of their long lists; and
``talk`` and composed clips get replies of our own (``tools.small.replies``).
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from nanoemox.data.corpora.releases import family, read_table
from nanoemox.data.manifest import ClosedLabels, Sample, Split, TextLabels, write_manifest
from nanoemox.tasks import LABEL_SETS
from tools.corpora import read_corpora
from tools.corpora.common import Source, explanation, recognition
from tools.corpora.facial_expressions import FOLDER, LABELS
from tools.corpora.targets import FEELINGS, conclusion, face_sentence, pick
from tools.small.replies import TONES, reply_to

MORE = Path("corpora/facial_expressions_more")
BARE_MOST, SHORT_LISTS, TALK_MOST, TALK_WORDS, FACES_MOST, CALMLY_MOST, ODD_MOST = 3000, 3, 500, 3, 450, 200, 120
CORPORA = ("ravdess", "goemotions", "mintrec", "mintrec2", "mustard", "esconv", "word_choice", "composed")
POLARITY = {
    "a neutral state": "neutral", "calm": "neutral", "happiness": "positive", "sadness": "negative",
    "anger": "negative", "fear": "negative", "disgust": "negative", "contempt": "negative",
}  # fmt: skip
"""Noun of a feeling -> its polarity; surprise has none."""

INTENT_FEELINGS = {
    "neutral": frozenset((
        "inform", "advise", "arrange", "introduce", "plan", "explain", "confirm", "ask for help", "ask for opinions",
        "acknowledge", "invite", "leave", "asking for opinions", "emphasize",
    )),
    "joy": frozenset(("praise", "thank", "flaunt", "greet")),
    "anger": frozenset(("complain", "criticize", "warn")),
    "sadness": frozenset(("apologise", "apologize")),
}  # fmt: skip


def person_of(image: str) -> str:
    """Return the file-name stem before the number: ``AJ_Cook_0001.jpg`` and ``AJ_Cook_0002.jpg`` are one person."""
    return re.sub(r"[_-]?\d+$", "", Path(image).stem).lower() or Path(image).stem


def split_of(image: str) -> Split:
    """Hold a fifth of all people out."""
    digest = hashlib.sha1(person_of(image).encode(), usedforsecurity=False).hexdigest()
    return "validation" if int(digest, 16) % 5 == 0 else "train"


def photographs(data_root: Path) -> list[tuple[str, str]]:
    """List ``(path under the data root, label)`` of both folders."""
    found = {}
    for folder in (FOLDER, MORE):
        for row in read_table(data_root / folder / "legend.csv", "image", "emotion"):
            found[Path(row["image"]).stem] = (str(folder / "images" / row["image"]), row["emotion"].lower())
    return list(found.values())


def face_samples(data_root: Path) -> list[Sample]:
    """Ask which expression each photograph shows, and why."""
    out: list[Sample] = []
    taken: Counter[str] = Counter()
    for path, label in photographs(data_root):
        name = Path(path).name
        taken[label] += split_of(name) == "train"
        if split_of(name) == "train" and taken[label] > FACES_MOST:
            continue
        source = Source(id=Path(name).stem, corpus="facial_expressions", split=split_of(name), media=path)
        out += map(renamed, recognition(source, label, LABELS))
        out.append(explanation(source, label, {"face": face_sentence(label)}))
    return out


def with_polarity(sample: Sample) -> Sample:
    """Let an explanation close with "a negative feeling: fear" in place of "fear"."""
    labels = sample.labels
    if not isinstance(labels, TextLabels) or labels.conclusion is None:
        return sample
    for noun, _, _ in FEELINGS.values():
        old = f"This points to {noun}."
        if labels.conclusion == old and noun in POLARITY:
            new = f"This points to a {POLARITY[noun]} feeling: {noun.removeprefix('a ')}."
            text = labels.text.replace(old, new)
            return sample.model_copy(update={"labels": labels.model_copy(update={"text": text, "conclusion": new})})
    return sample


def renamed(sample: Sample) -> Sample:
    """Ask two of five training samples with the label names of clips; validation keeps the own."""
    labels = sample.labels
    if sample.split != "train" or not isinstance(labels, ClosedLabels) or pick(f"{sample.id}/names", 5) > 1:
        return sample
    name = family(labels.label)
    if name not in LABEL_SETS["ravdess"]:
        return sample
    return sample.model_copy(update={"labels": ClosedLabels(label=name, candidates=LABEL_SETS["ravdess"])})


def bare_explanations(comments: Iterable[Sample], explained: Collection[str]) -> list[Sample]:
    """Explain comments that no word of feeling explains by polarity and feeling alone, the classes evened out."""
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for sample in comments:
        labels = sample.labels
        if not isinstance(labels, ClosedLabels) or sample.id in explained:
            continue
        taken[sample.split, labels.label] += 1
        if taken[sample.split, labels.label] <= BARE_MOST:
            closing = conclusion(labels.label)
            text = TextLabels(text=closing, parts={}, conclusion=closing)
            out.append(sample.model_copy(update={"task": "eri", "labels": text}))
    return out


def short_lists(sample: Sample) -> list[Sample]:
    """Ask a training intent three times with six to nine of the candidates, and once with all."""
    labels = sample.labels
    if sample.split != "train" or not isinstance(labels, ClosedLabels):
        return [sample]
    out = [sample]
    for turn in range(SHORT_LISTS):
        key = f"{sample.id}/{turn}"
        others = sorted((c for c in labels.candidates if c != labels.label), key=lambda c: pick(f"{key}/{c}", 1 << 30))
        few = ClosedLabels(label=labels.label, candidates=(labels.label, *others[: 5 + pick(key, 4)]))
        out.append(sample.model_copy(update={"id": f"{sample.id}~{turn}", "labels": few}))
    return out


def talk(comments: Iterable[Sample], corpus: str) -> list[Sample]:
    """Reply to comments or to clips that say one, the classes evened out."""
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for sample in comments:
        labels = sample.labels
        if not isinstance(labels, ClosedLabels) or len((sample.subtitle or "").split()) < TALK_WORDS:
            continue
        feeling = family(labels.label)
        taken[sample.split, feeling] += 1
        if taken[sample.split, feeling] <= TALK_MOST:
            tone = TONES["neutral" if feeling == "calm" else feeling]
            reply = reply_to(sample.subtitle or "", tone, sample.id)
            out.append(sample.model_copy(update={"corpus": corpus, "task": "erg", "labels": reply}))
    return out


def said_calmly(comments: Iterable[Sample], clips: Iterable[Sample]) -> list[Sample]:
    """Let a neutral voice and face say a comment of feeling: most people do, and then the words decide."""
    plain: dict[str, list[Sample]] = {}
    for clip in clips:
        labels = clip.labels
        if isinstance(labels, ClosedLabels) and labels.label in ("neutral", "calm") and clip.id.count("+") == 1:
            plain.setdefault(clip.split, []).append(clip)
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for comment in comments:
        labels = comment.labels
        if not isinstance(labels, ClosedLabels) or labels.label == "neutral":
            continue
        feeling = family(labels.label)
        taken[comment.split, feeling] += 1
        if taken[comment.split, feeling] <= CALMLY_MOST and comment.split in plain:
            clip = plain[comment.split][pick(f"{comment.id}/calmly", len(plain[comment.split]))]
            named = ClosedLabels(label=feeling, candidates=LABEL_SETS["ravdess"])
            fields = {"id": f"{clip.id}+{comment.id}", "subtitle": comment.subtitle, "labels": named}
            out.append(clip.model_copy(update=fields))
    return out


def with_one_odd(clips: Iterable[Sample]) -> list[Sample]:
    """Give half of the composed clips that speak another voice and half another face: what two say holds against one.

    A voice or face of people that no training met is misread often; words and the other one must then outweigh it.
    """
    spoken: dict[tuple[str, str], list[Sample]] = {}
    for clip in clips:
        if worded(clip) and isinstance(clip.labels, ClosedLabels):
            spoken.setdefault((clip.split, clip.labels.label), []).append(clip)
    out = []
    for (split, feeling), said in spoken.items():
        others = [c for (s, f), found in spoken.items() if (s, family(f)) != (split, family(feeling)) and s == split
                  for c in found]  # fmt: skip
        for clip in sorted(said, key=lambda c: pick(f"{c.id}/odd", 1 << 30))[:ODD_MOST]:
            other = others[pick(f"{clip.id}/odd one", len(others))]
            odd = "audio" if pick(f"{clip.id}/which", 2) else "media"
            out.append(clip.model_copy(update={"id": f"{clip.id}~{odd}", odd: getattr(other, odd)}))
    return out


def dialogue_lines(intents: Iterable[Sample]) -> list[Sample]:
    """Take the feeling that an intent mostly comes with as a weak label of the line: comments know no small talk.

    GoEmotions counts curiosity as surprise, so that every question of a dialogue surprised the model.
    """
    out = []
    for sample in intents:
        labels = sample.labels
        if not isinstance(labels, ClosedLabels) or "~" in sample.id:
            continue
        feeling = next((f for f, found in INTENT_FEELINGS.items() if labels.label.lower() in found), None)
        if feeling is not None:
            weak = ClosedLabels(label=feeling, candidates=LABEL_SETS["meld"])
            out.append(renamed(sample.model_copy(update={"corpus": "lines", "task": "mer", "labels": weak})))
    return out


def worded(sample: Sample) -> bool:
    """Say whether a composed clip speaks a comment: RAVDESS' own two sentences ask for no reply."""
    return sample.task == "mer" and sample.id.count("+") > 1


def same_side(sample: Sample) -> bool:
    """Keep a composed clip only where its photograph lies on the same side as the rest of it."""
    return sample.media is None or FOLDER.name not in sample.media or split_of(Path(sample.media).name) == sample.split


def main() -> None:
    """Write the manifests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("annotations", "corpora", "media", "predictions"):
        link = args.out / name
        if not link.exists():
            link.symlink_to((args.data_root / name).resolve())
    read = read_corpora(args.data_root, CORPORA)
    # ESConv's dialogues are long, and its replies know one mood: composed clips get replies of our own below.
    read["composed"] = [s for s in read["composed"] if same_side(s) and s.task != "erg"]
    read["facial_expressions"] = face_samples(args.data_root)
    comments = [s for s in read["goemotions"] if s.task == "mer"]
    read["goemotions"] += bare_explanations(comments, {s.id for s in read["goemotions"] if s.task == "eri"})
    read["goemotions"] = [renamed(s) for s in read["goemotions"]]
    for name in ("mintrec", "mintrec2"):
        read[name] = [asked for s in read[name] for asked in short_lists(s)]
    read["lines"] = dialogue_lines([*read["mintrec"], *read["mintrec2"]])
    read["talk"] = talk(comments, "talk")
    read["composed"] += said_calmly(comments, read["composed"])
    read["composed"] += talk(filter(worded, read["composed"]), "composed")
    read["composed"] += with_one_odd(read["composed"])
    for name, samples in read.items():
        write_manifest(map(with_polarity, samples), args.out / "manifests" / f"{name}.jsonl")
        print(name, dict(Counter(f"{s.split}/{s.task}" for s in samples)), flush=True)


if __name__ == "__main__":
    main()
