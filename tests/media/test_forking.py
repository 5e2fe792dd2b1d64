"""Fork servers: as isolated as new processes, without state between files."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nanoemox.media.decode import MediaOptions
from nanoemox.media.forking import ForkServers, launcher
from nanoemox.media.isolated import run_once
from nanoemox.media.load import load_clip
from nanoemox.types import Clip, MediaError

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture
def forkers() -> Iterator[ForkServers]:
    forkers = ForkServers()
    yield forkers
    forkers.close()


def same(one: Clip, two: Clip) -> bool:
    arrays = ("frames", "frame_times_s", "waveform")
    return all(np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays) and one.duration_s == two.duration_s


def test_fork_server_gives_the_same_clip_as_a_new_process(
    forkers: ForkServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wanted = load_clip(SAMPLE.read_bytes(), isolated=run_once)
    for _ in range(3):
        assert same(load_clip(SAMPLE.read_bytes(), isolated=forkers), wanted)
    assert len(forkers.idle) == 1
    assert list(tmp_path.iterdir()) == []


def test_concurrent_files_use_several_servers(forkers: ForkServers) -> None:
    wanted = load_clip(SAMPLE)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: load_clip(SAMPLE, isolated=forkers), range(6)))
    assert all(same(clip, wanted) for clip in found)
    assert 1 <= len(forkers.idle) <= 3


def test_hostile_file_kills_only_its_child(forkers: ForkServers, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 100)
    load_clip(SAMPLE, isolated=forkers)
    (before,) = forkers.idle
    with pytest.raises(MediaError, match=r"longer than 0\.001 s"):
        load_clip(SAMPLE, isolated=forkers, options=MediaOptions(time_limit_s=0.001))
    with pytest.raises(MediaError, match=r"memory_limit_mb=8|Cannot allocate memory"):
        load_clip(SAMPLE, isolated=forkers, options=MediaOptions(memory_limit_mb=8))
    with pytest.raises(MediaError, match=r"^bad.mp4: cannot be read"):
        load_clip(bad, isolated=forkers)
    # Had a limit been set in the process that forks, this would fail.
    assert load_clip(SAMPLE, isolated=forkers).frames is not None
    assert forkers.idle == [before]


def test_killed_fork_server_is_replaced(forkers: ForkServers) -> None:
    load_clip(SAMPLE, isolated=forkers)
    (before,) = forkers.idle
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert load_clip(SAMPLE, isolated=forkers).frames is not None
    assert before not in forkers.idle


def test_crash_during_decoding_gives_a_message(forkers: ForkServers) -> None:
    load_clip(SAMPLE, isolated=forkers)
    (before,) = forkers.idle
    with ThreadPoolExecutor(1) as pool:
        os.kill(before, signal.SIGSTOP)
        found = pool.submit(load_clip, SAMPLE, isolated=forkers)
        while forkers.idle:
            time.sleep(0.01)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(MediaError, match="decoding ended abnormally"):
            found.result(60)
    assert load_clip(SAMPLE, isolated=forkers).frames is not None


def test_close_ends_all_processes() -> None:
    forkers = launcher()
    assert isinstance(forkers, ForkServers)
    load_clip(SAMPLE, isolated=forkers)
    (process,) = forkers.idle
    forkers.close()
    assert not Path(f"/proc/{process}").exists()
    load_clip(SAMPLE, isolated=forkers)  # what is still at work when it closes
    assert forkers.idle == []
