from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nanoemox.data.features.shards import Shards, checksum
from nanoemox.types import CheckpointError


def entry(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 8, generator=generator).half() for name in ("vision_last", "speech_last")}


def written(folder: Path) -> Path:
    shards = Shards(folder)
    assert shards.write({f"{i:064d}": entry(i) for i in range(3)}) == 3 * 2 * 32 * 2
    return next(folder.glob("*.safetensors"))


def test_shard_round_trip(tmp_path: Path) -> None:
    written(tmp_path)
    shards = Shards(tmp_path)
    assert len(shards) == 3
    assert "x" not in shards
    for i in range(3):
        read = shards.read(f"{i:064d}")
        assert set(read) == set(entry(i))
        assert all(torch.equal(read[name], value) for name, value in entry(i).items())
    assert shards.write({}) == 0


@pytest.mark.parametrize("keep", [0, 4, 300, -1])
def test_truncated_shard_is_named(tmp_path: Path, keep: int) -> None:
    shard = written(tmp_path)
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=rf"{shard.name} is damaged .*: delete this file"):
        Shards(tmp_path)


def test_corruption_is_detected_on_read(tmp_path: Path) -> None:
    shard = written(tmp_path)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # of the last entry
    shard.write_bytes(content)
    shards = Shards(tmp_path)
    good = []
    for i in range(3):
        with suppress(CheckpointError):
            good.append(shards.read(f"{i:064d}"))
    assert len(good) == 2
    with pytest.raises(CheckpointError, match=r"checksum of 0.* differs\): delete this file"):
        [shards.read(f"{i:064d}") for i in range(3)]


def test_shards_without_checksums_are_read(tmp_path: Path) -> None:
    save_file({"a/vision_last": torch.ones(2)}, tmp_path / "old.safetensors")
    assert torch.equal(Shards(tmp_path).read("a")["vision_last"], torch.ones(2))


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    name = f".{'0' * 16}"
    dead, alive, elsewhere = (
        tmp_path / f"{name}.{pid}@{host}.partial"
        for pid, host in ((2**22 + 1, platform.node()), (os.getpid(), platform.node()), (2**22 + 1, "elsewhere"))
    )
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"half")
    Shards(tmp_path)
    assert not dead.exists() or os.name != "posix"
    assert alive.exists()
    assert elsewhere.exists()


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    shard = written(folder)
    content = shard.read_bytes()
    for place in range(len(content)):
        for bit in (0, 4):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            shard.write_bytes(flipped)
            with suppress(CheckpointError):
                shards = Shards(folder)
                for i in range(3):
                    read = shards.read(f"{i:064d}")
                    same = {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in read.items()}
                    assert same == {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in entry(i).items()}, place


def test_shards_of_earlier_versions_are_read_and_checked(tmp_path: Path) -> None:
    keys = [f"{i:064d}" for i in range(3)]
    tensors = {f"{key}/{name}": t for i, key in enumerate(keys) for name, t in entry(i).items()}
    old = {key: checksum(entry(i), described=False) for i, key in enumerate(keys)}
    name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
    save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"crc32": json.dumps(old)})
    assert torch.equal(Shards(tmp_path).read(keys[0])["vision_last"], entry(0)["vision_last"])
    test_corruption_is_detected_on_read(tmp_path)


def test_shards_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    shard = written(tmp_path / "cache")
    assert shard.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert [p.name for p in shard.parent.iterdir()] == [shard.name]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".{'0' * 16}.{2**22 + 1}@{platform.node()}.partial"
    left.mkdir()
    (left / ".tmpXyz").write_bytes(b"half")  # the library writes under names of its own
    Shards(tmp_path)
    assert not left.exists() or os.name != "posix"
