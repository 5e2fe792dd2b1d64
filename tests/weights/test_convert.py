"""Conversion of official files: the golden checkpoint end to end, all full-size names at small sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nanoemox.cli import main
from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.inference.engine import Engine
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.lora import fold_lora, load_adapters, lora_layers
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks.templates import load_templates
from nanoemox.types import CheckpointError
from nanoemox.weights.convert import convert_checkpoints
from nanoemox.weights.convert_reference import convert_state, expected_shapes, our_name, window_index
from tests.model.test_oracle_full import CASES, close, media_of, reference_config
from tests.tiny import tiny_clip, tiny_config, tiny_model, tiny_processor

LM = "llama_model.base_model.model."


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    meta = json.loads((shared / "golden" / "full_tiny.json").read_text())
    return meta, load_file(shared / "golden" / "full_tiny.safetensors")


@pytest.fixture(scope="module")
def place(golden: tuple[dict[str, Any], dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint as the authors save it, and a base that has its frozen weights and random adapters."""
    meta, tensors = golden
    folder = tmp_path_factory.mktemp("official")
    official = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
    kept = {n: t for n, t in official.items() if n in set(meta["checkpoint_keys"])}
    extras = {"optimizer": {"state": {}}, "config": {"model": meta["config"]}, "scaler": None, "epoch": 3}
    torch.save({"model": kept, **extras}, folder / "official.pth")
    frozen = {n: t for n, t in official.items() if ".lora_" not in n}
    torch.manual_seed(0)
    base = NanoEmoXForConditionalGeneration(reference_config(meta))
    state = {n: t for n, t in convert_state(frozen, base.config).items() if "adapter" not in n and "fusion" not in n}
    base.load_state_dict(state, strict=False)
    base.tie_weights()
    base.config.trained_branches = []
    base.save_pretrained(folder / "base", max_shard_size="400KB")
    NanoEmoXProcessor(tokenizer=tiny_processor().tokenizer, config=base.config).save_pretrained(folder / "base")
    return folder


def convert(place: Path, out: str, base: str = "base", files: tuple[str, ...] = ("official.pth",)) -> Any:
    return convert_checkpoints([place / f for f in files], place / out, place / base)


def test_the_golden_checkpoint_gives_the_golden_logits(
    golden: tuple[dict[str, Any], dict[str, Tensor]], place: Path
) -> None:
    meta, tensors = golden
    report = convert(place, "whole")
    assert (place / "whole" / "model.safetensors.index.json").is_file()
    assert (report.lora.r, report.lora.alpha, report.lora_alpha_from) == (4, 8, "the file's configuration")
    assert report.trained_branches == ["vision", "speech", "face", "fusion"]
    assert not report.missing
    find_checkpoint(place / "whole")
    model = NanoEmoXForConditionalGeneration.from_pretrained(place / "whole").eval()
    assert model.config.trained_branches == report.trained_branches
    for name in CASES:
        ids, mask = tensors[f"{name}/input_ids"], tensors[f"{name}/attention_masks"]
        held = {b for b, i in model.config.placeholder_token_ids.items() if (ids == i).any()}
        keys = {"pixel_values": "vision", "speech_values": "speech", "face_values": "face"}
        media = {k: v for k, v in media_of(meta["cases"][name], tensors, model.config).items() if keys[k] in held}
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask.long(), **media).logits
        close(logits[mask.bool()], tensors[f"{name}/logits"][mask.bool()], 3e-4)


def test_converted_templates_are_the_authors_unless_the_base_has_its_own(place: Path) -> None:
    convert(place, "words")
    assert NanoEmoXProcessor.from_pretrained(place / "words").templates == load_templates(layout="reference")
    own = load_templates().model_copy(update={"closing": "So?"})
    convert(place, "twice", base="words")
    own.save(place / "twice")
    assert not convert(place, "thrice", base="twice").missing
    assert NanoEmoXProcessor.from_pretrained(place / "thrice").templates == own


def test_without_a_base_the_adapters_are_written(place: Path) -> None:
    config = NanoEmoXConfig.from_pretrained(place / "base")
    report = convert_checkpoints([place / "official.pth"], place / "adapters", config=config)
    assert sorted(f.name for f in (place / "adapters").iterdir()) == [
        "adapters.safetensors", "conversion.json", "templates.yaml",
    ]  # fmt: skip
    assert {"language_model", "vision_encoder"} <= set(report.missing)
    assert "nanoemox assemble reference" in report.text()
    model = NanoEmoXForConditionalGeneration.from_pretrained(place / "base")
    load_adapters(model, place / "adapters" / "adapters.safetensors")
    assert len(lora_layers(model)) == 14
    fold_lora(model)
    convert(place, "for_comparison")
    whole = NanoEmoXForConditionalGeneration.from_pretrained(place / "for_comparison")
    for (name, one), two in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


# ---------------------------------------------------------------- every name of a full-size file, at small sizes


@pytest.fixture(scope="module")
def small() -> NanoEmoXConfig:
    """The layout ``reference`` with as many layers as the authors have and no width."""
    config = tiny_config(
        face={"time_position": False, "encoder": {**SWIN, "window_size": 7}},
        fusion={"shared_projection": True, "time_position": False},
    )
    config.text_config.num_hidden_layers = 28
    config.text_config.layer_types = ["full_attention"] * 28
    return config


SWIN = {
    "model_type": "swin", "embed_dim": 8, "depths": [2, 2, 18, 2], "num_heads": [1, 2, 4, 8], "image_size": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def phases(shared: Path, small: NanoEmoXConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file a phase, with every name that the authors' file of that phase has; and the base."""
    folder = tmp_path_factory.mktemp("phases")
    table = json.loads((shared / "golden" / "official_checkpoint_keys.json").read_text())
    model = tiny_model(small)
    model.config.trained_branches = []
    model.half().save_pretrained(folder / "base")
    tiny_processor(small).save_pretrained(folder / "base")
    own = {
        n: t
        for part in {n.partition(".")[0] for n in model.state_dict()}
        for n, t in expected_shapes(part, small).items()
    }
    for number, (phase, entry) in enumerate(table["phases"].items()):
        names = [n for n in table["shapes"] if n not in set(entry["absent_keys_of_union"])]
        assert len(names) == entry["n_keys"]
        state = {n: _small(n, own, table["shapes"][n]["shape"], model, number) for n in names}
        torch.save({"model": state, "optimizer": {}, "epoch": number}, folder / f"{phase}.pth")
    return folder


def _small(name: str, own: dict[str, Any], shape: list[int], model: torch.nn.Module, seed: int) -> Tensor:
    """A tensor for an official name: as our model wants it, or what is counted, or of any small shape."""
    if name.endswith("position_ids"):
        return torch.arange(shape[-1])[None]
    if name.endswith("relative_position_index"):
        return window_index(shape[-1])
    if name.endswith("lm_head.weight"):
        return model.get_input_embeddings().weight.detach().clone()
    generator = torch.Generator().manual_seed(hash((len(name), seed)) % 1000)
    ours = our_name(name) or ""
    stem = f"{ours.partition('.lora_')[0]}.weight"
    if ".lora_A." in name:
        return torch.randn(4, own[stem][1], generator=generator)
    if ".lora_B." in name:
        return torch.randn(own[stem][0], 4, generator=generator) * 0.01
    return torch.randn(own.get(ours, (2,)), generator=generator)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_alignment_phases_merge_and_incomplete_face_is_skipped(phases: Path, small: NanoEmoXConfig) -> None:
    alone = convert(phases, "1_1", files=("phase1_1.pth",))
    assert alone.trained_branches == ["speech"]
    leaked = next(names for reason, names in alone.dropped.items() if reason.startswith("leaks"))
    assert "facial_encoder.query" in leaked
    assert not any("lynorm" in n for n in leaked)
    both = convert(phases, "both", files=("phase1_1.pth", "phase1_2.pth"))
    assert both.trained_branches == ["vision", "speech", "face"]
    assert both.overlaps == []
    state, base = tensors_of(phases / "both"), tensors_of(phases / "base")
    second = torch.load(phases / "phase1_2.pth", weights_only=True)["model"]
    assert torch.equal(state["face_adapter.queries"], second["facial_encoder.query"].half())
    moved = {n.partition(".")[0] for n in base if not torch.equal(base[n], state[n])}
    assert moved == {"vision_adapter", "speech_adapter", "face_adapter"}
    assert {n: t.dtype for n, t in state.items()} == {n: t.dtype for n, t in base.items()}
    convert(phases, "reversed", files=("phase1_2.pth", "phase1_1.pth"))
    assert all(torch.equal(t, state[n]) for n, t in tensors_of(phases / "reversed").items())
    # Conversion goes on from where another one ended.
    assert convert(phases, "on", base="1_1", files=("phase1_2.pth",)).trained_branches == both.trained_branches
    on = tensors_of(phases / "on")
    assert all(torch.equal(on[n], t) for n, t in state.items())


def test_converted_model_answers(phases: Path) -> None:
    convert(phases, "aligned", files=("phase1_1.pth", "phase1_2.pth"))
    answer = Engine.from_pretrained(phases / "aligned", device="cpu").answer(tiny_clip(), ("msa", "mer"))
    assert answer.modalities == ("vision", "speech", "face", "text")
    assert answer.warnings == ("adapters of fusion are untrained: they are left out; train with nanoemox train",)
    convert(phases, "all", files=("phase3.pth",))
    whole = Engine.from_pretrained(phases / "all", device="cpu").answer(tiny_clip(), ("msa",))
    assert whole.warnings == ()
    assert len(whole.gate) == 3


def test_the_later_file_wins_and_is_reported(phases: Path) -> None:
    report = convert(phases, "2_3", files=("phase2.pth", "phase3.pth"))
    assert len(report.overlaps) == sum(report.taken.values()) - report.taken["lora"]
    convert(phases, "3_alone", files=("phase3.pth",))
    alone = tensors_of(phases / "3_alone")
    assert all(torch.equal(t, alone[n]) for n, t in tensors_of(phases / "2_3").items())
    turned = convert(phases, "3_2", files=("phase3.pth", "phase2.pth"))
    assert turned.overlaps
    second = torch.load(phases / "phase2.pth", weights_only=True)["model"]
    assert torch.equal(tensors_of(phases / "3_2")["fusion.projection.bias"], second["multi_llama_proj.bias"].half())


def test_last_phase_is_complete(phases: Path, small: NanoEmoXConfig) -> None:
    report = convert(phases, "3", files=("phase3.pth",))
    assert (report.lora.r, report.lora.alpha, report.lora_alpha_from) == (4, 32, "the authors' default")
    assert report.taken["lora"] == 2 * 7 * 28
    counted = sum(report.taken.values()) + sum(len(n) for n in report.dropped.values())
    assert counted == len(torch.load(phases / "phase3.pth", weights_only=True)["model"]) == 592
    dropped = {n for names in report.dropped.values() for n in names}
    assert sum(n.endswith("relative_position_index") for n in dropped) == 24
    assert {f"{LM}lm_head.weight", "image_llama_proj.weight", "facial_encoder.lynorm.bias"} <= dropped
    # The same weights by the way of our own adapters: LoRA attached, then folded.
    convert_checkpoints([phases / "phase3.pth"], phases / "adapters", config=small)
    model = NanoEmoXForConditionalGeneration.from_pretrained(phases / "base", dtype=torch.float32)
    load_adapters(model, phases / "adapters" / "adapters.safetensors")
    fold_lora(model)
    state = tensors_of(phases / "3")
    for name, tensor in model.state_dict().items():
        if name in state:
            torch.testing.assert_close(state[name].float(), tensor, atol=2e-3, rtol=2e-3)


def save(place: Path, change: dict[str, Tensor | None], name: str = "phase3.pth") -> tuple[str, ...]:
    """Write a file with some tensors changed or (None) taken out."""
    state = torch.load(place / name, weights_only=True)["model"] | change
    torch.save({"model": {n: t for n, t in state.items() if t is not None}}, place / "broken.pth")
    return ("broken.pth",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mystery.weight": torch.zeros(2)}, r"no known name: \['mystery.weight'\]"),
        ({"multi_llama_proj.bias": None}, r"missing \['fusion.projection.bias'\]"),
        ({"facial_encoder.face_proj.3.bias": None}, r"missing \['face_adapter.projector.3.bias'\]"),
        ({"audio_query_tokens": torch.zeros(1, 5, 32)}, r"file \(1, 5, 32\), model \(1, 4, 32\)"),
        ({"audio_Qformer.bert.embeddings.position_ids": torch.zeros(1, 512)}, "do not count as usual"),
        ({f"{LM}lm_head.weight": torch.zeros(448, 32)}, "another language model"),
        (
            {f"{LM}model.layers.27.mlp.up_proj.lora_{e}.default.weight": None for e in "AB"},
            r"missing \['language_model.model.layers.27.mlp.up_proj'\]",
        ),
        (
            {f"{LM}model.layers.3.mlp.up_proj.lora_A.default.weight": torch.zeros(3, 32)},
            r"layers.3.mlp.up_proj: A \(3, 32\), B \(64, 4\), layer \(64, 32\)",
        ),
    ],
)
def test_mismatches_are_listed_and_nothing_is_written(
    phases: Path, change: dict[str, Tensor | None], says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        convert(phases, "none", files=save(phases, change))
    assert not (phases / "none").exists()


def test_invalid_checkpoints_are_refused(phases: Path) -> None:
    (phases / "text.pth").write_text("hello")
    torch.save({"model": {"a": 1}}, phases / "numbers.pth")
    torch.save([1, 2], phases / "list.pth")
    torch.save({"model": {"a": Path("x")}}, phases / "code.pth")
    torch.save({"a": torch.zeros(1)}, phases / "old.pth", _use_new_zipfile_serialization=False)
    for name, says in (
        ("text.pth", "not a file of plain tensors"),
        ("numbers.pth", "holds no weights"),
        ("list.pth", "holds no weights"),
        ("code.pth", "would run code"),
        ("old.pth", "of no known name"),
        ("absent.pth", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=says):
            convert(phases, "none", files=(name,))
    with pytest.raises(CheckpointError, match="not an empty folder"):
        convert(phases, "base", files=("phase3.pth",))
    # Without a base the preset says what must fit.
    with pytest.raises(CheckpointError, match=r"preset `reference`.*file \(1, 4, 32\), model \(1, 32, 768\)"):
        convert_checkpoints([phases / "phase1_1.pth"], phases / "none")


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        (torch.zeros(1).expand(10**11), "plain tensor"),
        (torch.zeros(2, 2).to_sparse(), "plain tensor"),
        (torch.zeros(4, dtype=torch.complex64), "plain tensor"),
        (torch.zeros(4, device="meta"), "plain tensor"),
    ],
    ids=["a view of any size", "sparse", "complex", "meta"],
)
def test_only_tensors_that_are_in_the_file_are_read(phases: Path, hostile: Tensor, says: str) -> None:
    name = "audio_Qformer.bert.embeddings.position_ids"
    with pytest.raises(CheckpointError, match=says):
        convert(phases, "none", files=save(phases, {name: hostile}))
    torch.save({"model": {1: torch.zeros(1)}}, phases / "numbered.pth")
    with pytest.raises(CheckpointError, match=says):
        convert(phases, "none", files=("numbered.pth",))


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_are_not_finite_are_refused(phases: Path, value: float) -> None:
    change = {"audio_query_tokens": torch.full((1, 4, 32), value)}
    files = save(phases, change)
    with pytest.raises(CheckpointError, match=r"speech_adapter\.qformer\.queries is not finite in torch\.float16"):
        convert(phases, "none", files=files)
    assert not (phases / "none").exists()


@pytest.mark.parametrize(("alpha", "says"), [(10**400, "lora_alpha 1000"), (0, "lora_alpha 0"), (-4, "1 to 4096")])
def test_an_alpha_of_no_use_is_refused(phases: Path, alpha: int, says: str) -> None:
    whole = torch.load(phases / "phase3.pth", weights_only=True)
    torch.save(whole | {"config": {"run": {"lora_alpha": alpha}}}, phases / "alpha.pth")
    with pytest.raises(CheckpointError, match=says):
        convert(phases, "none", files=("alpha.pth",))


def test_a_configuration_that_holds_itself_is_no_loop(phases: Path) -> None:
    whole = torch.load(phases / "phase3.pth", weights_only=True)
    circle: dict[str, Any] = {"lora_alpha": True}
    circle["again"] = circle
    torch.save(whole | {"config": circle}, phases / "circle.pth")
    assert convert(phases, "circle", files=("circle.pth",)).lora_alpha_from == "the authors' default"


def test_the_command(phases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(phases / f"phase{p}.pth") for p in ("1_1", "1_2")]
    with pytest.raises(SystemExit) as end:
        main(["convert", *files, "--out", str(phases / "cli"), "--base", str(phases / "base"), "--json"])
    assert not end.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed["trained_branches"] == ["vision", "speech", "face"]
    assert printed | {"written": 0} == json.loads((phases / "cli" / "conversion.json").read_text()) | {"written": 0}
    with pytest.raises(SystemExit) as end:
        main(["convert", files[0], "--out", str(phases / "cli")])
    assert end.value.code == 2
    assert "not an empty folder" in capsys.readouterr().err
