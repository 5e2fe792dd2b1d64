"""Full disks and concurrent writers: no partial result is used, and a run resumes to the same result."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.files import FullDiskError, sole_writer
from nanoemox.training.command import run_train
from nanoemox.types import NanoEmoXError, RecipeError
from tests.tiny import tiny_model, tiny_processor
from tests.training.toy import toy_place, toy_samples


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_place(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; ``resize`` changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and os.name == "posix" and os.geteuid() == 0
    if (
        not mounted
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def resize(disk: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)


def train(place: Path, out: Path, *, resume: bool = False) -> dict:
    options = {"resume": resume, "features": place / "features", "show": False}
    return run_train(place / "toy.yaml", place / "data", out, place / "base", **options)


def test_two_runs_in_one_folder_are_refused(place: Path, tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(NanoEmoXError, match="another process is writing here"):
        train(place, tmp_path)


def test_cache_fill_resumes_after_a_full_disk(place: Path, disk: Path, tmp_path: Path) -> None:
    model, processor, samples = tiny_model(), tiny_processor(), toy_samples()
    options = CacheOptions(root=place / "data", batch_size=2, shard_size=2)
    (disk / "others").write_bytes(bytes(40_000))  # leaves room for the index and a shard
    last = disk / "cache"
    with pytest.raises(RecipeError, match="the disk is full: make room"):
        FeatureCache.open_or_build(samples, model, processor, last, options)
    assert not list(disk.rglob("*.partial"))
    resize(disk, 8192)
    resumed = FeatureCache.open_or_build(samples, model, processor, last, options)
    whole = FeatureCache.open_or_build(samples, model, processor, tmp_path / "whole", options)
    assert resumed.keys == whole.keys
    for sample in samples:
        one, two = resumed.media(sample), whole.media(sample)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.slow
def test_run_resumes_after_a_full_disk_to_the_same_result(place: Path, disk: Path, tmp_path: Path) -> None:
    train(place, tmp_path / "whole")
    refused = 0
    for kib in (64, 400, 800, 1600, 16_384):
        resize(disk, kib)
        with suppress(FullDiskError):
            train(place, disk / "run", resume=refused > 0)
            break
        refused += 1
    assert refused >= 3
    for phase in ("first", "second"):
        one, two = (load_file(run / phase / "adapters.safetensors") for run in (tmp_path / "whole", disk / "run"))
        assert all(torch.equal(one[k], two[k]) for k in one)
    one, two = (load_file(run / "model/model.safetensors") for run in (tmp_path / "whole", disk / "run"))
    assert all(torch.equal(one[k], two[k]) for k in one)
