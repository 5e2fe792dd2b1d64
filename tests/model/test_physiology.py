"""The physiology branch: cached, trained, used, and absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.inference.engine import Engine
from nanoemox.media.biosignals import FEATURES
from nanoemox.model.branches.physiology import EMPTY, NO_RECORDING, PHYSIOLOGY, body_signal, window_spans
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.training.command import run_train
from nanoemox.types import CheckpointError, Clip, MediaError, RecipeError, Signal
from nanoemox.weights.extend import add_branch
from nanoemox.weights.presets import ModelRecipe, load_preset, model_config
from tests.media.recordings import Columns, ecg, waves, write_csv, write_edf
from tests.tiny import save_tiny
from tests.training.toy import write_wav

CANDIDATES = ("calm", "afraid")
SECTION = {"num_windows": 4, "window_s": 4.0, "num_queries": 2, "projector_size": 32, "dropout": 0.0}
RECIPE = {
    "name": "body",
    "phases": {
        "only": {
            "trainable": ["physiology_adapter"], "mixture": {"watched/mer": 1}, "lr": 0.003, "steps": 2,
            "micro_batch": 3, "modality_dropout": {"speech": 0.3},
        }
    },
}  # fmt: skip


def columns(bpm: float, seconds: float = 12) -> Columns:
    """A heart, a skin and two electrodes."""
    return {
        "ECG": ("uV", ecg(seconds, bpm, 128)),
        "EDA": ("uS", np.full(int(seconds * 128), 4.0)),
        "EEG F3": ("uV", waves(seconds, 128, f10=10.0)),
        "EEG F4": ("uV", waves(seconds, 128, f10=bpm / 10)),
    }


def clip_file(folder: Path, name: str, bpm: float | None, *, edf: bool = False) -> str:
    """Write a hum, and a recording beside it."""
    write_wav(folder / f"{name}.wav", 200, seconds=12)
    if bpm is not None and edf:
        write_edf(folder / f"{name}.physio.edf", columns(bpm), 128)
    elif bpm is not None:
        write_csv(folder / f"{name}.physio.csv", columns(bpm), 128)
    return f"{name}.wav"


def sample(folder: Path, i: int, bpm: float | None, *, split: str = "train") -> Sample:
    return Sample(
        id=f"c{i}", corpus="watched", split=split, task="mer", media=clip_file(folder, f"c{i}", bpm, edf=i % 2 == 0),
        subtitle="Well.", labels=ClosedLabels(label=CANDIDATES[i % 2], candidates=CANDIDATES),
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without the branch, and beside it the same with it."""
    folder = tmp_path_factory.mktemp("models")
    add_branch(save_tiny(folder / "plain"), "physiology", folder / "wider", SECTION)
    return folder


def engine_of(folder: Path, *, trained: bool = True) -> Engine:
    engine = Engine.from_pretrained(folder, device="cpu")
    if trained and "physiology" in engine.processor.config.branches:
        engine.processor.config.trained_branches = list(engine.processor.config.branches)
    return engine


def test_new_branch_is_cached_trained_and_used(tmp_path: Path, base: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    samples = [sample(data, i, 60 if i % 2 == 0 else 140) for i in range(4)]
    samples += [sample(data, 4, None), sample(data, 5, 150, split="validation")]
    write_manifest(samples, data / "manifests" / "watched.jsonl")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run_train(tmp_path / "recipe.yaml", data, out, base / "wider", show=False)

    before = NanoEmoXForConditionalGeneration.from_pretrained(base / "wider").state_dict()
    learnt = load_file(out / "only" / "adapters.safetensors")
    assert set(learnt) == {n for n in before if n.startswith("physiology_adapter.")}
    assert any(not torch.equal(tensor, before[name]) for name, tensor in learnt.items())

    model = NanoEmoXForConditionalGeneration.from_pretrained(base / "wider")
    processor = NanoEmoXProcessor.from_pretrained(base / "wider")
    cache = FeatureCache.open_or_build(samples, model, processor, out / "features", CacheOptions(root=data))
    assert cache.filling.encoded == 0, "training filled it"
    cached = cache.media(samples[1])["physiology_vectors"]
    assert cached.shape == (4, 2 * len(FEATURES))
    clip = engine_of(base / "wider").load(data / samples[1].media)
    fresh = model.encode({"physiology_values": processor.media(clip)["physiology_values"][None]})["physiology_vectors"]
    torch.testing.assert_close(cached.float(), fresh[0], atol=0.02, rtol=0.01)  # kept in half precision
    assert "physiology_vectors" not in cache.media(samples[4])

    engine = Engine.from_pretrained(out / "model", device="cpu")
    slow, fast, none = (
        engine.load(data / clip_file(data, name, bpm), subtitle="Well.")
        for name, bpm in (("slow", 55.0), ("fast", 165.0), ("none", None))
    )
    answers = [engine.answer(clip, ("mer",), CANDIDATES) for clip in (slow, fast, none)]
    assert ["physiology" in a.modalities for a in answers] == [True, True, False]
    assert [NO_RECORDING in a.warnings for a in answers] == [False, False, True]
    chances = [a.tasks["mer"].probabilities["afraid"] for a in answers]
    slower, faster, absent = np.log(chances)
    assert min(abs(slower - faster), abs(faster - absent)) > 1e-4, "its tokens are read"
    together = list(engine.answer_many([none, fast, slow], ("mer",), CANDIDATES))
    beside = [a.tasks["mer"].probabilities["afraid"] for a in together]
    assert np.log(beside) == pytest.approx([absent, faster, slower], abs=1e-3)
    tokens = [engine.embed(clip).tokens["physiology"] for clip in (slow, fast)]
    assert tokens[0].shape == (2, 32)
    assert np.abs(np.asarray(tokens[0]) - np.asarray(tokens[1])).max() > 1e-3, "a faster heart is another token"
    assert "physiology" not in engine.embed(none).tokens


def test_branch_without_a_recording_has_no_effect(tmp_path: Path, base: Path) -> None:
    file = tmp_path / clip_file(tmp_path, "a", None)
    plain, wider = engine_of(base / "plain"), engine_of(base / "wider")
    tasks = ("msa", "mir", "erg")
    wanted, found = (e.answer(e.load(file, subtitle="Well."), tasks) for e in (plain, wider))
    assert {k: r.to_dict() for k, r in found.tasks.items()} == {k: r.to_dict() for k, r in wanted.tasks.items()}
    clip = wider.load(file, subtitle="Well.")
    with torch.inference_mode():
        rows = [e.model(**e.processor(clip, Ask("mer"))).logits.numpy().tobytes() for e in (plain, wider)]
    assert rows[0] == rows[1]


@torch.inference_mode()
def test_padded_batch_equals_single_sample(tmp_path: Path, base: Path) -> None:
    engine = engine_of(base / "wider")
    clips = [
        engine.load(tmp_path / clip_file(tmp_path, name, bpm), subtitle=said)
        for name, bpm, said in (("a", 60.0, "Hm."), ("b", None, "A longer sentence."), ("c", 120.0, None))
    ]
    batch = engine.model(**engine.processor(clips, Ask("mer"), padding_side="left")).logits[:, -1]
    for clip, row in zip(clips, batch, strict=True):
        torch.testing.assert_close(engine.model(**engine.processor(clip, Ask("mer"))).logits[0, -1], row)


def test_csv_and_edf_give_the_same_features(tmp_path: Path) -> None:
    section = PHYSIOLOGY.section(**SECTION)
    files = [
        write_csv(tmp_path / "a.physio.csv", columns(75), 128),
        write_edf(tmp_path / "a.physio.edf", columns(75), 128),
    ]
    table, edf = (body_signal(file, 12.0, section) for file in files)
    assert table is not None
    assert edf is not None
    assert table.channels == FEATURES
    np.testing.assert_allclose(table.times_s, edf.times_s, atol=1e-5)
    # Bands that hold nothing hold the rounding of 16 bits.
    sounding = [i for i, name in enumerate(FEATURES) if not any(b in name for b in ("delta", "theta", "beta", "gamma"))]
    np.testing.assert_allclose(table.values[:, sounding], edf.values[:, sounding], atol=2e-2)
    np.testing.assert_allclose(table.values[:, 0], 75, rtol=0.01)


def test_clip_uses_its_part_of_the_recording(tmp_path: Path) -> None:
    both = {n: (u, np.concatenate([columns(60, 20)[n][1], v])) for n, (u, v) in columns(120, 20).items()}
    file = write_csv(tmp_path / "a.physio.csv", both, 128)
    section = PHYSIOLOGY.section(**SECTION)
    early, late = (body_signal(file, 12.0, section, start_s) for start_s in (2.0, 25.0))
    assert early is not None
    assert late is not None
    np.testing.assert_allclose(early.values[:, 0], 60, rtol=0.01)
    np.testing.assert_allclose(late.values[:, 0], 120, rtol=0.01)
    assert early.times_s.min() >= 0
    assert late.times_s.max() <= 12
    assert body_signal(file, 12.0, section, 500.0) is None


@pytest.mark.parametrize(("span", "starts"), [((0, 20), [0, 5, 10, 15]), ((3, 5), [3, 3, 3, 3]), ((0, 0), [0] * 4)])
def test_windows_are_inside_the_clip(span: tuple[float, float], starts: list[float]) -> None:
    spans = window_spans(float(span[0]), float(span[1]), 4, 5.0)
    assert spans[:, 0].tolist() == starts
    assert spans.max() <= span[1]


def test_precomputed_features_are_checked(base: Path) -> None:
    engine = engine_of(base / "wider")
    values = np.full((4, len(FEATURES)), np.nan, np.float32)
    values[:, 0] = 80
    given = Clip("watch", subtitle="Well.", signals={"physiology": Signal(np.arange(4.0), values, FEATURES)})
    assert "physiology" in engine.answer(given, ("msa",)).modalities
    with pytest.raises(MediaError, match=r"signals\['physiology'\] is float\[2, 10\], this model reads \[4, 10\]"):
        engine.answer(Clip("a", signals={"physiology": Signal(np.arange(2.0), values[:2], FEATURES)}), ("msa",))
    values[0, 1] = np.inf
    with pytest.raises(MediaError, match="holds NaN or infinity"):
        engine.answer(Clip("a", signals={"physiology": Signal(np.arange(4.0), values, FEATURES)}), ("msa",))


def test_recording_of_another_time_gives_one_warning(tmp_path: Path, base: Path) -> None:
    file = tmp_path / clip_file(tmp_path, "a", None)
    file.with_suffix(".physio.csv").write_text("time [s],eda [uS]\n500,4\n500.5,4\n")
    engine = engine_of(base / "wider")
    warnings = engine.complete(engine.load(file)).warnings
    assert [w for w in warnings if "recording" in w or "physio" in w] == [EMPTY.format("a.physio.csv")]


def test_broken_recording_is_named_and_untrained_branch_is_skipped(tmp_path: Path, base: Path) -> None:
    file = tmp_path / clip_file(tmp_path, "a", None)
    file.with_suffix(".physio.csv").write_text("time [s],ecg [mV]\n0,fast\n")
    with pytest.raises(MediaError, match=r"a\.wav: a\.physio\.csv:2: not a row of numbers"):
        engine_of(base / "wider").answer(file, ("msa",))
    assert "physiology" not in engine_of(base / "wider", trained=False).answer(file, ("msa",)).modalities


def test_no_preset_has_physiology_and_a_recipe_can_add_it(tmp_path: Path, base: Path) -> None:
    (tmp_path / "body.yaml").write_text(
        "extends: nanoemox\nbranches: [vision, speech, face, fusion, physiology]\nphysiology: {num_windows: 16}\n"
    )
    recipe = load_preset(tmp_path / "body.yaml")
    assert model_config(recipe).physiology.num_windows == 16
    assert "physiology" not in model_config(load_preset("nanoemox")).to_dict()
    with pytest.raises(RecipeError, match="needs 1 to max_positions=32 windows"):
        model_config(recipe.model_copy(update={"physiology": {"num_windows": 0}}))
    with pytest.raises(ValueError, match="pulses: no field of a model recipe, and no branch"):
        ModelRecipe.model_validate({"pulses": {}})
    with pytest.raises(CheckpointError, match=r"branch 'physiology' cannot be added .* choose none"):
        add_branch(base / "wider", "physiology", tmp_path / "again")
