"""Convert fetched files to transformers directories: the language model, and Whisper with its tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.utils import logging

from nanoemox.model.tensor_files import save_tensors
from nanoemox.types import CheckpointError
from nanoemox.weights.catalogue import CONTAINER, LANGUAGE_FILE
from nanoemox.weights.ctranslate2 import BASE, WhisperSizes, read_whisper
from nanoemox.weights.directories import WEIGHTS

_END, _START, _LANGUAGES, _TRANSLATE, _TRANSCRIBE = 50_257, 50_258, 50_259, 50_358, 50_359
_PREVIOUS, _NO_TIMES, _LATEST_FIRST_TIME = 50_361, 50_363, 50


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash tensors by name, type, shape and bytes, in the order of their names: the same for every container."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_language_model(source: Path, out: Path) -> None:
    """Write the language model of a GGUF file as a transformers directory in float16.

    The 4-bit weights are widened by transformers; nothing in the file is run.

    Args:
        source: Folder with the file ``model.gguf``, whose hash was checked.
        out: Folder to write, absent.

    Raises:
        CheckpointError: The file cannot be read as a language model.
    """
    with _quietly():
        try:
            # Looked up in the folder alone: no name here can be taken for one of the hub.
            model = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=LANGUAGE_FILE, dtype=torch.float32, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=LANGUAGE_FILE, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(f"{source / LANGUAGE_FILE}: not readable as a language model: {error}") from error
        config = model.config
        for name in ("quantization_config", "_pre_quantization_dtype"):
            if hasattr(config, name):
                delattr(config, name)
        config.dtype, config.architectures = torch.float16, [type(model).__name__]
        state = {n: t.to(torch.float16).contiguous() for n, t in model.state_dict().items()}
        if config.tie_word_embeddings:
            state.pop("lm_head.weight", None)
        out.mkdir(parents=True)
        save_tensors(state, out / WEIGHTS)
        config.save_pretrained(out)
        tokenizer.save_pretrained(out)


def write_whisper(source: Path, out: Path, sizes: WhisperSizes = BASE) -> str:
    """Write a Whisper container as a transformers directory in float16.

    Args:
        source: Folder with ``model.bin``, ``tokenizer.json`` and ``config.json`` of CTranslate2.
        out: Folder to write, absent.
        sizes: Sizes of the model.

    Returns:
        SHA-256 of the tensors (:func:`tensors_sha256`).

    Raises:
        CheckpointError: The container or its configuration is not what it has to be.
    """
    state = read_whisper(source / CONTAINER, sizes)
    config = WhisperConfig(
        vocab_size=sizes.vocabulary,
        num_mel_bins=sizes.mels,
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.inner,
        decoder_ffn_dim=sizes.inner,
        max_source_positions=sizes.source_positions,
        max_target_positions=sizes.target_positions,
        pad_token_id=_END,
        bos_token_id=_END,
        eos_token_id=_END,
        decoder_start_token_id=_START,
        architectures=[WhisperForConditionalGeneration.__name__],
        dtype="float16",
    )
    generation = _generation(source, sizes)
    out.mkdir(parents=True)
    save_tensors(state, out / WEIGHTS)
    config.save_pretrained(out)
    generation.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=sizes.mels).save_pretrained(out)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    end = "<|endoftext|>"
    fields: dict[str, str | int] = {f"{name}_token": end for name in ("bos", "eos", "unk", "pad")}
    fields |= {"tokenizer_class": "WhisperTokenizer", "model_max_length": sizes.target_positions}
    (out / "tokenizer_config.json").write_text(json.dumps(fields, indent=1) + "\n", "utf-8")
    return tensors_sha256(state)


def _generation(source: Path, sizes: WhisperSizes) -> GenerationConfig:
    """Read the decoding settings of CTranslate2's configuration."""
    try:
        given = json.loads((source / "config.json").read_text("utf-8"))
        tokens = json.loads((source / "tokenizer.json").read_text("utf-8"))["added_tokens"]
        names = {int(t["id"]): str(t["content"]) for t in tokens}
        languages = {names[i]: i for i in given["lang_ids"]}
        heads = [[int(layer), int(head)] for layer, head in given["alignment_heads"]]
        suppressed, at_start = list(given["suppress_ids"]), list(given["suppress_ids_begin"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source}: config.json or tokenizer.json is not Whisper's: {error!r}") from error
    if languages.get("<|en|>") != _LANGUAGES or any(la >= sizes.layers or h >= sizes.heads for la, h in heads):
        raise CheckpointError(f"{source / 'config.json'}: languages or alignment heads are not those of Whisper base")
    return GenerationConfig(
        bos_token_id=_END,
        eos_token_id=_END,
        pad_token_id=_END,
        decoder_start_token_id=_START,
        max_length=sizes.target_positions,
        suppress_tokens=suppressed,
        begin_suppress_tokens=at_start,
        is_multilingual=True,
        lang_to_id=languages,
        task_to_id={"translate": _TRANSLATE, "transcribe": _TRANSCRIBE},
        no_timestamps_token_id=_NO_TIMES,
        prev_sot_token_id=_PREVIOUS,
        max_initial_timestamp_index=_LATEST_FIRST_TIME,
        return_timestamps=False,
        alignment_heads=heads,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's bars and hints off the screen."""
    before: Any = logging.get_verbosity()
    logging.set_verbosity_error()
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # one bar is drawn past the library's own switch
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
