"""Evaluate a model behind an OpenAI-compatible server: images, audio and text in, text out.

Greedy decoding with a fixed seed (``endpoint``); a served model returns no probabilities. A failed call leaves its clip
unanswered, with the reason.
"""

from __future__ import annotations

import base64
import io
import threading
import time
import wave
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from nanoemox.benchmarks import remote_prompts as prompts
from nanoemox.benchmarks.answerer import Reply, clip_of
from nanoemox.benchmarks.predict import EvalSet
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.remote_examples import ExemplarIndex, draw_examples, example_dialogue
from nanoemox.data.manifest import Sample
from nanoemox.judging.endpoint import CallOptions, Completion, Endpoint, EndpointError
from nanoemox.judging.judge_prompts import THOUGHT_ENDS
from nanoemox.judging.language_models import MAX_TOKENS
from nanoemox.media.load import load_clip
from nanoemox.scoring.corrected.extraction import after_thought
from nanoemox.tasks import ERG, TASKS, parse
from nanoemox.types import SAMPLE_RATE_HZ, Clip, NanoEmoXError

SentPart = Literal["text", "frames", "audio"]
SENT_PARTS: Final[tuple[SentPart, ...]] = get_args(SentPart)
WORDS_ALONE: Final[tuple[SentPart, ...]] = ("text",)
LONGEST_SIDE: Final = 512
"""Pixels; larger images are scaled down."""
JPEG_QUALITY: Final = 90
EXEMPLARS: Final = 3
"""Default number of replies shown in the second of three steps."""
FAILURES_IN_A_ROW: Final = 20
"""Consecutive failures after which the run stops; it can be resumed."""
NEVER_CONNECTED: Final = 3
"""The same, where no call was answered yet and the last one reached no server."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """How a served model is evaluated.

    Attributes:
        modalities: Parts of a clip that are sent.
        frames: Frames per video.
        shots: Examples before the question.
        erg_steps: Request empathetic replies in three steps.
        call: Retry and timeout settings.
    """

    modalities: tuple[SentPart, ...] = SENT_PARTS
    frames: int = 8
    shots: int = 0
    erg_steps: bool = False
    call: CallOptions = field(default_factory=CallOptions)


def parse_modalities(text: str) -> tuple[SentPart, ...]:
    """Read ``text,frames,audio``.

    Raises:
        NanoEmoXError: An unknown part, or none.
    """
    given = {part.strip() for part in text.split(",")}
    if not given <= set(SENT_PARTS):
        raise NanoEmoXError(f"--modalities {text}: give some of {','.join(SENT_PARTS)}")
    return tuple(part for part in SENT_PARTS if part in given)


class RemoteAnswerer:
    """A served model that answers about clips under a data root.

    Args:
        endpoint: The server.
        data_root: Folder that media paths are relative to.
        eval_sets: The evaluation sets; examples come from their corpora.
        options: How it is evaluated.

    Raises:
        NanoEmoXError: There are too few examples.
    """

    def __init__(
        self, endpoint: Endpoint, data_root: Path, eval_sets: Sequence[EvalSet], options: RemoteOptions
    ) -> None:
        self.endpoint, self.data_root, self.options, self.name = endpoint, data_root, options, str(endpoint.address)
        stepwise = {a.benchmark.id: a for a in eval_sets if options.erg_steps and a.benchmark.task == ERG.key}
        self._exemplars = {key: ExemplarIndex(a.benchmark, a.corpus) for key, a in stepwise.items()}
        single = [a for a in eval_sets if a.benchmark.id not in stepwise]
        self._shots = {a.benchmark.id: draw_examples(a.benchmark, a.corpus, options.shots) for a in single}
        self._failures, self._answered, self._lock = 0, False, threading.Lock()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that its answers depend on."""
        options = self.options
        return {
            "model": self.name,
            "prompts": prompts.VERSION,
            "modalities": list(options.modalities),
            "frames": options.frames,
            "shots": options.shots,
            "erg_steps": options.erg_steps,
            "max_tokens": MAX_TOKENS,
            "seed": options.call.seed,
        }

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch of clips concurrently.

        Raises:
            NanoEmoXError: Every call fails.
        """
        with ThreadPoolExecutor(max(1, len(samples))) as threads:
            return list(threads.map(partial(self._answer, benchmark), samples))

    def _answer(self, benchmark: Benchmark, sample: Sample) -> Reply:
        begin = time.perf_counter()
        try:
            clip = self._clip(sample)
        except NanoEmoXError as error:
            return Reply(error=str(error))
        media = media_parts(clip)
        if not (media or clip.subtitle or clip.history):
            sent = ",".join(self.options.modalities)
            return Reply(error=f"{sample.id}: the clip has none of what is sent ({sent})")
        loaded = time.perf_counter()
        steps = self._steps if benchmark.id in self._exemplars else self._once
        messages, answer = steps(benchmark, clip, media)
        timing = {"load": loaded - begin, "call": time.perf_counter() - loaded}
        timing_s = {name: round(seconds, 4) for name, seconds in (timing | {"total": sum(timing.values())}).items()}
        return _read(benchmark, answer, prompts.digest(messages), timing_s)

    def _once(
        self, benchmark: Benchmark, clip: Clip, media: Sequence[prompts.Part]
    ) -> tuple[list[prompts.Message], Completion | EndpointError]:
        """Request the answer in one message, after the examples."""
        shown = example_dialogue(self._shots[benchmark.id], benchmark)
        messages = [prompts.system_message(), *shown, prompts.clip_message(clip, media, prompts.question(benchmark))]
        return messages, self._call(messages)

    def _steps(
        self, benchmark: Benchmark, clip: Clip, media: Sequence[prompts.Part]
    ) -> tuple[list[prompts.Message], Completion | EndpointError]:
        """Request a reply in three steps, after E3RG: read the person, choose a strategy from examples, reply.

        Images and audio are sent in the first step only; the others build on its answer.
        """
        first = prompts.first_step(benchmark)
        messages = [prompts.system_message(), prompts.clip_message(clip, media, first)]
        reading = self._call(messages)
        if isinstance(reading, EndpointError):
            return messages, reading
        exemplars, num = self._exemplars[benchmark.id], self.options.shots or EXEMPLARS
        read = after_thought(reading.text)
        plan = prompts.strategy_step(exemplars.nearest(read, clip, benchmark.labels, num))
        messages = [prompts.system_message(), prompts.clip_message(clip, (), first), *_turns(read, plan)]
        strategy = self._call(messages)
        if isinstance(strategy, EndpointError):
            return messages, strategy
        messages = [
            *messages,
            *_turns(after_thought(strategy.text), prompts.last_step(benchmark)),
        ]
        return messages, self._call(messages)

    def _clip(self, sample: Sample) -> Clip:
        wanted = self.options.modalities
        if "frames" not in wanted and "audio" not in wanted:
            sample = sample.model_copy(update={"media": None, "audio": None})
        clip = clip_of(sample, self.data_root, partial(load_clip, num_frames=self.options.frames))
        return replace(
            clip,
            frames=clip.frames if "frames" in wanted else None,
            waveform=clip.waveform if "audio" in wanted else None,
            subtitle=clip.subtitle if "text" in wanted else None,
            history=clip.history if "text" in wanted else (),
        )

    def _call(self, messages: Sequence[prompts.Message]) -> Completion | EndpointError:
        """Return the answer or the error; too many consecutive failures end the run."""
        try:
            answer = self.endpoint.complete(messages, MAX_TOKENS)
        except EndpointError as error:
            failure = EndpointError(f"{error}{self._remedy(error, messages)}", error.status)
            with self._lock:
                self._failures += 1
                waits = self._answered or not _unreached(error)
                if self._failures >= (FAILURES_IN_A_ROW if waits else NEVER_CONNECTED):
                    raise NanoEmoXError(
                        f"{self._failures} calls failed in a row, the last one: {failure}; "
                        "look at the server and its address, then repeat the command with --again"
                    ) from error
            return failure
        with self._lock:
            self._failures, self._answered = 0, True
        return answer

    def _remedy(self, error: EndpointError, messages: Sequence[prompts.Message]) -> str:
        """Return the remedy if the server may have rejected images or audio; some do so with status 500."""
        refused = error.status in (400, 413, 415, 422) or (error.status or 0) >= 500
        if not refused or not any(isinstance(message["content"], list) for message in messages):
            return ""
        media = " or no ".join(part for part in self.options.modalities if part != "text")
        return f"; if the server takes no {media}, leave them out of --modalities"


def _unreached(error: BaseException | None) -> bool:
    """Whether a call failed before there was a connection."""
    while error is not None:
        if type(error).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError"):  # of httpx, or httpx2
            return True
        error = error.__cause__ or error.__context__
    return False


def media_parts(clip: Clip) -> list[prompts.Part]:
    """Return the frames of a clip, in order, and its audio as message parts."""
    frames: Sequence[npt.NDArray[np.uint8]] = () if clip.frames is None else list(clip.frames)
    parts: list[prompts.Part] = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(to_jpeg(frame))}"}}
        for frame in frames
    ]
    if clip.waveform is not None:
        parts.append({"type": "input_audio", "input_audio": {"data": _base64(to_wav(clip.waveform)), "format": "wav"}})
    return parts


def to_jpeg(frame: npt.NDArray[np.uint8], longest_side: int = LONGEST_SIDE, quality: int = JPEG_QUALITY) -> bytes:
    """Return uint8[H, W, 3] RGB as JPEG, scaled down to the longest side."""
    scale = longest_side / max(frame.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in (frame.shape[1], frame.shape[0])]
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def to_wav(waveform: npt.NDArray[np.float32]) -> bytes:
    """Return float32[S] at 16 kHz as a WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((waveform.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return out.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _turns(answer: str, question: str) -> list[prompts.Message]:
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]


def _read(
    benchmark: Benchmark, answer: Completion | EndpointError, prompt: str, timing_s: Mapping[str, float]
) -> Reply:
    """Parse an answer; a truncated answer to a closed task may be unfinished reasoning and is rejected."""
    if isinstance(answer, EndpointError):
        return Reply(prompt=prompt, error=str(answer), timing_s=timing_s)
    task = benchmark.question
    closed = TASKS[task].closed
    if closed and answer.finish == "length":
        reason = f"the answer was cut at {MAX_TOKENS} tokens; switch the model's thinking off, or shorten it"
        return Reply(answer.text, prompt=prompt, error=reason, timing_s=timing_s)
    text = answer.text
    if benchmark.form == "reply" and text.count(THOUGHT_ENDS) > 1:
        text = text.partition(THOUGHT_ENDS)[2].strip()  # the model's own reasoning before the requested chain
    parsed = parse(task, text, benchmark.labels if closed else None).to_dict()
    return Reply(text, parsed, prompt, timing_s=timing_s)
