"""Decoding in a child process: a hostile file can crash, hang or fill the child, not the caller.

The child gets a request (JSON), decodes one file and writes a JSON line and raw array bytes to a file. Nothing is
pickled: the parent reads arrays of known types and checked sizes. ``python -m nanoemox.media.isolated`` is such a
child, with the request on its standard input; :mod:`nanoemox.media.forking` starts children faster.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nanoemox.media.decode import MediaOptions, Source, decode
from nanoemox.types import Clip, MediaError

_HEADER_MAX_BYTES = 8_000_000
_MAX_FRAMES_BYTES = 4_000_000_000

Launch = Callable[[bytes, float], int]
"""Runs a child for a request (one line of JSON) with a time limit in seconds; returns its exit status.

Raises:
    TimeoutError: It took longer and was killed.
"""


def run_once(request: bytes, time_limit_s: float) -> int:
    """Start a new process for one request."""
    try:
        return subprocess.run(
            [sys.executable, "-P", "-m", "nanoemox.media.isolated"],
            input=request,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=time_limit_s,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error


def decode_isolated(source: Source, name: str, opts: MediaOptions, launch: Launch = run_once) -> Clip:
    """Decode in a child process under ``opts.time_limit_s`` and ``opts.memory_limit_mb``.

    Args:
        source: The file.
        name: Name of the clip.
        opts: Decoding options.
        launch: Starts the child.

    Raises:
        MediaError: The child could not decode the file, exceeded a limit or crashed.
    """
    with tempfile.TemporaryDirectory(prefix="nanoemox-") as folder:
        path, result = _as_path(source, Path(folder) / "source", opts.max_bytes), Path(folder) / "result"
        request = {"path": str(path), "result": str(result), "name": name, "options": asdict(opts)}
        try:
            status = launch(json.dumps(request).encode(), opts.time_limit_s)
        except TimeoutError as error:
            raise MediaError(
                f"{name}: decoding took longer than {opts.time_limit_s:g} s and was stopped: "
                "raise time_limit_s or choose a part with start_s and end_s"
            ) from error
        if status or not result.is_file():
            raise MediaError(
                f"{name}: decoding ended abnormally (status {status}): the file is damaged, "
                f"or needs more than memory_limit_mb={opts.memory_limit_mb}"
            )
        return _read_result(result, name, opts)


def _as_path(source: Source, place: Path, max_bytes: int) -> Path:
    if isinstance(source, str | Path):
        return Path(source).resolve()
    if isinstance(source, bytes):
        place.write_bytes(source)
    else:
        with place.open("wb") as out:
            shutil.copyfileobj(source, out)
            if out.tell() > max_bytes:
                raise MediaError(f"source: {out.tell()} bytes, limit {max_bytes}: raise max_bytes or shorten it")
    return place


def _read_result(result: Path, name: str, opts: MediaOptions) -> Clip:
    try:
        with result.open("rb") as handle:
            head = json.loads(handle.readline(_HEADER_MAX_BYTES))
            if "error" in head:
                raise MediaError(str(head["error"])[:2000])
            shapes = {k: tuple(int(n) for n in v) for k, v in head["shapes"].items()}
            limits = {
                "frames": (np.uint8, 4, _MAX_FRAMES_BYTES),
                "frame_times_s": (np.float64, 1, 8 * opts.num_frames),
                "waveform": (np.float32, 1, int(opts.max_duration_s * 16_000 * 4) + 64_000),
            }
            arrays: dict[str, Any] = {}
            for key, (dtype, dims, most) in limits.items():
                if key in shapes:
                    size = prod(shapes[key]) * np.dtype(dtype).itemsize
                    if len(shapes[key]) != dims or min(shapes[key]) < 0 or size > most:
                        raise ValueError(f"{key}{list(shapes[key])}")
                    arrays[key] = np.frombuffer(handle.read(size), dtype).reshape(shapes[key]).copy()
            return Clip(
                name,
                duration_s=float(head["duration_s"]),
                fps=None if head["fps"] is None else float(head["fps"]),
                subtitle=None if head["subtitle"] is None else str(head["subtitle"]),
                warnings=tuple(str(w)[:2000] for w in head["warnings"]),
                **arrays,
            )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{name}: the decoding process returned no valid result: the file is damaged") from error


def _limit(opts: MediaOptions) -> None:
    """Limit this process if the system can (not on Windows; macOS ignores the memory limit)."""
    try:
        import resource
    except ImportError:
        return
    seconds = int(opts.time_limit_s) + 1
    wanted = {
        resource.RLIMIT_AS: opts.memory_limit_mb * 2**20,
        resource.RLIMIT_CPU: seconds * 4,  # processor time of all decoder threads together
        resource.RLIMIT_FSIZE: _MAX_FRAMES_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        try:
            resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
        except (ValueError, OSError):
            continue


def _write_result(clip: Clip, result: Path) -> None:
    arrays = {"frames": clip.frames, "frame_times_s": clip.frame_times_s, "waveform": clip.waveform}
    present = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    head = {
        "shapes": {k: v.shape for k, v in present.items()},
        "duration_s": clip.duration_s,
        "fps": clip.fps,
        "subtitle": clip.subtitle,
        "warnings": clip.warnings,
    }
    with result.open("wb") as out:
        out.write(json.dumps(head).encode() + b"\n")
        for array in present.values():
            out.write(array.tobytes())


def decode_request(data: bytes) -> None:
    """Process one request; the limits apply to this process from then on."""
    request = json.loads(data)
    opts = MediaOptions(**request["options"])
    _limit(opts)
    result = Path(request["result"])
    try:
        _write_result(decode(request["path"], request["name"], opts), result)
    except MediaError as error:
        result.write_text(json.dumps({"error": str(error)}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    decode_request(sys.stdin.buffer.read())
