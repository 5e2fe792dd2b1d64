"""Processor time of a live stream by stage, per second of stream, as fast as it can be processed.

    python benchmarks/streams.py [--model DIR] [--seconds 30] [--json FILE]

The stream is that of ``serve.py --live``: the sample clip's audio and two different images per second. A machine can
process as many streams as its number of cores divided by the sum.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from measure import machine, report
from nanoemox.faces.detectors import DetectionCache
from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from nanoemox.serving.measuring import clips_of, measurement_work
from nanoemox.serving.rolling import Due, LiveConfig, Rolling
from serve import CHUNK_S, SAMPLE, pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine, config, cache = Engine.from_pretrained(args.model), LiveConfig(), DetectionCache()
    rolling, asked = Rolling(config, engine.processor.config.vision.num_frames, 2**24), measurement_work(engine, config)
    waveform, shown = load_clip(SAMPLE).waveform, pictures(0)
    assert waveform is not None
    sound, size = (np.clip(waveform, -1, 1) * 32767).astype("<i2"), round(16_000 * CHUNK_S)
    spent: Counter[str] = Counter()

    def timed(stage: str, action: Callable[[], Any]) -> Any:
        begin = time.process_time()
        done = action()
        spent[stage] += time.process_time() - begin
        return done

    readings = 0
    for i in range(round(args.seconds / CHUNK_S)):
        picture = next(shown) if i % 5 == 0 else None
        chunk = np.take(sound, range(i * size, (i + 1) * size), mode="wrap").tobytes()
        events = [] if picture is None else timed("pictures", lambda picture=picture: rolling.see(picture))
        events += timed("sound", lambda chunk=chunk: rolling.hear(chunk))
        for due in (e for e in events if isinstance(e, Due)):
            readings += 1
            clips = timed("faces", lambda due=due: clips_of(engine, due, config, cache))
            timed("model", lambda clips=clips: [asked.alone(clip) for clip in clips])
    found = {stage: round(s / args.seconds, 3) for stage, s in spent.items()}
    found |= {"sum": round(sum(spent.values()) / args.seconds, 3), "readings_per_s": round(readings / args.seconds, 3)}
    report(machine(engine), ["share"], {stage: [share] for stage, share in found.items()}, args.json)


if __name__ == "__main__":
    main()
