"""From a stretch of a live stream to what is sent: faces, readings raw and smoothed, or that there is too little.

Each stretch runs through the model alone, so a reading depends on the stretch and on nothing else that is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nanoemox.faces.detectors import Memory
from nanoemox.faces.tracks import with_face
from nanoemox.inference.batch import untrained_branches
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions, LoadOptions
from nanoemox.serving.pictures import is_jpeg
from nanoemox.serving.rolling import Due, LiveConfig, Rolling, Speech
from nanoemox.serving.work import AnswerWork
from nanoemox.tasks.erg import ERG
from nanoemox.types import Answer, Clip, Reading

MAX_PEOPLE: Final = 4
DIGITS: Final = 6


@dataclass(frozen=True, eq=False)
class LoneWork(AnswerWork):
    """Answers that are never batched with others: equal to itself only."""

    def alone(self, clip: Clip) -> Answer:
        """Answer here and now, or raise what is wrong with the clip."""
        (answer,) = self.run([clip])
        if isinstance(answer, Exception):
            raise answer
        return answer


def measures(engine: Engine, config: LiveConfig) -> LoneWork:
    """What is asked of each stretch."""
    labels = tuple((key, tuple(values)) for key, values in sorted(config.labels.items()))
    return LoneWork(engine, config.tasks, labels)


def reply(engine: Engine) -> LoneWork:
    """What is asked at the end of an utterance."""
    return LoneWork(engine, (ERG.key,), options=AnswerOptions(think=False))


def look(engine: Engine, due: Due, config: LiveConfig, memory: Memory) -> list[Clip]:
    """Find who is there, and at the end of an utterance what was said: one clip for each person, none without evidence.

    Evidence is a voice, a face or words; a scene without any of them is too little. A face must be upright in one of
    the pictures: trying tilted heads and close-ups as well would cost seconds whenever nobody is there.

    Args:
        engine: The engine.
        due: The stretch.
        config: The session's configuration.
        memory: What was seen in earlier stretches of the same stream, whose pictures this one shares.
    """
    model = engine.processor.config
    seeks = due.clip.frames is not None and model.looks_for_faces and "face" not in untrained_branches(model)
    everyone = config.faces == "all"
    clip = with_face(due.clip, memory=memory, hard=False, everyone=everyone) if seeks else due.clip
    clip = engine.complete(clip, options=LoadOptions(hear=config.hear and due.trigger == "speech_ended"))
    clips = [clip]
    if everyone and clip.face is not None:
        others = range(1, min(clip.face.num_tracks, MAX_PEOPLE))
        clips += [with_face(replace(clip, face=None), index, memory=memory, hard=False) for index in others]
    return [c for c in clips if c.waveform is not None or c.face is not None or c.subtitle]


class Smoother:
    """Means of probabilities that forget: what is one half-life old counts half.

    Args:
        half_life_s: 0 for no smoothing.
    """

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self._kept: dict[tuple[int, str], tuple[float, dict[str, float]]] = {}

    def smooth(self, person: int, task: str, at_s: float, shares: dict[str, float]) -> dict[str, float]:
        """Take a reading at a time of the stream and return the mean so far."""
        before = self._kept.get((person, task))
        if before is not None and before[1].keys() == shares.keys() and self.half_life_s:
            old = 0.5 ** (max(0.0, at_s - before[0]) / self.half_life_s)
            shares = {k: old * before[1][k] + (1 - old) * v for k, v in shares.items()}
        self._kept[person, task] = (at_s, shares)
        return shares


def result(due: Due, answers: Sequence[Answer], smoother: Smoother, dropped: int = 0) -> dict[str, Any]:
    """Return the message of one measurement."""
    people = [
        {
            "face_index": index,
            "modalities": list(answer.modalities),
            "tasks": {key: _reading(index, key, r, due, smoother) for key, r in answer.tasks.items()},
        }
        for index, answer in enumerate(answers)
    ]
    out = {
        "type": "measurement.result",
        "trigger": due.trigger,
        "start_s": due.start_s,
        "end_s": due.end_s,
        "state": "measured" if people else "not_enough_evidence",
        "people": people,
        "dropped": dropped,
    }
    heard = next((a.heard for a in answers if a.heard is not None), None)
    return out if heard is None else out | {"heard": heard.to_dict()}


def _reading(person: int, task: str, reading: Reading, due: Due, smoother: Smoother) -> dict[str, Any]:
    raw = dict(reading.probabilities or {})
    # An utterance lies in the past of the readings around it, so it leaves their mean alone.
    mean = smoother.smooth(person, task, due.end_s, raw) if due.trigger == "interval" else raw
    return {
        "label": max(mean, key=mean.__getitem__),
        "raw": {k: round(v, DIGITS) for k, v in raw.items()},
        "smoothed": {k: round(v, DIGITS) for k, v in mean.items()},
    }


def spoken(event: Speech) -> dict[str, Any]:
    """Return the message of a start or an end of speech."""
    return {"type": f"utterance.{event.kind}", "at_s": round(event.at_s, 3)}


def replay(
    engine: Engine, messages: Iterable[bytes], config: LiveConfig, max_pixels: int = 2**24
) -> Iterator[dict[str, Any]]:
    """Yield what a session says to recorded binary messages when it is never short of time, as they are read.

    Args:
        engine: The engine.
        messages: Sound and pictures as they went over the wire.
        config: The session's configuration.
        max_pixels: Largest picture.
    """
    rolling = Rolling(config, engine.processor.config.vision.num_frames, max_pixels)
    smoother, asked, memory = Smoother(config.half_life_s), measures(engine, config), Memory()
    for message in messages:
        for event in rolling.see(message) if is_jpeg(message) else rolling.hear(message):
            if isinstance(event, Speech):
                yield spoken(event)
                continue
            clips = look(engine, event, config, memory)
            yield result(event, [asked.alone(clip) for clip in clips], smoother)
            if config.reply and event.trigger == "speech_ended" and clips:
                yield replied(event, reply(engine).alone(clips[0]))


def replied(due: Due, answer: Answer) -> dict[str, Any]:
    """Return the message of a reply."""
    return {"type": "reply", "start_s": due.start_s, "end_s": due.end_s, "text": answer.tasks[ERG.key].reply}
