"""Backbones saved by transformers, assembled and compared with its forward pass; hostile files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SwinConfig,
    SwinForImageClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from nanoemox.cli import main
from nanoemox.inference.engine import Engine
from nanoemox.model.backbones import CLIP_VIT_L14, HUBERT_LARGE, QWEN25_15B, SWIN_T
from nanoemox.model.configuration import PAPER_BRANCHES
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import CheckpointError, RecipeError
from nanoemox.weights.assemble import Assembly, WriteOptions, assemble, parse_size
from nanoemox.weights.matching import match, prefix_of
from nanoemox.weights.presets import load_preset, model_config
from nanoemox.weights.sizes import tensor_table
from nanoemox.weights.sources import Weights
from tests.tiny import CLIP_TINY, HUBERT_TINY, QFORMER_TINY, WHISPER_TINY, text_config, tiny_clip, tiny_tokenizer

FLOAT32 = WriteOptions(dtype="float32")
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 7,
        "image_size": 224, "drop_path_rate": 0.0}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


def fields_of(sizes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sizes.items() if k != "model_type"}


def made(kind: type[PreTrainedModel], config: Any, seed: int = 1) -> Any:
    """A model whose every parameter is random, norms and biases too."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def clip_model() -> CLIPModel:
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2,
            "vocab_size": 50, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}  # fmt: skip
    vision = fields_of(CLIP_TINY) | {"num_hidden_layers": 6}
    return made(CLIPModel, CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small backbones, saved by the library."""
    root = tmp_path_factory.mktemp("parts")
    whisper = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 20,
               "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1,
               "max_source_positions": 150}  # fmt: skip
    models = {
        "vision": clip_model(),
        "speech": made(HubertModel, HubertConfig(**fields_of(HUBERT_TINY))),
        "whisper": made(WhisperModel, WhisperConfig(**fields_of(WHISPER_TINY) | whisper)),
        "swin": made(SwinForImageClassification, SwinConfig(**fields_of(SWIN) | {"image_size": 56})),
        "convnext": made(ConvNextForImageClassification, ConvNextConfig(**STAGES, num_stages=4)),
        "text": made(Qwen2ForCausalLM, Qwen2Config(**fields_of(text_config()))),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
    WhisperFeatureExtractor(feature_size=80, chunk_length=3).save_pretrained(root / "whisper")
    (root / "vision" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}', "utf-8")
    tiny_tokenizer().save_pretrained(root / "text")
    return {name: root / name for name in models}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    small = {
        "vision": {"last": 3, "taps": [1, 2, 4], "num_frames": 4, "num_queries": 4, **QFORMER_TINY},
        "speech": {"last_states": 2, "taps": [1, 2, 3], "num_windows": 4, "window_s": 0.5, "num_queries": 4}
        | QFORMER_TINY,
        "face": {"fuse_size": 32, "image_size": 56, "num_queries": 2, "projector_size": 48},
        "fusion": {"hidden_size": 32, "num_attention_heads": 4},
    }
    path.write_text(yaml.safe_dump({"extends": "nanoemox", **small}), "utf-8")
    return path


def given(parts: dict[str, Path], **other: Path | str) -> dict[str, str]:
    names = {"vision": parts["vision"], "speech": parts["speech"], "face": parts["swin"], "text": parts["text"]}
    return {p: str(s) for p, s in (names | other).items()}  # type: ignore[misc]


def load(folder: Path) -> NanoEmoXForConditionalGeneration:
    model, info = NanoEmoXForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


@pytest.fixture(scope="module")
def whole(parts: dict[str, Path], recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Assembly]:
    out = tmp_path_factory.mktemp("whole") / "model"
    return out, assemble(recipe, out, given(parts), FLOAT32)


# ---------------------------------------------------------------- each part computes what the library computes


@torch.no_grad()
def test_vision_encoder_equals_clip(whole: tuple[Path, Assembly], parts: dict[str, Path]) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    own = CLIPModel.from_pretrained(parts["vision"]).eval().vision_model(pixels, output_hidden_states=True)
    got = load(whole[0]).vision_encoder(pixels[None])
    assert close(got.last[0], own.hidden_states[3][:, 0])
    for i, tap in enumerate((1, 2, 4)):
        assert close(got.levels[0, i], own.hidden_states[tap][:, 0])


@torch.no_grad()
def test_speech_encoder_equals_hubert(whole: tuple[Path, Assembly], parts: dict[str, Path]) -> None:
    wave = torch.randn(2, 8000)
    own = HubertModel.from_pretrained(parts["speech"]).eval()(wave).last_hidden_state
    assert close(load(whole[0]).speech_encoder.encoder(wave).last_hidden_state, own)


@torch.no_grad()
def test_old_names_of_the_weight_norm(
    whole: tuple[Path, Assembly], parts: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    old = rewritten(parts["speech"], tmp_path / "old", lambda s: {
        "hubert." + n.replace("parametrizations.weight.original0", "weight_g")
        .replace("parametrizations.weight.original1", "weight_v"): t for n, t in s.items()
    } | {"lm_head.weight": torch.zeros(3, 32)})  # fmt: skip
    report = assemble(recipe, tmp_path / "out", given(parts, speech=old), FLOAT32)
    assert report.dropped["a head of the encoder's own training"] == ["speech: lm_head.weight"]
    assert same(load_file(whole[0] / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors"))


@torch.no_grad()
def test_speech_encoder_can_be_whisper(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "whisper.yaml"
    overlay.write_text(yaml.safe_dump({"extends": str(recipe), "speech": {"window_s": 2.0}}), "utf-8")
    report = assemble(overlay, tmp_path / "out", given(parts, speech=parts["whisper"]), FLOAT32)
    assert all("decoder" in n for n in report.dropped["the decoder, never run"])
    mel = torch.randn(1, 80, 200)
    own = WhisperModel.from_pretrained(parts["whisper"]).eval().encoder
    # Ours is cut from three seconds to a window of two.
    own.embed_positions = torch.nn.Embedding.from_pretrained(own.embed_positions.weight[:100])
    own.config.max_source_positions = 100
    assert close(load(tmp_path / "out").speech_encoder.encoder(mel).last_hidden_state, own(mel).last_hidden_state)
    processor = NanoEmoXProcessor.from_pretrained(tmp_path / "out")
    assert processor.media(tiny_clip(duration_s=3.0))["speech_values"].shape == (4, 80, 200)


@torch.no_grad()
def test_language_model_equals_qwen(whole: tuple[Path, Assembly], parts: dict[str, Path]) -> None:
    ids = torch.randint(0, 400, (2, 9))
    own = Qwen2ForCausalLM.from_pretrained(parts["text"]).eval()(ids).logits
    assert close(load(whole[0]).language_model(ids).logits, own)


def face_file(shared: Path, path: Path, **extra: Tensor) -> dict[str, Tensor]:
    """A checkpoint in FaceXFormer's layout: torchvision's Swin, the layers that fuse its stages, a decoder."""
    golden = load_file(shared / "golden" / "swin_2222.safetensors")
    state = {n.removeprefix("state/"): t for n, t in golden.items() if n.startswith("state/")}
    top = {"features": "backbone.0", "norm": "backbone.1"}
    backbone = {".".join((top[n.split(".")[0]], n.partition(".")[2])): t
                for n, t in state.items() if not n.startswith("head.")}  # fmt: skip
    torch.manual_seed(3)
    for i, width in enumerate((8, 16, 32, 64)):
        backbone |= {f"linear_c.{i}.proj.weight": torch.randn(32, width), f"linear_c.{i}.proj.bias": torch.randn(32)}
    backbone |= {"linear_fuse.weight": torch.randn(32, 128, 1, 1), "face_decoder.layer.weight": torch.randn(4), **extra}
    torch.save({"state_dict_backbone": backbone}, path)
    return golden


@torch.no_grad()
def test_face_weights_in_torchvision_names(shared: Path, parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    golden = face_file(shared, tmp_path / "model.pt")
    overlay = tmp_path / "face.yaml"
    overlay.write_text(yaml.safe_dump({"extends": str(recipe), "face": {"encoder": SWIN}}), "utf-8")
    report = assemble(overlay, tmp_path / "out", given(parts, face=tmp_path / "model.pt"), FLOAT32)
    assert report.dropped["FaceXFormer's decoder, never run"] == ["face: face_decoder.layer.weight"]
    assert not [r for r in report.initialised if "stages" in r]
    model = load(tmp_path / "out")
    for size in ("56x56", "112x96", "224x224"):
        if f"{size}/in" not in golden or size == "112x96":
            continue
        pictures = golden[f"{size}/in"]
        model.face_encoder.backbone.set_input_size(*pictures.shape[-2:])
        stages = model.face_encoder.backbone(pictures)
        for i, stage in enumerate(stages):
            want = golden[f"{size}/out/stage{i + 1}"].permute(0, 3, 1, 2)
            assert (stage - want).abs().max() <= 1e-4 * want.abs().max()
    state = torch.load(tmp_path / "model.pt", weights_only=True)["state_dict_backbone"]
    assert torch.equal(model.face_encoder.fuse.weight, state["linear_fuse.weight"])
    assert torch.equal(model.face_encoder.projections[2].bias, state["linear_c.2.proj.bias"])


@torch.no_grad()
def test_face_encoder_can_be_the_librarys_swin(whole: tuple[Path, Assembly], parts: dict[str, Path]) -> None:
    pixels = torch.randn(2, 3, 56, 56)
    own = SwinForImageClassification.from_pretrained(parts["swin"]).eval().swin.embeddings(pixels)[0]
    assert close(load(whole[0]).face_encoder.backbone.model.embeddings(pixels)[0], own)
    ours = load_file(whole[0] / "model.safetensors")
    theirs = load_file(parts["swin"] / "model.safetensors")
    block = "encoder.layers.1.blocks.1."
    assert torch.equal(
        ours[f"face_encoder.backbone.model.{block}attention.k_proj.weight"],
        theirs[f"swin.{block}attention.self.key.weight"],
    )
    assert any("drawn at random" in reason for reason in whole[1].initialised)


@torch.no_grad()
def test_face_encoder_can_be_any_four_stage_backbone(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    assemble(recipe, tmp_path / "out", given(parts, face=parts["convnext"]), FLOAT32)
    model = load(tmp_path / "out")
    pixels = torch.randn(2, 3, 64, 64)
    own = ConvNextForImageClassification.from_pretrained(parts["convnext"]).eval().convnext(
        pixels, output_hidden_states=True
    )  # fmt: skip
    maps = model.face_encoder.backbone(pixels)
    for got, want in zip(maps, own.hidden_states[1:], strict=True):
        normed = torch.nn.functional.layer_norm(want.permute(0, 2, 3, 1), want.shape[1:2]).permute(0, 3, 1, 2)
        assert (got - normed).abs().max() <= 1e-3 * normed.abs().max()


# ---------------------------------------------------------------- report, shards, seeds, words


def test_every_tensor_is_reported(whole: tuple[Path, Assembly], parts: dict[str, Path]) -> None:
    out, report = whole
    dropped = {name for names in report.dropped.values() for name in names}
    assert all(n.startswith("vision: ") for n in report.dropped["CLIP's text side, never loaded"])
    deep = report.dropped["block deeper than the deepest state that is read"]
    assert {n.split("layers.")[1][0] for n in deep} == {"4", "5"}
    in_files = sum(len(load_file(parts[p] / "model.safetensors")) for p in ("vision", "speech", "swin", "text"))
    assert sum(report.used.values()) + len(dropped) == in_files
    held = load_file(out / "model.safetensors")
    assert sum(report.used.values()) + sum(map(len, report.initialised.values())) == len(held)
    assert report.sizes.total == sum(t.numel() for t in held.values())
    json.dumps(report.to_dict())
    assert "dropped" in report.text()


def test_model_card_of_the_directory(whole: tuple[Path, Assembly]) -> None:
    config = json.loads((whole[0] / "config.json").read_text("utf-8"))
    assert config["trained_branches"] == []
    assert config["placeholder"] is None
    assert config["architectures"] == ["NanoEmoXForConditionalGeneration"]
    assert config["vision"]["image_mean"] == [0.1, 0.2, 0.3]
    assert (whole[0] / "templates.yaml").is_file()


def test_shards_respect_the_size_limit(
    whole: tuple[Path, Assembly], parts: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    assemble(recipe, tmp_path / "out", given(parts), WriteOptions(dtype="float32", max_shard_size="100KB"))
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 3
    state = {n: t for f in files for n, t in load_file(f).items()}
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text("utf-8"))
    assert index["weight_map"].keys() == state.keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state.values())
    for file in files:
        held = load_file(file)
        assert len(held) == 1 or sum(t.nbytes for t in held.values()) <= 100_000
    assert same(state, load_file(whole[0] / "model.safetensors"))
    assert load(tmp_path / "out").num_parameters() == load(whole[0]).num_parameters()


def test_seed_affects_only_the_adapters(
    whole: tuple[Path, Assembly], parts: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    assemble(recipe, tmp_path / "out", given(parts), WriteOptions(dtype="float32", seed=5))
    a, b = (load_file(f / "model.safetensors") for f in (whole[0], tmp_path / "out"))
    differ = {n.split(".")[0] for n in a if not torch.equal(a[n], b[n])}
    assert differ == {"vision_adapter", "speech_adapter", "face_adapter", "fusion", "face_encoder"}


def test_default_precision_is_half_and_torch_files_work(
    whole: tuple[Path, Assembly], parts: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "config.json").write_text((parts["speech"] / "config.json").read_text("utf-8"), "utf-8")
    torch.save(load_file(parts["speech"] / "model.safetensors"), folder / "pytorch_model.bin")
    assemble(recipe, tmp_path / "out", given(parts, speech=folder))
    half, full = (load_file(f / "model.safetensors") for f in (tmp_path / "out", whole[0]))
    assert {t.dtype for t in half.values()} == {torch.bfloat16}
    assert [n for n, t in full.items() if not torch.equal(half[n], t.to(torch.bfloat16))] == []


def test_a_vocabulary_without_spare_rows(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    """Placeholders follow the tokenizer's own words; the embeddings keep their size."""
    folder = tmp_path / "text"
    made(Qwen2ForCausalLM, Qwen2Config(**fields_of(text_config()) | {"vocab_size": 396})).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    raw["added_tokens"] = [t for t in raw["added_tokens"] if t["content"][2:-2] not in PAPER_BRANCHES]
    raw["model"]["vocab"] = {t: i for t, i in raw["model"]["vocab"].items() if t[2:-2] not in PAPER_BRANCHES}
    (folder / "tokenizer.json").write_text(json.dumps(raw), "utf-8")
    setup = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    setup["extra_special_tokens"] = ["<|im_start|>"]
    (folder / "tokenizer_config.json").write_text(json.dumps(setup), "utf-8")
    assemble(recipe, tmp_path / "out", given(parts, text=folder), FLOAT32)
    model, processor = load(tmp_path / "out"), NanoEmoXProcessor.from_pretrained(tmp_path / "out")
    ids = model.config.placeholder_token_ids
    assert len(set(ids.values())) == 4
    assert max(ids.values()) >= 396
    assert len(model.get_input_embeddings().weight) == 396
    assert processor.tokenizer.convert_tokens_to_ids("<|face|>") == ids["face"]


def test_a_tokenizer_of_another_model_is_refused(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    small = Qwen2Config(**fields_of(text_config()) | {"vocab_size": 300})
    made(Qwen2ForCausalLM, small).save_pretrained(tmp_path / "lm")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    with pytest.raises(CheckpointError, match="do not belong together"):
        assemble(recipe, tmp_path / "out", given(parts, text=tmp_path / "lm"))


def test_engine_answers_from_text_only(whole: tuple[Path, Assembly]) -> None:
    answer = Engine.from_pretrained(whole[0], device="cpu").answer(tiny_clip(), tasks=("mer",))
    assert answer.tasks["mer"].label
    assert any("untrained" in w or "not trained" in w or "never trained" in w for w in answer.warnings)


# ---------------------------------------------------------------- random placeholders


def test_random_weights_need_no_file_and_are_marked(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "random.yaml"
    sizes = {"vision": {"encoder": CLIP_TINY}, "speech": {"encoder": HUBERT_TINY}, "face": {"encoder": SWIN}}
    path.write_text(yaml.safe_dump({"extends": str(recipe), **sizes}), "utf-8")
    (tmp_path / "lm").mkdir()
    AutoConfig.for_model(**text_config() | {"vocab_size": 6000}).save_pretrained(tmp_path / "lm")
    outs = [tmp_path / n for n in ("a", "b")]
    for out in outs:
        assemble(path, out, {"text": str(tmp_path / "lm")}, WriteOptions(random=True, seed=3, max_shard_size="1MB"))
    states = [{n: t for f in o.glob("*.safetensors") for n, t in load_file(f).items()} for o in outs]
    assert same(*states)
    model = load(outs[0])
    assert "random" in model.config.placeholder
    assert model.config.trained_branches == []
    assert len(model.get_input_embeddings().weight) == 6000
    assert Engine.from_pretrained(outs[0], device="cpu").answer(tiny_clip(), tasks=("msa",)).tasks["msa"].label


# ---------------------------------------------------------------- names and places of what is published


def test_published_names_at_full_size() -> None:
    """Every tensor of the full-size model is found under the names that the hub's files have."""
    recipe = load_preset("paper")
    config = model_config(recipe)
    table = tensor_table(config)
    with torch.device("meta"):
        models: dict[str, PreTrainedModel] = {
            "vision": CLIPModel(CLIPConfig(vision_config=fields_of(CLIP_VIT_L14))),
            "speech": HubertModel(HubertConfig(**fields_of(HUBERT_LARGE))),
            "text": Qwen2ForCausalLM(Qwen2Config(**fields_of(QWEN25_15B))),
        }
    extra = {"vision": ["vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"]}
    for part, model in models.items():
        shapes = {
            n.replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v"): t.shape
            for n, t in model.state_dict().items() if n != "lm_head.weight"
        } | {n: torch.Size([1, 50]) for n in extra.get(part, [])}  # fmt: skip
        found = match(part, Weights(Path("published"), shapes), table, config)
        assert found.used.keys() == {n for n in table if n.startswith(prefix_of(part))}
        assert not found.initialised
        dropped = [n for names in found.dropped.values() for n in names]
        assert len(found.used) + len(dropped) == len(shapes)


def test_published_names_of_the_librarys_swin() -> None:
    recipe = load_preset("light")
    swin = tensor_table(model_config(recipe))
    with torch.device("meta"):
        model = SwinForImageClassification(SwinConfig(**fields_of(SWIN_T)))
    old = {"attention.q_proj": "attention.self.query", "attention.k_proj": "attention.self.key",
           "attention.v_proj": "attention.self.value", "attention.o_proj": "attention.output.dense",
           "attention.relative_position_bias.relative": "attention.self.relative",
           "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}  # fmt: skip
    shapes = {}
    for name, tensor in model.state_dict().items():
        for new, published in old.items():
            name = name.replace(new, published)
        shapes[name] = tensor.shape
    found = match("face", Weights(Path("published"), shapes), swin, model_config(recipe))
    assert found.used.keys() == {n for n in swin if n.startswith(prefix_of("face"))}


def test_cached_hub_id_works_like_a_folder(
    whole: tuple[Path, Assembly], parts: dict[str, Path], recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("speech", "text"):
        home = tmp_path / "cache" / f"models--nobody--{name}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("abc", "utf-8")
        shutil.copytree(parts[name], home / "snapshots" / "abc")
    assemble(recipe, tmp_path / "out", given(parts, speech="nobody/speech", text="nobody/text"), FLOAT32)
    assert same(*(load_file(f / "model.safetensors") for f in (tmp_path / "out", whole[0])))


# ---------------------------------------------------------------- hostile files


def rewritten(folder: Path, out: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """Copy a backbone with other tensors."""
    out.mkdir()
    (out / "config.json").write_text((folder / "config.json").read_text("utf-8"), "utf-8")
    state = change(load_file(folder / "model.safetensors"))
    save_file({n: t.contiguous() for n, t in state.items()}, out / "model.safetensors", metadata={"format": "pt"})
    return out


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


BIAS = "encoder.layers.0.layer_norm.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {n: t for n, t in s.items() if n != BIAS}, rf"missing \['speech_encoder.encoder.{BIAS}'\]"),
        (lambda s: s | {"surprise.weight": torch.zeros(2)}, r"unknown \['surprise.weight'\]"),
        (lambda s: s | {BIAS: torch.zeros(31)}, r"layer_norm.bias: file \(31,\), model \(32,\)"),
        (lambda s: {"nothing": torch.zeros(1)}, "unknown"),
    ],
    ids=["missing", "extra", "shape", "alien"],
)
def test_mismatched_tensors_are_named(
    change: Callable[..., Any], message: str, parts: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    speech = rewritten(parts["speech"], tmp_path / "bad", change)
    with pytest.raises(CheckpointError, match=message):
        assemble(recipe, tmp_path / "out", given(parts, speech=speech))
    assert not (tmp_path / "out").exists()


class Bomb:
    """Runs code when a careless reader opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.target),))

    target = ""


def test_a_pickle_that_runs_code_is_refused(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text((parts["speech"] / "config.json").read_text("utf-8"), "utf-8")
    bomb = Bomb()
    bomb.target = str(tmp_path / "exploded")
    Bomb.target = bomb.target
    torch.save({"weight": bomb}, tmp_path / "bad" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a file of plain tensors"):
        assemble(recipe, tmp_path / "out", given(parts, speech=tmp_path / "bad"))
    assert not (tmp_path / "exploded").exists()


def test_truncated_file_is_refused(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    bad = rewritten(parts["speech"], tmp_path / "bad", dict)
    whole = (bad / "model.safetensors").read_bytes()
    (bad / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        assemble(recipe, tmp_path / "out", given(parts, speech=bad))


def test_missing_hub_id_names_the_remedy(
    recipe: Path, parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        CheckpointError, match=r"nobody/nothing: config.json .* `hf download nobody/nothing --local-dir"
    ):
        assemble(recipe, tmp_path / "out", given(parts, speech="nobody/nothing"))
    with pytest.raises(CheckpointError, match=r"nobody/face: ckpts/model.pt is neither") as told:
        assemble(recipe, tmp_path / "out", given(parts, face="nobody/face/ckpts/model.pt"))
    assert "nobody/face ckpts/model.pt --local-dir DIR" in str(told.value)
    with pytest.raises(CheckpointError, match="no such file or directory"):
        assemble(recipe, tmp_path / "out", given(parts, face="./nowhere.pt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (WriteOptions(dtype="int8"), "dtype 'int8' is unknown"),
        (WriteOptions(max_shard_size="many"), "max shard size 'many'"),
        (WriteOptions(max_shard_size="0GB"), "max shard size '0GB'"),
    ],
)
def test_invalid_assemble_options(options: WriteOptions, message: str, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        assemble(recipe, tmp_path / "out", {}, options)


def test_errors_before_reading_weights(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(CheckpointError, match="not an empty folder"):
        assemble(recipe, tmp_path / "full", given(parts))
    with pytest.raises(CheckpointError, match="no face part"):
        assemble("paper-at", tmp_path / "out", {"face": str(parts["swin"])}, WriteOptions(random=True))
    with pytest.raises(RecipeError, match="no recipe 'papr'"):
        assemble("papr", tmp_path / "out")
    with pytest.raises(CheckpointError, match="names no backbone for vision: give --vision"):
        assemble("mini", tmp_path / "out")
    assert parse_size("1.5GB") == 1_500_000_000


def test_the_command(parts: dict[str, Path], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = given(parts)
    args = ["assemble", str(recipe), "--out", str(tmp_path / "out"), "--vision", where["vision"], "--speech",
            where["speech"], "--face", where["face"], "--lm", where["text"]]  # fmt: skip
    with pytest.raises(SystemExit) as done:
        main(args)
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "language model" in shown
    assert "LoRA r=16" in shown


# ---------------------------------------------------------------- memory

_CHILD = """
import sys
from pathlib import Path
from nanoemox.weights.assemble import WriteOptions, assemble
def status(key):
    return next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key))
before = status('VmRSS')
assemble(sys.argv[1], Path(sys.argv[2]), {'vision': sys.argv[3], 'text': sys.argv[4]}, WriteOptions())
print((status('VmHWM') - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account of memory")
def test_memory_stays_under_the_model(parts: dict[str, Path], recipe: Path, tmp_path: Path) -> None:
    """float32 files of 400 MB become a model of 200 MB in bfloat16, and that much is never held."""
    sizes = {"vocab_size": 30_000, "hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 14}
    config = Qwen2Config(**fields_of(text_config()) | sizes)
    config.save_pretrained(tmp_path / "lm")
    with torch.device("meta"):
        table = Qwen2ForCausalLM(config).state_dict()
    table.pop("lm_head.weight")
    save_file({n: torch.zeros(t.shape) for n, t in table.items()}, tmp_path / "lm" / "model.safetensors")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    overlay = tmp_path / "vt.yaml"
    overlay.write_text(yaml.safe_dump({"extends": str(recipe), "branches": ["vision"]}), "utf-8")
    command = [sys.executable, "-c", _CHILD, overlay, tmp_path / "out", parts["vision"], tmp_path / "lm"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = sum(f.stat().st_size for f in (tmp_path / "out").glob("*.safetensors"))
    assert written > 190e6
    assert int(done.stdout.split()[-1]) <= 1.3 * written
    print(f"extra {int(done.stdout.split()[-1]) / 1e6:.0f} MB for a model of {written / 1e6:.0f} MB")
