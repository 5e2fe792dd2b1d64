"""Composed clips: a RAVDESS voice and a photograph with the same emotion, and dialogues that they speak.

No corpus that we may use has picture and voice of many people, but fusion must meet both at once; and no corpus of
empathetic dialogues has a voice, but a reply must heed how the person sounds. Such a sample is marked ``composed``:
nobody in it exists. Parts stay apart: training voices meet training photographs and training dialogues only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.facial_expressions import photographs, split_of
from nanoemox.data.corpora.ravdess import LABELS
from nanoemox.data.corpora.ravdess import split_of as speaker_split
from nanoemox.data.corpora.releases import family
from nanoemox.data.manifest import COMPOSED, ClosedLabels, ReplyLabels, Sample, TextLabels, explain
from tools.corpora import esconv, facial_expressions, goemotions, ravdess
from tools.corpora.common import Cited, explanation, recognition
from tools.corpora.targets import PLAIN_WORDS, UNNAMED_FEELING, face_sentence, pick, voice_sentence, words_sentence

_SOUNDS = {
    "sad": ("sad", "depressed", "lonely", "ashamed", "overwhelmed"),
    "fearful": ("anxious", "afraid"),
    "angry": ("angry", "disgusted"),
    "happy": ("happy", "hopeful", "grateful"),
}
"""Voice -> feelings of a chain that fit it; the first is what a voice says where the words name no feeling."""


def read(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of one composed clip for each utterance."""
    photos: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for image, label in photographs(data_root / facial_expressions.FOLDER):
        photos.setdefault((split_of(image), family(label)), []).append((image, label))
    heard = ravdess.voices(data_root)
    out: list[Sample] = []
    for row in ravdess.rows(data_root, ravdess.SPEECH):
        actor = int(row["actor"])
        split = speaker_split(actor)
        # A calm face is photographed as a neutral one.
        choice = photos.get((split, "neutral" if row["emotion"] == "calm" else family(row["emotion"])))
        if not choice:
            continue
        voice = Path(row["file"]).stem
        image, look = choice[pick(voice, len(choice))]
        source = Source(
            id=f"{voice}+{Path(image).stem}",
            corpus=COMPOSED,
            split=split,
            media=str(facial_expressions.FOLDER / "images" / image),
            audio=str(ravdess.SPEECH / row["file"]),
            subtitle=row["sentence"] + ".",
            speaker=f"actor-{actor:02d}",
        )
        out += recognition(source, row["emotion"], LABELS, strong=row["intensity"] == "strong")
        words = heard[row["file"]]
        if words is not None:
            parts: dict[Cited, str] = {
                "speech": voice_sentence(words),
                "face": face_sentence(look),
                "text": PLAIN_WORDS,
            }
            out.append(explanation(source, row["emotion"], parts))
    return [*out, *_worded(data_root, out), *_dialogues(data_root, out)]


def _worded(data_root: Path, clips: list[Sample]) -> list[Sample]:
    """Let composed clips say a comment of their own emotion in place of RAVDESS' sentence, which says nothing."""
    comments: dict[tuple[str, str], list[Sample]] = {}
    for comment in goemotions.read(data_root):
        if isinstance(comment.labels, ClosedLabels):
            comments.setdefault((comment.split, family(comment.labels.label)), []).append(comment)
    spoken = {c.id: family(c.labels.label) for c in clips if isinstance(c.labels, ClosedLabels)}
    out: list[Sample] = []
    for clip in clips:
        choice = comments.get((clip.split, spoken[clip.id]))
        if not choice:
            continue
        comment = choice[pick(f"{clip.id}/words", len(choice))]
        labels = clip.labels
        if isinstance(labels, TextLabels):
            said = words_sentence(comment.subtitle or "") or PLAIN_WORDS
            parts = {**labels.parts, "text": said}
            whole = explain({str(m): t for m, t in parts.items()}, labels.conclusion or "")
            labels = TextLabels(text=whole, parts=parts, conclusion=labels.conclusion)
        fields = {"id": f"{clip.id}+{comment.id}", "subtitle": comment.subtitle, "labels": labels}
        out.append(clip.model_copy(update=fields))
    return out


def _dialogues(data_root: Path, clips: list[Sample]) -> list[Sample]:
    """Let composed clips speak the dialogues whose feeling fits; where words name none, the voice decides it."""
    voices: dict[tuple[str, str], list[Sample]] = {}
    for clip in clips:
        if clip.task == "mer":
            voices.setdefault((clip.split, clip.labels.label), []).append(clip)  # type: ignore[union-attr]
    fitting = {feeling: voice for voice, feelings in _SOUNDS.items() for feeling in feelings}
    out: list[Sample] = []
    for said in esconv.read(data_root):
        labels = said.labels
        if not isinstance(labels, ReplyLabels) or labels.think is None:
            continue
        named = labels.think.emotion
        voice = ("sad", "fearful", "angry")[pick(said.id, 3)] if named == UNNAMED_FEELING else fitting.get(named)
        speakers = voices.get((said.split, voice or ""), [])
        if not speakers or voice is None:
            continue
        emotion = _SOUNDS[voice][0] if named == UNNAMED_FEELING else named
        clip = speakers[pick(f"{said.id}/voice", len(speakers))]
        think = replace(labels.think, emotion=emotion)
        heard = {"id": f"{said.id}+{clip.id}", "corpus": COMPOSED, "labels": labels.model_copy(update={"think": think})}
        out.append(said.model_copy(update=heard | {"media": clip.media, "audio": clip.audio, "speaker": clip.speaker}))
    return out
