"""The samples that `small` learns from, as manifests under a data root of its own.

    python -m tools.small.data --data-root DATA --out ROOT

ROOT holds links to the released folders and ``manifests/*.jsonl``, which the readers of the package prefer to their
own. What differs from them: both folders of photographs are one corpus whose fifth is held out by person; composed
clips keep to that split; every explanation names the polarity of its feeling, so that sentiment can be learnt without
one question about it, and comments without a word of feeling get an explanation that is nothing but that; comments are
also asked with the label names that clips are asked with; intents are also asked with a part of their long lists; and
``talk``, ``situations`` and composed clips get replies of our own (``tools.small.replies``, ``.situations``).
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
from tools.small.replies import paraphrase, reply_to, tone_of, topic_of, wordless_reply
from tools.small.situations import situations

MORE = Path("corpora/facial_expressions_more")
BARE_MOST, SHORT_LISTS, TALK_MOST, FACES_MOST, CALMLY_MOST, ODD_MOST = 3000, 1, 500, 300, 200, 120
PLAIN_MOST, PLAIN_WORDS_MOST, FACE_REPEATS_MOST = 40, 6, 4
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
    """Ask which expression each photograph shows, and why; in training the expressions are evened out."""
    found = [(path, label, split_of(Path(path).name)) for path, label in photographs(data_root)]
    counts = Counter(family(label) for _, label, split in found if split == "train")
    taken: Counter[str] = Counter()
    out: list[Sample] = []
    for path, label, split in found:
        source = Source(id=Path(path).stem, corpus="facial_expressions", split=split, media=path)
        asked = recognition(source, label, LABELS)
        if split == "train":
            taken[family(label)] += 1
            if taken[family(label)] > FACES_MOST:
                continue
            repeats = min(FACE_REPEATS_MOST, max(1, round(FACES_MOST / counts[family(label)])))
            asked += [
                s.model_copy(update={"id": f"{s.id}~{turn}"})
                for s in asked
                if s.task == "mer"
                for turn in range(1, repeats)
            ]
        out += map(with_common_labels, asked)
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


def with_common_labels(sample: Sample) -> Sample:
    """Give two of five training samples the common label names of clips; validation samples keep their own."""
    labels = sample.labels
    if sample.split != "train" or not isinstance(labels, ClosedLabels) or pick(f"{sample.id}/names", 5) > 1:
        return sample
    name = family(labels.label)
    if name not in LABEL_SETS["ravdess"]:
        return sample
    return sample.model_copy(update={"labels": ClosedLabels(label=name, candidates=LABEL_SETS["ravdess"])})


def bare_explanations(comments: Iterable[Sample], explained: Collection[str]) -> list[Sample]:
    """Explain comments without an emotion word by polarity and emotion alone, with balanced classes."""
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for sample in comments:
        labels = sample.labels
        if not isinstance(labels, ClosedLabels) or sample.id in explained:
            continue
        taken[sample.split, labels.label] += 1
        if taken[sample.split, labels.label] <= BARE_MOST:
            out.append(bare_explanation(sample, labels.label))
    return out


def short_candidate_lists(sample: Sample) -> list[Sample]:
    """Return a training intent with all candidates, and copies with six to nine of them."""
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


def chat_samples(comments: Iterable[Sample]) -> list[Sample]:
    """Return replies to comments that can be paraphrased or have a personal topic, and to a few short ones.

    Replies to other comments could only name an emotion, and the model would repeat a few sentences.
    """
    taken: Counter[tuple[str, str, bool]] = Counter()
    out = []
    for sample in comments:
        labels, text = sample.labels, sample.subtitle or ""
        if not isinstance(labels, ClosedLabels):
            continue
        feeling = family(labels.label)
        plain = paraphrase(text) is None and not (topic_of(text) or "").startswith("your ")
        if plain and (len(text.split()) > PLAIN_WORDS_MOST or topic_of(text) is not None):
            continue
        taken[sample.split, feeling, plain] += 1
        if taken[sample.split, feeling, plain] <= (PLAIN_MOST if plain else TALK_MOST):
            reply = reply_to(text, tone_of(feeling), sample.id)
            out.append(sample.model_copy(update={"corpus": "talk", "task": "erg", "labels": reply}))
    return out


def clips_with_situations(clips: Iterable[Sample], told: Iterable[Sample]) -> list[Sample]:
    """Combine composed clips with situations of the same emotion, for recognition and replies."""
    by_feeling: dict[tuple[str, str], list[Sample]] = {}
    said = list(told)
    labelled = {s.id.removesuffix("-mer"): s for s in said if s.task == "mer"}
    for sample in said:
        if sample.task == "erg":
            label = labelled[sample.id.removesuffix("-erg")].labels
            if isinstance(label, ClosedLabels):
                by_feeling.setdefault((sample.split, label.label), []).append(sample)
    out = []
    for clip in filter(speaks_a_comment, clips):
        labels = clip.labels
        found = by_feeling.get((clip.split, family(labels.label))) if isinstance(labels, ClosedLabels) else None
        if found:
            reply = found[pick(f"{clip.id}/situation", len(found))]
            fields = {"id": f"{clip.id.rsplit('+', 1)[0]}+{reply.id}", "subtitle": reply.subtitle}
            out.append(clip.model_copy(update=fields))
            out.append(clip.model_copy(update={**fields, "task": "erg", "labels": reply.labels}))
    return out


def clips_without_words_or_voice(clips: Iterable[Sample]) -> list[Sample]:
    """Remove the voice, or the text, from composed clips with neutral text: face, or face and voice, must decide.

    Without text the reply is based on face and voice.
    """
    out = []
    for clip in clips:
        labels = clip.labels
        if not isinstance(labels, ClosedLabels) or clip.task != "mer" or clip.id.count("+") != 1:
            continue
        out.append(clip.model_copy(update={"id": f"{clip.id}~mute", "audio": None}))
        wordless = clip.model_copy(update={"id": f"{clip.id}~wordless", "subtitle": None})
        reply = wordless_reply(tone_of(family(labels.label)), clip.id)
        out += [wordless, wordless.model_copy(update={"task": "erg", "labels": reply})]
    return out


def comments_with_neutral_clips(comments: Iterable[Sample], clips: Iterable[Sample]) -> list[Sample]:
    """Combine neutral voices and faces with emotional comments: frequent in reality, and the words decide."""
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


def clips_with_a_conflict(clips: Iterable[Sample]) -> list[Sample]:
    """Replace the voice or the face of composed clips by one of another emotion; the label follows the majority.

    Voices and faces of unseen people are often misclassified; the other two modalities must then outweigh them.
    """
    spoken: dict[tuple[str, str], list[Sample]] = {}
    for clip in clips:
        if speaks_a_comment(clip) and isinstance(clip.labels, ClosedLabels):
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
    """Label lines of dialogue weakly with the usual emotion of their intent, since comments contain no small talk.

    GoEmotions counts curiosity as surprise, so that the model answered surprise to every question.
    """
    out = []
    for sample in intents:
        labels = sample.labels
        if not isinstance(labels, ClosedLabels) or "~" in sample.id:
            continue
        feeling = next((f for f, found in INTENT_FEELINGS.items() if labels.label.lower() in found), None)
        if feeling is not None:
            weak = ClosedLabels(label=feeling, candidates=LABEL_SETS["meld"])
            line = sample.model_copy(update={"corpus": "lines", "task": "mer", "labels": weak})
            out += [with_common_labels(line), bare_explanation(line, feeling)]
    return out


def bare_explanation(sample: Sample, label: str) -> Sample:
    """Return an explanation by polarity and emotion alone."""
    closing = conclusion(label)
    text = TextLabels(text=closing, parts={}, conclusion=closing)
    return sample.model_copy(update={"task": "eri", "labels": text})


def speaks_a_comment(sample: Sample) -> bool:
    """Whether the text of a composed clip is a comment and not one of RAVDESS' two sentences."""
    return sample.task == "mer" and sample.id.count("+") > 1


def in_one_split(sample: Sample) -> bool:
    """Whether the photograph of a composed clip is in the same split as the clip."""
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
    read["composed"] = [s for s in read["composed"] if in_one_split(s) and s.task != "erg"]
    read["facial_expressions"] = face_samples(args.data_root)
    comments = [s for s in read["goemotions"] if s.task == "mer"]
    read["goemotions"] += bare_explanations(comments, {s.id for s in read["goemotions"] if s.task == "eri"})
    read["goemotions"] = [with_common_labels(s) for s in read["goemotions"]]
    for name in ("mintrec", "mintrec2"):
        read[name] = [asked for s in read[name] for asked in short_candidate_lists(s)]
    read["lines"] = dialogue_lines([*read["mintrec"], *read["mintrec2"]])
    read["talk"] = chat_samples(comments)
    read["situations"] = list(situations())
    without = clips_without_words_or_voice(read["composed"])
    spoken = clips_with_situations(read["composed"], read["situations"])
    read["composed"] += comments_with_neutral_clips(comments, read["composed"])
    read["composed"] += clips_with_a_conflict(read["composed"])
    read["composed"] += spoken + without
    for name, samples in read.items():
        write_manifest(map(with_polarity, samples), args.out / "manifests" / f"{name}.jsonl")
        print(name, dict(Counter(f"{s.split}/{s.task}" for s in samples)), flush=True)


if __name__ == "__main__":
    main()
