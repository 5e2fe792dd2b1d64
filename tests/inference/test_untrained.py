"""A model with untrained adapters answers from text only and says so; a placeholder is not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.model.configuration import PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.training.command import run_train
from nanoemox.types import CheckpointError, Clip, MediaError
from tests.tiny import save_tiny, tiny_clip, tiny_config, tiny_model, tiny_processor
from tests.training.toy import RECIPE, toy_root

SHORT = AnswerOptions(generation=GenerationOptions(max_new_tokens=8))
SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
ADVICE = "train with nanoemox train"


def engine(*trained: str) -> Engine:
    config = tiny_config()
    config.trained_branches = list(trained)
    return Engine(tiny_model(config), tiny_processor(config), "assembled")


def readings(of: Engine, clip: Clip) -> dict[str, Any]:
    answer = of.answer(clip, ("mer", "eri"), options=SHORT)
    return {k: r.to_dict() for k, r in answer.tasks.items()}


def never(*_args: Any, **_kwargs: Any) -> None:
    raise AssertionError("an encoder ran")


def test_untrained_model_uses_text_only_and_runs_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assembled = engine()
    for encoder in ("vision_encoder", "speech_encoder", "face_encoder"):
        monkeypatch.setattr(getattr(assembled.model, encoder), "forward", never)
    answer = assembled.answer(tiny_clip(duration_s=60.0), ("mer", "eri"), options=replace(SHORT, explain=True))
    assert answer.modalities == ("text",)
    assert answer.gate is None
    assert answer.warnings == (
        f"adapters of vision, speech, face, fusion are untrained: only the words are used; {ADVICE}",
    )
    assert answer.evidence is not None
    assert answer.evidence.frame_attention is None
    assert answer.evidence.window_attention is None
    words = tiny_clip(without=("vision", "speech", "face"))
    assert {k: r.to_dict() for k, r in answer.tasks.items()} == readings(assembled, words)
    assert readings(assembled, words) == readings(engine(*PAPER_BRANCHES), words)


def test_warnings_name_only_unused_modalities_of_the_clip() -> None:
    assert engine().answer(tiny_clip(without=("vision", "speech", "face")), ("msa",)).warnings == ()
    silent = engine().answer(tiny_clip(without=("speech", "face")), ("msa",))
    assert silent.warnings == (f"adapters of vision are untrained: only the words are used; {ADVICE}",)
    half = engine("vision", "speech").answer(tiny_clip(), ("msa",))
    assert half.modalities == ("vision", "speech", "text")
    assert half.warnings == (f"adapters of face, fusion are untrained: they are left out; {ADVICE}",)
    assert half.gate is None


def test_batches_mix_clips_as_ever() -> None:
    assembled = engine("vision")
    clips = [tiny_clip(1), tiny_clip(2, without=("vision", "face")), tiny_clip(3, without=("text",))]
    answers = list(assembled.answer_many(clips, ("mer",)))
    assert [a.modalities for a in answers] == [("vision", "text"), ("text",), ("vision",)]
    for clip, answer in zip(clips, answers, strict=True):
        alone = assembled.answer(clip, ("mer",)).tasks["mer"].probabilities
        assert answer.tasks["mer"].probabilities == pytest.approx(alone, abs=1e-5)


def test_untrained_model_without_text_is_refused() -> None:
    with pytest.raises(MediaError, match=r"vision, speech, face, fusion are untrained and the clip has no words: give"):
        engine().answer(tiny_clip(without=("text",)))
    with pytest.raises(MediaError, match="this model reads vision, speech, face, text, the clip has none"):
        engine().answer(Clip("void"))


def test_no_face_detection_for_an_untrained_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoemox.model.branches.face.with_face", never)
    assert engine("vision").load(SAMPLE).face is None


def test_configuration_stores_untrained_branches(tmp_path: Path) -> None:
    config = tiny_config()
    assert config.trained_branches == list(PAPER_BRANCHES)
    assert config.placeholder is None
    config.trained_branches, config.placeholder = [], "random"
    folder = save_tiny(tmp_path / "one", config)
    again = NanoEmoXConfig.from_pretrained(folder)
    assert (again.trained_branches, again.placeholder) == ([], "random")
    fields = tiny_config(fusion={"kind": "none"})
    assert fields.trained_branches == ["vision", "speech", "face"]
    assert Engine.from_pretrained(folder, device="cpu").answer(tiny_clip(), ("msa",)).modalities == ("text",)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    (folder / "data").mkdir()
    toy_root(folder / "data")
    recipe = yaml.safe_load(RECIPE)
    # Two short phases: the first aligns the voice, the second starts from it and adds LoRA.
    first, second = recipe["phases"].values()
    first |= {"trainable": ["speech_adapter"], "steps": 1}
    second |= {"trainable": ["lora"], "steps": 1, "accumulation": 1}
    (folder / "toy.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_training_adds_its_branches_to_those_of_the_base(place: Path) -> None:
    for number, (before, after) in enumerate([([], ["speech"]), (["face"], ["speech", "face"])]):
        config = tiny_config()
        config.trained_branches = before
        base = save_tiny(place / f"base{number}", config)
        out = run_train(place / "toy.yaml", place / "data", place / f"run{number}", base, show=False)
        assert NanoEmoXConfig.from_pretrained(out["model"]).trained_branches == after
    answer = Engine.from_pretrained(out["model"], device="cpu").answer(tiny_clip(), ("msa",))
    assert answer.modalities == ("speech", "face", "text")


def test_a_placeholder_is_not_trained(place: Path) -> None:
    config = tiny_config()
    config.placeholder = "its weights are random numbers: assemble real backbones first"
    base = save_tiny(place / "random", config)
    with pytest.raises(CheckpointError, match="random cannot be trained: its weights are random numbers: assemble"):
        run_train(place / "toy.yaml", place / "data", place / "never", base, show=False)
    assert not (place / "never").exists()


def test_a_run_in_half_precision_keeps_its_adapters_in_half_precision(place: Path) -> None:
    from safetensors.torch import load_file

    recipe = yaml.safe_load((place / "toy.yaml").read_text()) | {"precision": "bf16"}
    (place / "bf16.yaml").write_text(yaml.safe_dump(recipe))
    base = save_tiny(place / "base_bf16")
    run_train(place / "bf16.yaml", place / "data", place / "bf16", base, show=False)
    assert {t.dtype for t in load_file(place / "bf16/first/adapters.safetensors").values()} == {torch.bfloat16}
    resumed = place / "bf16/first/checkpoints/checkpoint-1/adapters.safetensors"
    assert {t.dtype for t in load_file(resumed).values()} == {torch.float32}


def test_fusion_needs_its_trained_branches() -> None:
    half = engine("speech", "face", "fusion").answer(tiny_clip(), ("msa",))
    assert half.modalities == ("speech", "face", "text")
    assert half.gate is None
    assert half.warnings == (f"adapters of vision, fusion are untrained: they are left out; {ADVICE}",)
