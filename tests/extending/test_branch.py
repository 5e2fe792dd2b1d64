"""A fifth branch, from outside the package: a pulse sensor, beats per minute in a CSV file beside the clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedConfig

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.inference.engine import Engine
from nanoemox.model.adapters import AdapterOutput
from nanoemox.model.branches import BRANCHES, Branch
from nanoemox.model.branches.branch import FrozenEncoder, spread
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.training.command import run_train
from nanoemox.types import Clip, MediaError, Signal
from tests.tiny import save_tiny, tiny_config
from tests.training.toy import write_wav

CANDIDATES = ("calm", "afraid")
NO_PULSE = "no pulse: there is no file of it beside the clip"


class PulseConfig(PreTrainedConfig):
    """Section of the configuration."""

    model_type = "pulse"
    base_config_key = "pulse"

    num_steps: int = 6
    num_queries: int = 2


class PulseEncoder(FrozenEncoder):
    """Beats per minute float[B, T] -> how fast, and how it changes: float[B, T, 2]."""

    def forward(self, beats: Tensor) -> Tensor:
        pace = (beats - 70) / 30
        return torch.stack([pace, torch.diff(pace, dim=1, prepend=pace[:, :1])], dim=-1)


class PulseAdapter(nn.Module):
    """Learned attention over time, a vector per token."""

    def __init__(self, num_queries: int, width: int) -> None:
        super().__init__()
        self.score, self.up = nn.Linear(2, num_queries), nn.Linear(2, width)

    def forward(self, features: Tensor) -> AdapterOutput:
        weights = self.score(features).softmax(dim=1).transpose(1, 2)  # B, Q, T
        return AdapterOutput(weights @ self.up(features), weights.mean(dim=1))


class PulseBranch(Branch):
    """All that the package needs to know."""

    name = "pulse"
    section = PulseConfig
    token_id = 100_000
    raw = "pulse_values"
    features = ("pulse_vectors",)
    cached_by = ("num_steps",)

    def build_encoder(self, config: Any) -> PulseEncoder:
        return PulseEncoder()

    def build_adapter(self, config: Any) -> PulseAdapter:
        return PulseAdapter(config.pulse.num_queries, config.text_config.hidden_size)

    def sidecar(self, paths: Mapping[str, str], config: Any, root: Path) -> str | None:
        file = Path(paths["media"]).with_suffix(".pulse.csv") if "media" in paths else None
        return str(file) if file is not None and (root / file).is_file() else None

    def read(self, clip: Clip, config: Any, *, file: Path | None = None, start_s: float = 0.0, person: int = 0) -> Clip:
        if file is None:
            quiet = "pulse" in clip.signals or NO_PULSE in clip.warnings
            return clip if quiet else replace(clip, warnings=(*clip.warnings, NO_PULSE))
        try:
            rows = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)
        except ValueError as error:
            raise MediaError(f"{clip.name}: {file.name} is no table of times and beats: {error}") from error
        signal = Signal(rows[:, 0] - start_s, rows[:, 1:].astype(np.float32), ("beats_per_minute",))
        return replace(clip, signals={**clip.signals, "pulse": signal})

    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        signal = clip.signals.get("pulse")
        return None if signal is None else torch.from_numpy(spread(signal.values[:, 0], config.pulse.num_steps))

    def numbers_per_clip(self, config: Any) -> int:
        return int(config.pulse.num_steps) * 2


def recording(folder: Path, name: str, beats: list[float] | None) -> str:
    """Write a hum, and beats one second apart beside it."""
    write_wav(folder / f"{name}.wav", 200)
    if beats is not None:
        rows = "".join(f"{t},{b}\n" for t, b in enumerate(beats))
        (folder / f"{name}.pulse.csv").write_text(f"time_s,beats_per_minute\n{rows}")
    return f"{name}.wav"


def sample(folder: Path, i: int, beats: list[float] | None, *, split: str = "train") -> Sample:
    return Sample(
        id=f"c{i}", corpus="watched", split=split, task="mer", media=recording(folder, f"c{i}", beats),
        subtitle="Well.", labels=ClosedLabels(label=CANDIDATES[i % 2], candidates=CANDIDATES),
    )  # fmt: skip


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch) -> Branch:
    branch = PulseBranch()
    monkeypatch.setitem(BRANCHES, "pulse", branch)  # the one line
    return branch


def base_model(folder: Path) -> Path:
    fields = tiny_config().to_dict()
    names = [*fields["branches"], "pulse"]
    config = NanoEmoXConfig.from_dict(fields | {"branches": names, "trained_branches": names, "pulse": {}})
    return save_tiny(folder, config)


RECIPE = {
    "name": "pulse",
    "phases": {
        "only": {
            "trainable": ["pulse_adapter"], "mixture": {"watched/mer": 1}, "lr": 0.05, "steps": 2, "micro_batch": 3,
        }
    },
}  # fmt: skip


@pytest.mark.usefixtures("pulse")
def test_new_branch_is_cached_trained_and_used(tmp_path: Path) -> None:
    data, base, out = tmp_path / "data", base_model(tmp_path / "base"), tmp_path / "out"
    data.mkdir()
    samples = [sample(data, i, [60, 62] if i % 2 == 0 else [130, 150, 160]) for i in range(4)]
    samples += [sample(data, 4, None), sample(data, 5, [150, 140], split="validation")]
    write_manifest(samples, data / "manifests" / "watched.jsonl")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))

    run_train(tmp_path / "recipe.yaml", data, out, base, show=False)
    before = NanoEmoXForConditionalGeneration.from_pretrained(base).state_dict()
    learnt = load_file(out / "only" / "adapters.safetensors")
    assert set(learnt) == {n for n in before if n.startswith("pulse_adapter.")}
    assert all(not torch.equal(tensor, before[name]) for name, tensor in learnt.items()), "no gradient came there"

    model, processor = NanoEmoXForConditionalGeneration.from_pretrained(base), NanoEmoXProcessor.from_pretrained(base)
    cache = FeatureCache.open_or_build(samples, model, processor, out / "features", CacheOptions(root=data))
    assert cache.filling.encoded == 0, "training filled it"
    held = cache.media(samples[1])["pulse_vectors"]
    torch.testing.assert_close(held[:, 0], torch.tensor([60.0, 60, 80, 80, 90, 90]) / 30)
    assert "pulse_vectors" not in cache.media(samples[4])
    assert "speech_last" in cache.media(samples[4])
    recording(data, "c0", [61, 63])
    again = FeatureCache.open_or_build(samples, model, processor, out / "features", CacheOptions(root=data))
    assert again.filling.encoded == 1, "the entry is that of both files"

    engine = Engine.from_pretrained(out / "model", device="cpu")
    assert engine.processor.config.pulse.num_steps == 6
    slow, fast, none = (
        engine.load(data / recording(tmp_path / "data", name, beats), subtitle="Well.")
        for name, beats in (("slow", [55, 55]), ("fast", [150, 165]), ("none", None))
    )
    answers = [engine.answer(clip, ("mer",), CANDIDATES) for clip in (slow, fast, none)]
    assert [a.modalities for a in answers] == [("speech", "pulse", "text")] * 2 + [("speech", "text")]
    assert [NO_PULSE in a.warnings for a in answers] == [False, False, True]
    chances = [math.log(a.tasks["mer"].probabilities["afraid"]) for a in answers]
    assert min(abs(a - b) for a, b in ((chances[0], chances[1]), (chances[1], chances[2]))) > 0.1
    together = list(engine.answer_many([none, fast], ("mer",), CANDIDATES))
    assert [math.log(a.tasks["mer"].probabilities["afraid"]) for a in together] == pytest.approx(
        [chances[2], chances[1]], abs=1e-3
    )
    assert engine.embed(fast).tokens["pulse"].shape == (2, 32)
    assert "pulse" not in engine.embed(none).tokens

    inputs = engine.processor(fast, Ask("erg"))
    assert (inputs["input_ids"] == 100_000).sum() == 2
    assert (engine.processor(none, Ask("erg"))["input_ids"] == 100_000).sum() == 0
    written = engine.model.generate(**inputs, max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert written.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.usefixtures("pulse")
def test_untrained_branch_is_skipped_and_broken_file_is_named(tmp_path: Path) -> None:
    engine = Engine.from_pretrained(base_model(tmp_path / "base"), device="cpu")
    (tmp_path / recording(tmp_path, "bad", None)).with_suffix(".pulse.csv").write_text("time_s,beats\n0,fast\n")
    with pytest.raises(MediaError, match=r"bad\.wav: bad\.pulse\.csv is no table"):
        engine.answer(tmp_path / "bad.wav", ("msa",))
    engine.processor.config.trained_branches = ["speech"]
    assert "pulse" not in engine.answer(tmp_path / "bad.wav", ("msa",)).modalities


def test_unregistered_branch_gives_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(BRANCHES, "pulse", PulseBranch())
        folder = base_model(tmp_path / "base")
    with pytest.raises(ValueError, match=r"branches: pulse is none of vision, speech, face, physiology, fusion"):
        NanoEmoXConfig.from_pretrained(folder)
