"""Branches of a shared cache equal separate full sequences, for every kind of language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from nanoemox.inference.decoding import Choice, Decoder, GenerationOptions, Prefix, TokenTree, prefill, score
from nanoemox.types import NanoEmoXError
from tests.tiny import text_config

END = [2]
KINDS = [("qwen2", "sdpa"), ("qwen2", "eager"), ("qwen3", "sdpa"), ("llama", "sdpa"), ("llama", "eager")]
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24, 25, 26, 27, 28]]


def language_model(kind: str = "qwen2", attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    fields = text_config(kind)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids = torch.tensor([p + [0] * (longest - len(p)) for p in prompts])
    return ids, torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts])


def prefixed(model: Any, prompts: list[list[int]]) -> Prefix:
    return prefill(model, *padded(prompts))


def brute_force(model: Any, prompt: list[int], candidate: list[int]) -> float:
    """Log-probability of a candidate after a prompt, as one plain sequence."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + candidate])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(candidate))


CHOICES = [
    # Shared starts, a candidate that is the start of another, one token, many tokens, the same start as its question.
    Choice([30, 31, 32], [[40, 41, 42, 2], [40, 41, 43, 44, 2], [40, 2], [40, 41, 2], [50, 2], [30, 31, 32, 2]]),
    Choice([30, 31], [[32, 2], [32, 40, 2]]),
    Choice([60], [[61, 62, 63, 64, 65, 66, 2], [66, 2]]),
]


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_tree_scores_equal_separate_sequences(kind: str, attention: str) -> None:
    model = language_model(kind, attention)
    scores = score(model, prefixed(model, PROMPTS), CHOICES)
    for choice, found in zip(CHOICES, scores, strict=True):
        assert found.shape == (len(PROMPTS), len(choice.candidates))
        for b, prompt in enumerate(PROMPTS):
            wanted = [brute_force(model, [*prompt, *choice.question], list(c)) for c in choice.candidates]
            torch.testing.assert_close(found[b], torch.tensor(wanted), atol=1e-5, rtol=1e-5)


@given(st.data())
def test_tree_scores_equal_separate_sequences_for_any_candidates(data: st.DataObject) -> None:
    model = MODEL
    ids = st.lists(st.integers(3, 6), min_size=1, max_size=4)
    question = data.draw(ids)
    candidates = [[*c, 2] for c in data.draw(st.lists(ids, min_size=1, max_size=6, unique_by=tuple))]
    found = score(model, prefixed(model, PROMPTS[:1]), [Choice(question, candidates)])[0][0]
    wanted = [brute_force(model, PROMPTS[0] + question, c) for c in candidates]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-5, rtol=1e-5)


MODEL = language_model()


def test_candidate_order_does_not_matter() -> None:
    prefix = prefixed(MODEL, PROMPTS)
    forward = score(MODEL, prefix, [CHOICES[0]])[0]
    turned = score(MODEL, prefix, [Choice(CHOICES[0].question, CHOICES[0].candidates[::-1])])[0]
    torch.testing.assert_close(forward, turned.flip(1), atol=1e-6, rtol=1e-6)


def test_branches_do_not_change_the_prefix() -> None:
    prefix = prefixed(MODEL, PROMPTS)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in prefix.cache.layers]
    score(MODEL, prefix, CHOICES)
    list(Decoder(MODEL, prefix, [[30], [31, 32]], END, GenerationOptions(max_new_tokens=4)))
    for layer, (keys, values) in zip(prefix.cache.layers, before, strict=True):
        torch.testing.assert_close(layer.keys, keys, atol=0, rtol=0)
        torch.testing.assert_close(layer.values, values, atol=0, rtol=0)


def test_tree_merges_shared_starts() -> None:
    tree = TokenTree()
    paths = [tree.add([1, 2, 3]), tree.add([1, 2, 4]), tree.add([1])]
    assert paths == [[0, 1, 2], [0, 1, 3], [0]]
    assert tree.depths == [0, 1, 2, 2]
    assert tree.ancestors().int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]


QUESTIONS = [[30, 31, 32, 33], [34], [35, 36]]


def generated(model: Any, prompt: list[int], **options: Any) -> list[int]:
    """What ``generate`` of the library writes after one plain prompt, without the terminator."""
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=2, pad_token_id=0, **options)
    new: list[int] = out[0, len(prompt) :].tolist()
    return new[: new.index(2)] if 2 in new else new


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_greedy_rows_equal_generate(kind: str, attention: str) -> None:
    model = language_model(kind, attention)
    decoder = Decoder(model, prefixed(model, PROMPTS), QUESTIONS, END, GenerationOptions(max_new_tokens=24))
    steps = sum(1 for _ in decoder)
    assert steps <= 24
    wanted = [generated(model, p + q, max_new_tokens=24, do_sample=False) for p in PROMPTS for q in QUESTIONS]
    assert decoder.answers == wanted


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1.0}, {"temperature": 0.7, "top_k": 20}, {"temperature": 1.5, "top_p": 0.8, "top_k": 50}],
)
def test_sampled_rows_equal_generate(options: dict[str, Any]) -> None:
    ours = GenerationOptions(max_new_tokens=16, seed=7, **options)
    decoder = Decoder(MODEL, prefixed(MODEL, PROMPTS), QUESTIONS, END, ours)
    list(decoder)
    theirs = {"top_k": 0, "top_p": 1.0} | options
    wanted = []
    for prompt in [p + q for p in PROMPTS for q in QUESTIONS]:
        torch.manual_seed(7)
        wanted.append(generated(MODEL, prompt, max_new_tokens=16, do_sample=True, **theirs))
    assert decoder.answers == wanted


def test_head_runs_only_at_the_ends_of_questions() -> None:
    model, seen = language_model(), []
    model.lm_head.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[:2]))
    prefix = prefixed(model, PROMPTS)
    seen.clear()
    questions = [[30, 31, 32, 33, 34, 35], [40, 41], [42, 43]]
    for _ in Decoder(model, prefix, questions, [-1], GenerationOptions(max_new_tokens=2)):
        pass
    assert seen == [(9, 2), (9, 1)]


def test_terminator_of_several_tokens_ends_a_row() -> None:
    free = Decoder(MODEL, prefixed(MODEL, PROMPTS[:1]), QUESTIONS, [447], GenerationOptions(max_new_tokens=12))
    list(free)
    ids = free.answers[0]
    cut = next(i for i in range(2, 11) if ids[i : i + 2] not in [ids[j : j + 2] for j in range(i)])
    decoder = Decoder(
        MODEL, prefixed(MODEL, PROMPTS[:1]), QUESTIONS[:1], ids[cut : cut + 2], GenerationOptions(max_new_tokens=12)
    )
    steps = list(decoder)
    assert decoder.answers == [ids[:cut]]
    assert decoder.ended == [True]
    assert len(steps) == cut + 2


def test_length_is_bounded() -> None:
    decoder = Decoder(MODEL, prefixed(MODEL, PROMPTS), QUESTIONS, [447], GenerationOptions(max_new_tokens=1))
    assert len(list(decoder)) == 1
    assert all(len(a) <= 1 for a in decoder.answers)


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"max_new_tokens": 1025}, {"temperature": -1}, {"top_p": 0}, {"top_k": -1}]
)
def test_options_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(NanoEmoXError, match=next(iter(wrong))):
        GenerationOptions(**wrong)
