from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanoemox.data.features import fill
from nanoemox.data.features.cache import CacheOptions, FeatureCache, entry_bytes, fingerprint
from nanoemox.data.features.command import FeatureRequest, format_features, make_features
from nanoemox.data.features.fill import Filling
from nanoemox.data.manifest import Sample
from nanoemox.faces.tracks import with_face
from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from nanoemox.types import MediaError, RecipeError
from nanoemox.weights.presets import load_preset, model_config
from tests.media.test_media import make_video
from tests.tiny import save_tiny, tiny_config, tiny_model, tiny_processor
from tests.training.toy import toy_root, toy_samples, write_wav


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_root(tmp_path_factory.mktemp("toy"), 4)


def build(
    root: Path, folder: Path, dtype: torch.dtype = torch.float32, samples: list[Sample] | None = None, **more: Any
) -> FeatureCache:
    options = CacheOptions(root=root, dtype=dtype, batch_size=2, shard_size=4, **more)
    return FeatureCache.open_or_build(samples or toy_samples(4), tiny_model(), tiny_processor(), folder, options)


def test_cached_training_equals_uncached(root: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from nanoemox.model.processing import Ask

    cache = build(root, tmp_path)
    model, processor = tiny_model(), tiny_processor()
    samples = [s for s in toy_samples(4) if s.task == "mer"]
    clips = []
    for s in samples:
        picture = with_face(load_clip(root / s.media, num_frames=4))
        clips.append(replace(picture, waveform=load_clip(root / s.audio).waveform, subtitle=s.subtitle))
    asks = [Ask("mer", s.labels.candidates, answer=s.labels.label) for s in samples]
    cached = model(**processor(clips, asks, media=[cache.media(s) for s in samples]))
    raw = model(**processor(clips, asks))
    torch.testing.assert_close(cached.logits, raw.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(cached.loss, raw.loss, rtol=0, atol=1e-6)


def test_half_precision_features_are_close(root: Path, tmp_path: Path) -> None:
    exact, half = build(root, tmp_path), build(root, tmp_path, torch.float16)
    assert exact.folder != half.folder
    sample = toy_samples(4)[0]
    for key, value in exact.media(sample).items():
        assert half.media(sample)[key].dtype == torch.float16
        torch.testing.assert_close(half.media(sample)[key].float(), value, rtol=2e-3, atol=2e-3)


def test_filled_cache_encodes_nothing_and_killed_fill_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    real = fill.encode_clips
    monkeypatch.setattr(fill, "encode_clips", lambda items, *rest: encoded.append(len(items)) or real(items, *rest))
    first = build(root, tmp_path)
    assert sum(encoded) == 8
    shards = sorted(first.folder.glob("*.safetensors"))
    shards[0].unlink()
    (first.folder / ".left-by-a-kill.partial").write_bytes(b"half")
    encoded.clear()
    again = build(root, tmp_path)
    assert sum(encoded) == 4
    sample = toy_samples(4)[0]
    assert all(torch.equal(again.media(sample)[k], v) for k, v in first.media(sample).items())
    encoded.clear()
    build(root, tmp_path)
    assert not encoded


def test_concurrent_fills_share_a_cache(root: Path, tmp_path: Path) -> None:
    beside: list[FeatureCache] = []

    def meanwhile(_: Filling) -> None:
        if not beside:
            beside.append(build(root, tmp_path / "c"))

    first = build(root, tmp_path / "c", progress=meanwhile)
    again, whole = build(root, tmp_path / "c"), build(root, tmp_path / "whole")
    assert again.filling == Filling(files=8, present=8)
    for sample in toy_samples(4):
        for cache in (first, *beside, again):
            torch.testing.assert_close(cache.media(sample), whole.media(sample), rtol=0, atol=1e-5)


def test_bad_files_are_listed_and_not_replaced(root: Path, tmp_path: Path) -> None:
    (root / "bad.png").write_bytes(b"no picture")
    good = toy_samples(4)[0]
    bad = good.model_copy(update={"id": "bad", "media": "bad.png"})
    gone = good.model_copy(update={"id": "gone", "audio": "gone.wav"})
    cache = build(root, tmp_path, samples=[good, bad, gone])
    assert set(cache.bad) == {"bad.png", "gone.wav"}
    assert [cache.usable(s) for s in (good, bad, gone)] == [True, False, False]
    with pytest.raises(MediaError, match=r"bad\.png"):
        cache.media(bad)


def test_fingerprint_covers_weights_taps_and_precision() -> None:
    model, processor = tiny_model(), tiny_processor()
    base = fingerprint(model, processor, torch.float32)
    assert base == fingerprint(tiny_model(), tiny_processor(), torch.float32)
    assert base != fingerprint(tiny_model(seed=1), processor, torch.float32)
    assert base != fingerprint(model, processor, torch.float16)
    other = tiny_config(vision={"taps": [1, 3, 4]})
    assert base != fingerprint(tiny_model(other), tiny_processor(other), torch.float32)
    authors = tiny_config(vision={"frame_sampling": "reference"})
    assert base != fingerprint(tiny_model(authors), tiny_processor(authors), torch.float32)
    counted = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    normed = tiny_config(face={"kind": "backbone", "encoder": counted | {"layer_type": "basic"}, "image_size": 64})
    assert base != fingerprint(tiny_model(normed), tiny_processor(normed), torch.float32)  # a counter has no dimension


def test_frames_are_sampled_as_the_configuration_says(tmp_path: Path) -> None:
    make_video(tmp_path / "v.mp4", [4 * i for i in range(30)])
    seen = {}
    for sampling in ("middle", "reference"):
        config = tiny_config(vision={"frame_sampling": sampling})
        media = fill.decode(tiny_processor(config), fill.Source(str(tmp_path / "v.mp4")), False)
        assert isinstance(media, dict)
        engine = Engine(tiny_model(config), tiny_processor(config))
        loaded = engine.processor.media(engine.load(tmp_path / "v.mp4"))["pixel_values"].numpy()
        assert np.array_equal(loaded, media["pixel_values"])
        seen[sampling] = loaded
    assert (seen["reference"].mean((1, 2, 3)) < seen["middle"].mean((1, 2, 3))).all()


def test_batch_dependent_features_are_refused(tmp_path: Path) -> None:
    config = tiny_config(speech={"normalise": "batch"})
    with pytest.raises(RecipeError, match="neighbours"):
        FeatureCache.open_or_build([], tiny_model(config), tiny_processor(config), tmp_path)


def test_processes_and_threads_agree(root: Path, tmp_path: Path) -> None:
    threads, processes = build(root, tmp_path / "t"), build(root, tmp_path / "p", workers=1)
    assert sorted(p.name for p in threads.folder.iterdir()) == sorted(p.name for p in processes.folder.iterdir())
    for sample in toy_samples(4):
        one, other = threads.media(sample), processes.media(sample)
        assert set(one) == set(other)
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_known_files_are_not_hashed_again_unless_they_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(root, own)
    build(own, tmp_path / "c")
    hashed: list[str] = []
    real = fill.content_key
    monkeypatch.setattr(fill, "content_key", lambda path: hashed.append(path.name) or real(path))
    assert build(own, tmp_path / "c").filling == Filling(files=8, present=8)
    assert not hashed
    write_wav(own / "v0.wav", 777)
    os.utime(own / "v0.wav", ns=(1, 1))
    again = build(own, tmp_path / "c")
    assert hashed == ["v0.wav"]
    assert (again.filling.present, again.filling.encoded) == (7, 1)


def test_copies_are_encoded_once(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(root, own)
    (own / "bad.png").write_bytes(b"no picture")
    for name in ("p0.png", "bad.png"):
        shutil.copy(own / name, own / f"copy-{name}")
    good = toy_samples(4)[0]
    names = ("p0.png", "copy-p0.png", "bad.png", "copy-bad.png")
    samples = [good.model_copy(update={"id": name, "media": name}) for name in names]
    cache = build(own, tmp_path / "c", samples=samples)
    assert (cache.filling.encoded, cache.filling.bad) == (2, 1)
    assert [cache.usable(s) for s in samples] == [True, True, False, False]
    assert json.loads((cache.folder / "bad.json").read_text()) == cache.bad


def test_non_finite_features_are_bad_files(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fill.encode_clips

    def overflowing(*arguments: Any) -> dict[str, dict[str, torch.Tensor]]:
        return {k: {n: t * torch.inf for n, t in parts.items()} for k, parts in real(*arguments).items()}

    monkeypatch.setattr(fill, "encode_clips", overflowing)
    cache = build(root, tmp_path)
    assert len(cache.bad) == 8
    assert "float32" in cache.bad["p0.png"]
    assert len(cache.shards) == 0


def test_size_of_a_clip(root: Path, tmp_path: Path) -> None:
    config = model_config(load_preset("nanoemox"))
    assert entry_bytes(config, torch.float16) == 132 * 1024
    assert entry_bytes(tiny_config(face={"fuse_size": 16}), torch.float32) == 4 * (4 * 4 * 32 + 4 * 4 * 32 + 4 * 16)
    cache = build(root, tmp_path)
    pictures_and_voices = entry_bytes(tiny_config(), torch.float32) - 4 * 4 * 32  # noise has no face
    assert cache.filling.num_bytes == 4 * pictures_and_voices
    assert cache.filling.bytes_per_clip == pictures_and_voices // 2


def test_fill_reports_its_bottleneck() -> None:
    filling = Filling(missing=10, encoded=3, bad=1, decode_wait_s=3.0, encode_s=0.5, write_s=0.5)
    assert (filling.clips_per_s, filling.eta_s, filling.bound) == (1.0, 6.0, "decode")
    assert Filling(encode_s=1.0).bound == "encode"
    assert Filling().eta_s is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


def test_command_fills_what_training_reads(root: Path, model: str, tmp_path: Path) -> None:
    manifest = root / "manifests" / "composed.jsonl"
    request = FeatureRequest(model, tmp_path, root, workers=0, dtype="float32", show=False)
    told = make_features([manifest, manifest], request)
    assert told is not None
    assert (told["files"], told["encoded"], told["bad"]) == (8, 8, {})
    assert "8 encoded" in format_features(told)
    assert "bound by" in format_features(told)
    cache = build(root, tmp_path)
    assert cache.filling == Filling(files=8, present=8)
    told = make_features([manifest], FeatureRequest(model, tmp_path, tmp_path, workers=0, show=False))
    assert told is not None
    assert len(told["bad"]) == 8
    assert "8 file(s) cannot be used" in format_features(told)
