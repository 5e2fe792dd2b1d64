"""Several processes fill one cache: ranks, concurrent launches, killed runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.features.command import FeatureRequest, make_features
from nanoemox.data.features.fill import Filling, Share
from nanoemox.data.manifest import Sample
from tests.data.features.test_features import build
from tests.tiny import save_tiny, tiny_model, tiny_processor
from tests.training.toy import toy_root, toy_samples

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_root(tmp_path_factory.mktemp("toy"), 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


class Launch:
    """Ranks as threads, as ``torchrun`` starts them as processes."""

    def __init__(self, samples: list[Sample], root: Path, folder: Path, world: int = 2) -> None:
        self.samples, self.root, self.folder, self.world = samples, root, folder, world
        self.barrier, self.said = threading.Barrier(world, timeout=60), [[] for _ in range(world)]

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> list[FeatureCache]:
        """Fill; whenever the first rank has to wait for the others, ``meanwhile`` is called, once before they begin."""
        begun = threading.Event()

        def rank(number: int) -> FeatureCache:
            def gather(mine: list[Any]) -> list[Any]:
                if number == 0:
                    meanwhile()
                    begun.set()
                self.said[number] = mine
                self.barrier.wait()
                everything = list(chain.from_iterable(self.said))
                self.barrier.wait()
                return everything

            assert number == 0 or begun.wait(60)
            options = CacheOptions(root=self.root, batch_size=2, shard_size=4, share=Share(number, self.world, gather))
            return FeatureCache.open_or_build(self.samples, tiny_model(), tiny_processor(), self.folder, options)

        with ThreadPoolExecutor(self.world) as threads:
            return list(threads.map(rank, range(self.world)))


def broken(root: Path, name: str) -> Sample:
    (root / name).write_text(f"no picture, but {name}")
    return toy_samples(1)[0].model_copy(update={"id": name, "media": name})


def test_ranks_share_the_work(root: Path, tmp_path: Path) -> None:
    good = toy_samples(4)
    caches = Launch([*good, broken(root, "broken.png")], root, tmp_path).run()
    assert [cache.filling.missing for cache in caches] == [5, 4]
    assert caches[0].bad == caches[1].bad
    assert set(caches[0].bad) == {"broken.png"}
    for sample in good:
        assert all(torch.equal(v, caches[1].media(sample)[k]) for k, v in caches[0].media(sample).items())


def test_two_launches_of_several_ranks_fill_the_same_cache(root: Path, tmp_path: Path) -> None:
    good = toy_samples(4)
    theirs = [Launch([*good[:n], broken(root, f"theirs-{n}.png")], root, tmp_path / "c") for n in (1, 3, 4)]
    beside: list[list[FeatureCache]] = []
    ours = Launch([*good, broken(root, "ours.png")], root, tmp_path / "c")
    filled = ours.run(lambda: beside.append(theirs[len(beside)].run()))
    whole = build(root, tmp_path / "whole")
    assert len(beside) == 3
    for launch, caches in zip([ours, *theirs], [filled, *beside], strict=True):
        *readable, unreadable = launch.samples
        for cache in caches:
            assert set(cache.bad) == {unreadable.media}
            for sample in readable:
                torch.testing.assert_close(cache.media(sample), whole.media(sample), rtol=0, atol=1e-5)


def _command(root: Path, model: str, out: Path, *launch: str, workers: int = 1) -> list[str]:
    options = ["--data-root", root, "--out", out, "--model", model, "--workers", workers, "--batch", 2, "--json"]
    words = [sys.executable, *launch, "-m", "nanoemox", "features", root / "manifests/composed.jsonl", *options]
    return [str(word) for word in words]


@pytest.mark.slow
def test_two_ranks_of_torchrun(root: Path, model: str, tmp_path: Path) -> None:
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        _command(root, model, tmp_path, *launch, workers=0),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert (told["files"], told["ranks"], told["encoded"], told["bad"]) == (8, 2, 4, {})
    assert len(list(Path(told["cache"]).glob("*.safetensors"))) == 2


@pytest.mark.slow
def test_two_launches_of_torchrun_at_once(root: Path, model: str, tmp_path: Path) -> None:
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = _command(root, model, tmp_path, *launch, workers=0)
    launches = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
    for process in launches:
        told = json.loads(process.communicate()[0].strip().splitlines()[-1])
        assert process.returncode == 0
        assert (told["files"], told["contents"], told["bad"]) == (8, 8, {})
    again = make_features([root / "manifests/composed.jsonl"], FeatureRequest(model, tmp_path, root, show=False))
    assert again is not None
    assert (again["present"], again["encoded"]) == (8, 0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_killed_at_random_moments_and_resumed(model: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    toy_root(root, 6)
    out, draw = tmp_path / "cache", random.Random(0)
    kills, shards = 0, 0
    for _ in range(40):
        found = len(list(out.rglob("*.safetensors")))
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("slow_features.py")), str(root), model, str(out)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        ) as process:  # fmt: skip
            # Somewhere after the first shard of this run: before or while the next one is written.
            while process.poll() is None and len(list(out.rglob("*.safetensors"))) <= found:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.15))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
        shards = len(list(out.rglob("*.safetensors")))
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 2
    assert shards >= kills, "every run that was killed had written one"
    seen: list[str] = []
    for shard in out.rglob("*.safetensors"):
        from safetensors import safe_open

        with safe_open(str(shard), framework="pt") as handle:
            seen += {name.partition("/")[0] for name in handle.keys()}  # noqa: SIM118
    assert len(seen) == len(set(seen)) == 12
    whole = FeatureCache.open_or_build(
        toy_samples(6), tiny_model(), tiny_processor(), tmp_path / "whole", CacheOptions(root=root)
    )
    resumed = FeatureCache.open_or_build(toy_samples(6), tiny_model(), tiny_processor(), out, CacheOptions(root=root))
    assert resumed.filling == Filling(files=12, present=12)
    for sample in toy_samples(6):
        torch.testing.assert_close(resumed.media(sample), whole.media(sample), rtol=0, atol=1e-5)
    assert not list(out.rglob("*.partial"))
