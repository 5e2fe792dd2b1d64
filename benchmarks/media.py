"""Time and peak memory of reading 8 frames and the audio of a long 1080p clip, compared with decoding every frame.

Run: ``python benchmarks/media.py [--seconds 120] [--gop 50] [--preset veryfast] [--memory-seconds 600] [--json FILE]``.
The clips are made here with PyAV (moving blocks, h264, 25 fps, B-frames) in a temporary folder. ``--preset`` is x264's:
``ultrafast`` has no CABAC and deblocking, so its frames are the fastest to decode and the audio weighs most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from nanoemox.media.load import load_clip

# Linux: VmHWM and not ru_maxrss, which a child inherits from the process that started it.
CHILD = """
import resource, sys
from nanoemox.media.load import load_clip
clip = load_clip(sys.argv[1])
assert "torch" not in sys.modules and clip.frames.shape[0] == 8 and clip.waveform.size
if sys.platform == "linux":
    print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def make(path: Path, seconds: int, gop: int, preset: str) -> None:
    """Write a 1920x1080 clip with a tone and a key frame every ``gop`` frames."""
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 255, (34, 61, 3), np.uint8), np.ones((32, 32, 1), np.uint8))
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": preset, "bf": "2", "crf": "28"})
        video.width, video.height, video.pix_fmt, video.gop_size = 1920, 1080, "yuv420p", gop
        sound = out.add_stream("aac", rate=48_000, layout="stereo")
        still = [
            av.VideoFrame.from_ndarray(
                np.ascontiguousarray(base[s : s + 1080, 2 * s : 2 * s + 1920]), format="rgb24"
            ).reformat(format="yuv420p")
            for s in range(8)
        ]
        tone = np.tile(np.sin(np.arange(48_000) / 20).astype(np.float32) * 0.3, (2, 1))
        for i in range(seconds * 25):
            frame = still[i % 8]
            frame.pts = i
            out.mux(video.encode(frame))
            if i % 25 == 0:
                piece = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
                piece.sample_rate, piece.pts = 48_000, i // 25 * 48_000
                out.mux(sound.encode(piece))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


def decode_everything(path: Path) -> int:
    """Decode every frame to RGB, one at a time, keeping none, like a reader without seeking."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(frame.to_ndarray(format="rgb24").shape[0] > 0 for frame in container.decode(video=0))


def decode_only(path: Path) -> int:
    """Decode every frame without converting it."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def timed(function: object, path: Path) -> float:
    start = time.perf_counter()
    function(path)  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--gop", type=int, default=50, help="frames between key pictures")
    parser.add_argument("--preset", default="veryfast", help="of x264")
    parser.add_argument("--memory-seconds", type=int, default=600, help="0 leaves the memory measurement out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make(clip, args.seconds, args.gop, args.preset)
        load = min(timed(load_clip, clip) for _ in range(3))
        result = {
            "seconds": args.seconds,
            "gop": args.gop,
            "preset": args.preset,
            "load_clip_s": load,
            "decode_only_s": min(timed(decode_only, clip) for _ in range(3)),
            "decode_to_rgb_s": timed(decode_everything, clip),
        }
        result["speedup_over_decode_only"] = result["decode_only_s"] / load
        result["speedup_over_decode_to_rgb"] = result["decode_to_rgb_s"] / load
        if args.memory_seconds:
            long = Path(folder) / "long.mp4"
            make(long, args.memory_seconds, args.gop, args.preset)
            done = subprocess.run([sys.executable, "-c", CHILD, str(long)], capture_output=True, text=True, check=True)
            result |= {"memory_seconds": args.memory_seconds, "peak_memory_mb": float(done.stdout)}
    for key, value in result.items():
        print(f"{key:28} {value:>10}" if isinstance(value, str) else f"{key:28} {value:10.2f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
