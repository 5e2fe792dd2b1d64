"""Decoding optimisations do not change the output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from nanoemox.inference.decoding import Decoder, GenerationOptions
from nanoemox.model.cache import reserved_branch, shared_branch
from tests.inference.test_decoding import END, PROMPTS, QUESTIONS, language_model, prefixed

LONG = GenerationOptions(max_new_tokens=20)
DRAWN = GenerationOptions(max_new_tokens=20, temperature=1.3, top_k=40, seed=3)


def test_reserved_cache_equals_a_growing_one() -> None:
    model = language_model()
    prefix = prefixed(model, PROMPTS)
    growing, reserved = shared_branch(prefix.cache), reserved_branch(prefix.cache, 1, 12)
    memory = set()
    for size in (3, 1, 8):
        for a, b in zip(growing.layers, reserved.layers, strict=True):
            news = torch.randn(2, len(PROMPTS), a.keys.shape[1], size, a.keys.shape[3])
            a.update(*news)
            b.update(*news)
            assert torch.equal(a.keys, b.keys)
            assert torch.equal(a.values, b.values)
        memory.add(tuple(layer.keys.untyped_storage().data_ptr() for layer in reserved.layers))
        assert reserved.get_seq_length() == growing.get_seq_length()
        assert reserved.get_mask_sizes(1, 0) == growing.get_mask_sizes(1, 0)
    assert len(memory) == 1, "copied while it grew"
    with pytest.raises(ValueError, match="21 tokens do not fit into a cache reserved for 20"):
        reserved.layers[0].update(news[0, :, :, :1], news[1, :, :, :1])


@pytest.mark.parametrize("options", [LONG, DRAWN])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_rows_of_unequal_length_equal_single_rows(kind: str, options: GenerationOptions) -> None:
    model = language_model(kind)
    together = Decoder(model, prefixed(model, PROMPTS), QUESTIONS, END, options).finish()
    alone = [Decoder(model, prefixed(model, [p]), [q], END, options).finish()[0] for p in PROMPTS for q in QUESTIONS]
    assert together == alone


@pytest.mark.parametrize("options", [LONG, DRAWN])
def test_run_to_the_end_equals_step_by_step(options: GenerationOptions) -> None:
    model = language_model()
    one = Decoder(model, prefixed(model, PROMPTS), QUESTIONS, [7, 7], options)
    two = Decoder(model, prefixed(model, PROMPTS), QUESTIONS, [7, 7], options)
    steps = list(one)
    assert two.finish() == one.answers
    assert two.ended == one.ended
    written = [[row[k] for row in steps if row[k] is not None] for k in range(len(one.answers))]
    assert [w[: len(a)] for w, a in zip(written, one.answers, strict=True)] == one.answers


def test_rare_stop_checks_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another device, where the end is noticed some steps late."""
    model = language_model()
    free = Decoder(model, prefixed(model, PROMPTS[:1]), QUESTIONS[:1], [447], LONG).finish()[0]
    stop = free[2]
    seen = []
    model.lm_head.register_forward_pre_hook(lambda module, given: seen.append(1))
    for every in (1, 6):
        monkeypatch.setattr("nanoemox.inference.decoding.steps_between_checks", lambda device, every=every: every)
        seen.clear()
        decoder = Decoder(model, prefixed(model, PROMPTS[:1]), QUESTIONS[:1], [stop], LONG)
        assert decoder.finish() == [free[: free.index(stop)]]
        assert decoder.ended == [True]
        assert len(seen) - 1 == (free.index(stop) + 1 if every == 1 else 6)  # the prefill asks for nothing


def attention_operators(action: Any) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        action()
    return {e.key for e in seen.key_averages() if "_scaled_dot_product" in e.key}


def fused_with_shared_heads() -> bool:
    """Whether this torch has a fused kernel for grouped heads on a CPU; 2.8 does not."""
    query, key = torch.zeros(1, 4, 1, 8), torch.zeros(1, 2, 5, 8)
    run = torch.nn.functional.scaled_dot_product_attention
    return "aten::_scaled_dot_product_attention_math" not in attention_operators(
        lambda: run(query, key, key, enable_gqa=True)
    )


@pytest.mark.skipif(not fused_with_shared_heads(), reason="this torch has no fused kernel for grouped heads on a CPU")
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["no padding", "padding"])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_every_step_runs_the_fused_attention(kind: str, prompts: list[list[int]]) -> None:
    model = language_model(kind)
    prefix = prefixed(model, prompts)
    found = attention_operators(lambda: Decoder(model, prefix, QUESTIONS[:1], [447], LONG).finish())
    assert found == {"aten::_scaled_dot_product_flash_attention_for_cpu"}


def test_a_step_without_padding_has_no_mask() -> None:
    model, masks = language_model(), []
    model.model.layers[0].self_attn.register_forward_pre_hook(
        lambda module, args, given: masks.append(given["attention_mask"]), with_kwargs=True
    )
    prefix = prefixed(model, PROMPTS[:1])
    masks.clear()
    Decoder(model, prefix, [[30, 31], [32, 33]], [447], GenerationOptions(max_new_tokens=4)).finish()
    assert [m is None for m in masks] == [False, True, True, True]
