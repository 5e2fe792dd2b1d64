"""A step in fixed memory, as CUDA replays it, equals a step whose cache grows, and never waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nanoemox.inference import decoding
from nanoemox.inference.decoding import Decoder, GenerationOptions, prefill
from nanoemox.inference.sampling import Sampler, TokenBuffer
from nanoemox.inference.steps import FixedStep
from tests.inference.test_decoding import END, KINDS, PROMPTS, language_model, padded
from tests.tiny import tiny_model

QUESTIONS = [[40, 41, 42], [50]]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def answers(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    ids, mask = (t.to(model.device) for t in padded(prompts))
    return Decoder(model, prefill(model, ids, mask), QUESTIONS, END, GenerationOptions(max_new_tokens=12)).finish()


@pytest.mark.parametrize(("kind", "attention"), KINDS)
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["alone", "padded"])
def test_fixed_memory_changes_no_answer(
    kind: str, attention: str, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model(kind, attention)
    growing = answers(model, prompts)
    monkeypatch.setattr(decoding, "step_of", lambda device: FixedStep)
    assert answers(model, prompts) == growing
    assert len({tuple(a) for a in growing}) > 1


def model_without_values() -> Any:
    with torch.device("meta"):
        return tiny_model().eval()


def steps_on_fake_tensors(model: Any, options: tuple[float, float, int], steps: int = 3) -> None:
    """Choose, keep and run tokens on tensors without values: to read one, or to mix devices, is an error."""
    width, layers = model.config.text_config.hidden_size, model.config.text_config.num_hidden_layers
    heads, groups = model.config.text_config.num_attention_heads, model.config.text_config.num_key_value_heads
    device = torch.device("meta")
    states = torch.zeros(2, groups, 5, width // heads, device=device)
    cache: Any = SimpleNamespace(layers=[SimpleNamespace(keys=states, values=states)] * layers)
    keep = torch.ones(2, 5, dtype=torch.bool, device=device)
    step = FixedStep(model, cache, keep, keep.sum(dim=1), steps)
    choose = Sampler(*options, seed=0, device=torch.device("cpu"))
    choose._random = None  # tensors without values take no generator
    written = TokenBuffer(2, steps + 1, [3, 4], device)
    logits = torch.zeros(2, model.config.text_config.vocab_size, device=device)
    for _ in range(steps):
        chosen = choose(logits)
        written.append(chosen)
        logits = step(chosen)
    assert logits.device.type == "meta"
    assert logits.shape == (2, model.config.text_config.vocab_size)


@pytest.mark.parametrize("options", [(0.0, 1.0, 0), (0.7, 0.9, 5)], ids=["greedy", "sampled"])
def test_a_step_neither_waits_for_the_device_nor_leaves_it(options: tuple[float, float, int]) -> None:
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        steps_on_fake_tensors(model_without_values(), options)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda out: bool(out.logits.sum() > 0), "_local_scalar_dense"),
        (lambda out: out.logits + torch.zeros(1), "devices"),
    ],
    ids=["a wait", "another device"],
)
def test_the_fake_tensors_notice(wrong: Callable[[Any], Any], says: str) -> None:
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        model = model_without_values()
        model.register_forward_hook(lambda module, inputs, out: wrong(out))
        with pytest.raises(Exception, match=says):
            steps_on_fake_tensors(model, (0.0, 1.0, 0))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["alone", "padded"])
def test_a_graph_gives_the_answers_of_the_cpu(prompts: list[list[int]], caplog: pytest.LogCaptureFixture) -> None:
    model = language_model()
    expected = answers(model, prompts)
    assert answers(model.cuda(), prompts) == expected
    assert not caplog.messages, "the step was not captured"
