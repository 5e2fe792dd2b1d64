"""Latency of a voice agent's measurement after the end of an utterance, and of a reply by ``nanoemox``.

    python benchmarks/turns.py [--model DIR] [--turns 10] [--pictures] [--json FILE]

The sample clip's voice is played in real time in chunks of 20 ms, then silence. All times start at the end of speech,
so they include the pause that ends an utterance (``min_silence_s``). The agent requests the measurement when the pause
is detected, as if its transcript arrived then. Processor time does not depend on other processes: added to the pause,
it gives the latency on an idle core.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from measure import machine, report
from nanoemox.faces.detectors import DetectionCache
from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from nanoemox.serving.measuring import clips_of, measurement_work, reply_work
from nanoemox.serving.plugins.speaker import DEFAULTS, Speaker
from nanoemox.serving.rolling import Due, Rolling, Speech

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
CHUNK_S, RATE_HZ, LONG_S = 0.02, 16_000, 120.0
PICTURE_EVERY = 25  # chunks
Frames = npt.NDArray[np.uint8] | None


def utterance() -> tuple[npt.NDArray[np.int16], float]:
    """Return the sample's voice between silences, and the detected end of speech in seconds."""
    voice = load_clip(SAMPLE).waveform
    assert voice is not None
    rest = np.zeros(RATE_HZ, np.float32)
    sound = (np.clip(np.concatenate([rest, voice, rest]), -1, 1) * 32767).astype("<i2")
    rolling = Rolling(DEFAULTS, 8, 2**24)
    said = [e for at in range(0, len(sound), 320) for e in rolling.hear(sound[at : at + 320].tobytes())]
    return sound, max(e.at_s for e in said if isinstance(e, Speech) and e.kind == "end")


async def turn(
    engine: Engine, sound: npt.NDArray[np.int16], end_s: float, frames: npt.NDArray[np.uint8] | None
) -> float:
    """Play one turn to a new speaker; return the seconds from the end of speech to its measurement."""
    speaker = Speaker(engine)
    begin, size = time.perf_counter(), round(CHUNK_S * RATE_HZ)
    noticed = end_s + DEFAULTS.min_silence_s
    for i in range(round(noticed / CHUNK_S) + 2):
        await asyncio.sleep(max(0.0, begin + i * CHUNK_S - time.perf_counter()))
        if frames is not None and i % PICTURE_EVERY == 0:
            speaker.show(frames[i // PICTURE_EVERY % len(frames)])
        speaker.hear(sound[i * size : (i + 1) * size].tobytes())
    context = await speaker.turn(LONG_S)
    took = time.perf_counter() - begin - end_s
    await speaker.aclose()
    assert context.trigger == "speech_ended", context
    return took


def processor_s(engine: Engine, sound: npt.NDArray[np.int16], frames: Frames) -> tuple[float, float]:
    """Return the processor time of an utterance's measurement, with cached faces, and of the reply."""
    rolling = Rolling(DEFAULTS, engine.processor.config.vision.num_frames, 2**24)
    cache, asked = DetectionCache(), measurement_work(engine, DEFAULTS)
    for i, at in enumerate(range(0, len(sound), 320)):
        events = rolling.hear(sound[at : at + 320].tobytes())
        if frames is not None and i % PICTURE_EVERY == 0:
            events += rolling.show(frames[i // PICTURE_EVERY % len(frames)])
        for due in (e for e in events if isinstance(e, Due)):
            begin = time.process_time()
            clips = clips_of(engine, due, DEFAULTS, cache)
            for clip in clips:
                asked.alone(clip)
            if due.trigger == "speech_ended":
                middle = time.process_time()
                reply_work(engine).alone(clips[0])
                return middle - begin, time.process_time() - middle
    raise AssertionError("nobody spoke")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--pictures", action="store_true", help="two pictures a second with the voice")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model)
    sound, end_s = utterance()
    frames = load_clip(SAMPLE, num_frames=16).frames if args.pictures else None
    asyncio.run(turn(engine, sound, end_s, frames))  # warms up
    to_context = [asyncio.run(turn(engine, sound, end_s, frames)) for _ in range(args.turns)]
    spent = [processor_s(engine, sound, frames) for _ in range(args.turns)]
    found = {
        "pause_s": DEFAULTS.min_silence_s,
        "context_median_s": round(statistics.median(to_context), 3),
        "context_max_s": round(max(to_context), 3),
        "context_processor_s": round(statistics.median(reading for reading, _ in spent), 3),
        "reply_processor_s": round(statistics.median(written for _, written in spent), 3),
    }
    report(machine(engine), ["seconds"], {name: [value] for name, value in found.items()}, args.json)


if __name__ == "__main__":
    main()
