"""Measurements of a live stream: from a window to the message with raw and smoothed probabilities.

Windows are never batched with others, so a measurement does not depend on the load of the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nanoemox.faces.detectors import DetectionCache
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
class UnbatchedWork(AnswerWork):
    """Answers that are never batched with others: equal only to itself."""

    def alone(self, clip: Clip) -> Answer:
        """Answer one clip in this thread, or raise its error."""
        (answer,) = self.run([clip])
        if isinstance(answer, Exception):
            raise answer
        return answer


def measurement_work(engine: Engine, config: LiveConfig) -> UnbatchedWork:
    """Return the work for each window: the configured tasks."""
    labels = tuple((key, tuple(values)) for key, values in sorted(config.labels.items()))
    return UnbatchedWork(engine, config.tasks, labels)


def reply_work(engine: Engine) -> UnbatchedWork:
    """Return the work at the end of an utterance: a reply."""
    return UnbatchedWork(engine, (ERG.key,), options=AnswerOptions(think=False))


def clips_of(engine: Engine, due: Due, config: LiveConfig, cache: DetectionCache) -> list[Clip]:
    """Return one clip for each person in a window, with face and words; none without evidence.

    Evidence is a voice, a face or words. A face must be upright in one of the images: searching for tilted heads and
    close-ups too would cost seconds whenever nobody is in view.

    Args:
        engine: The engine.
        due: The window.
        config: The session's configuration.
        cache: Detections in earlier windows of the same stream, which share images with this one.
    """
    model = engine.processor.config
    seeks = due.clip.frames is not None and model.looks_for_faces and "face" not in untrained_branches(model)
    everyone = config.faces == "all"
    clip = with_face(due.clip, cache=cache, thorough=False, everyone=everyone) if seeks else due.clip
    clip = engine.complete(clip, options=LoadOptions(hear=config.hear and due.trigger == "speech_ended"))
    clips = [clip]
    if everyone and clip.face is not None:
        others = range(1, min(clip.face.num_tracks, MAX_PEOPLE))
        clips += [with_face(replace(clip, face=None), index, cache=cache, thorough=False) for index in others]
    return [c for c in clips if c.waveform is not None or c.face is not None or c.subtitle]


class Smoother:
    """Exponential moving averages of probabilities.

    Args:
        half_life_s: Age at which a measurement counts half; 0 for no smoothing.
    """

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self._kept: dict[tuple[int, str], tuple[float, dict[str, float]]] = {}

    def smooth(self, person: int, task: str, at_s: float, shares: dict[str, float]) -> dict[str, float]:
        """Add the probabilities at a time of the stream and return their average so far."""
        before = self._kept.get((person, task))
        if before is not None and before[1].keys() == shares.keys() and self.half_life_s:
            old = 0.5 ** (max(0.0, at_s - before[0]) / self.half_life_s)
            shares = {k: old * before[1][k] + (1 - old) * v for k, v in shares.items()}
        self._kept[person, task] = (at_s, shares)
        return shares


def result_message(due: Due, answers: Sequence[Answer], smoother: Smoother, dropped: int = 0) -> dict[str, Any]:
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
    # An utterance overlaps the windows around it, so it does not enter their average.
    mean = smoother.smooth(person, task, due.end_s, raw) if due.trigger == "interval" else raw
    return {
        "label": max(mean, key=mean.__getitem__),
        "raw": {k: round(v, DIGITS) for k, v in raw.items()},
        "smoothed": {k: round(v, DIGITS) for k, v in mean.items()},
    }


def speech_message(event: Speech) -> dict[str, Any]:
    """Return the message of a start or an end of speech."""
    return {"type": f"utterance.{event.kind}", "at_s": round(event.at_s, 3)}


def replay(
    engine: Engine, messages: Iterable[bytes], config: LiveConfig, max_pixels: int = 2**24
) -> Iterator[dict[str, Any]]:
    """Yield the messages of a session for recorded input, without dropping any measurement.

    Args:
        engine: The engine.
        messages: Binary messages as on the wire: audio and images.
        config: The session's configuration.
        max_pixels: Largest image.
    """
    rolling = Rolling(config, engine.processor.config.vision.num_frames, max_pixels)
    smoother, work, cache = Smoother(config.half_life_s), measurement_work(engine, config), DetectionCache()
    for event in _events(rolling, messages):
        if isinstance(event, Speech):
            yield speech_message(event)
            continue
        clips = clips_of(engine, event, config, cache)
        yield result_message(event, [work.alone(clip) for clip in clips], smoother)
        if config.reply and event.trigger == "speech_ended" and clips:
            yield reply_message(event, reply_work(engine).alone(clips[0]))


def _events(rolling: Rolling, messages: Iterable[bytes]) -> Iterator[Speech | Due]:
    for message in messages:
        yield from rolling.see(message) if is_jpeg(message) else rolling.hear(message)
    yield from rolling.finish()


def reply_message(due: Due, answer: Answer) -> dict[str, Any]:
    """Return the message of a reply."""
    return {"type": "reply", "start_s": due.start_s, "end_s": due.end_s, "text": answer.tasks[ERG.key].reply}
