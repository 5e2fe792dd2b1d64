from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanoemox.data.features import CacheOptions, FeatureCache, fingerprint
from nanoemox.data.manifest import Sample
from nanoemox.faces import with_face
from nanoemox.media import load_clip
from nanoemox.types import MediaError, RecipeError
from tests.tiny import tiny_config, tiny_model, tiny_processor
from tests.training.toy import toy_root, toy_samples


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_root(tmp_path_factory.mktemp("toy"), 4)


def build(root: Path, folder: Path, dtype: torch.dtype = torch.float32, samples: list[Sample] | None = None):
    options = CacheOptions(root=root, dtype=dtype, batch_size=2, shard_size=4)
    return FeatureCache.open_or_build(samples or toy_samples(4), tiny_model(), tiny_processor(), folder, options)


def test_cached_training_equals_uncached(root: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from nanoemox.processing import Ask

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


def test_half_precision_is_near(root: Path, tmp_path: Path) -> None:
    exact, half = build(root, tmp_path), build(root, tmp_path, torch.float16)
    assert exact.folder != half.folder
    sample = toy_samples(4)[0]
    for key, value in exact.media(sample).items():
        assert half.media(sample)[key].dtype == torch.float16
        torch.testing.assert_close(half.media(sample)[key].float(), value, rtol=2e-3, atol=2e-3)


def test_a_second_run_encodes_nothing_and_a_killed_one_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanoemox.data import fill

    encoded: list[int] = []
    real = fill._encode
    monkeypatch.setattr(fill, "_encode", lambda items, *rest: encoded.append(len(items)) or real(items, *rest))
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


def test_the_fingerprint_sees_weights_taps_and_precision() -> None:
    model, processor = tiny_model(), tiny_processor()
    base = fingerprint(model, processor, torch.float32)
    assert base == fingerprint(tiny_model(), tiny_processor(), torch.float32)
    assert base != fingerprint(tiny_model(seed=1), processor, torch.float32)
    assert base != fingerprint(model, processor, torch.float16)
    other = tiny_config(vision={"taps": [1, 3, 4]})
    assert base != fingerprint(tiny_model(other), tiny_processor(other), torch.float32)


def test_features_that_depend_on_neighbours_are_refused(tmp_path: Path) -> None:
    config = tiny_config(speech={"normalise": "batch"})
    with pytest.raises(RecipeError, match="neighbours"):
        FeatureCache.open_or_build([], tiny_model(config), tiny_processor(config), tmp_path)
