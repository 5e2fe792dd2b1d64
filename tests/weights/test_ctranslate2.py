"""The CTranslate2 format is read exactly; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from nanoemox.types import CheckpointError
from nanoemox.weights.ctranslate2 import read_whisper
from nanoemox.weights.parts import write_whisper
from tests.weights.small_parts import SIZES, container, whisper_files


def test_tensors_equal_those_of_transformers(tmp_path: Path) -> None:
    state = read_whisper(container(tmp_path / "model.bin"), SIZES)
    config = WhisperConfig(
        vocab_size=SIZES.vocabulary, d_model=32, encoder_layers=4, decoder_layers=4, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=100,
        max_target_positions=64,
    )  # fmt: skip
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    wanted = {n: t.shape for n, t in model.state_dict().items() if n != "proj_out.weight"}
    assert {n: t.shape for n, t in state.items()} == wanted


def test_fused_matrices_are_split_as_query_key_value(tmp_path: Path) -> None:
    name = "encoder/layer_2/self_attention/linear_0/weight"
    fused = np.arange(96 * 32, dtype=np.float16).reshape(96, 32) / 64
    state = read_whisper(container(tmp_path / "model.bin", values={name: fused}), SIZES)
    for i, part in enumerate("qkv"):
        found = state[f"model.encoder.layers.2.self_attn.{part}_proj.weight"]
        assert np.array_equal(found.numpy(), fused[32 * i : 32 * i + 32])


def test_flags_of_later_converters_may_be_absent(tmp_path: Path) -> None:
    both = read_whisper(container(tmp_path / "a.bin"), SIZES)
    without = read_whisper(container(tmp_path / "b.bin", drop="decoder/scale_alibi"), SIZES)
    assert both.keys() == without.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, "version 5"),
        ({"spec": "TransformerSpec"}, "TransformerSpec"),
        ({"revision": 2}, "revision 2"),
        ({"drop": "encoder/conv1/bias"}, "lacks encoder/conv1/bias"),
        ({"shapes": {"encoder/conv1/bias": (4_000_000_000,)}}, "encoder/conv1/bias has shape"),
        ({"values": {"decoder/num_heads": np.array(9, "<i2")}}, "num_heads is 9, expected 2"),
        ({"values": {"encoder/conv1/bias": np.full(32, np.nan, "<f2")}}, "not finite"),
        ({"key_bias": 1}, "the keys have a bias"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_whisper(container(tmp_path / "model.bin", **change), SIZES)


def test_truncated_or_longer_file_is_refused(tmp_path: Path) -> None:
    whole = container(tmp_path / "model.bin").read_bytes()
    for size in (0, 3, 20, 500, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.bin").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="cut off"):
            read_whisper(tmp_path / "cut.bin", SIZES)
    (tmp_path / "long.bin").write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match="further bytes"):
        read_whisper(tmp_path / "long.bin", SIZES)


def test_name_length_cannot_exhaust_memory(tmp_path: Path) -> None:
    head = container(tmp_path / "model.bin").read_bytes()[:26]
    (tmp_path / "hostile.bin").write_bytes(head + b"\xff\xff" + b"a" * 70_000)
    with pytest.raises(CheckpointError, match="a name of 65535 bytes, limit 128"):
        read_whisper(tmp_path / "hostile.bin", SIZES)


def test_the_directory_loads_and_has_one_hash(tmp_path: Path) -> None:
    source = whisper_files(tmp_path / "source")
    first, again = write_whisper(source, tmp_path / "a", SIZES), write_whisper(source, tmp_path / "b", SIZES)
    assert first == again
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "a", dtype=torch.float32)
    assert model.generation_config.lang_to_id == {"<|en|>": 50_259, "<|zh|>": 50_260}
    assert torch.equal(model.proj_out.weight, model.model.decoder.embed_tokens.weight)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    source = whisper_files(tmp_path / "source")
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not Whisper's"):
        write_whisper(source, tmp_path / "out", SIZES)
