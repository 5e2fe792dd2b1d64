"""Properties of the whole model: padded = single, cached = uncached, saved = loaded, gradients where declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from nanoemox.model.cache import CACHE_NAME, cache_argument
from nanoemox.model.lora import group_of
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask
from tests.tiny import WHISPER_TINY, tiny_clip, tiny_config, tiny_model, tiny_processor

MIXES = [(), ("speech",), ("face",), ("vision", "face"), ("text",), ("vision", "speech", "face")]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_mixed_batch_equals_single_samples(side: str) -> None:
    model, processor = tiny_model(), tiny_processor()
    clips = [tiny_clip(i, without=w, subtitle="well " * (i + 1)) for i, w in enumerate(MIXES)]
    asks = [Ask("msa"), Ask("mer"), Ask("mir"), Ask("eri"), Ask("erg"), Ask("ovmer")]
    batch = processor(clips, asks, padding_side=side)
    with torch.no_grad():
        together = model(**batch).logits
        for row, (clip, ask) in enumerate(zip(clips, asks, strict=True)):
            alone = model(**processor(clip, ask)).logits[0]
            kept = together[row][batch["attention_mask"][row].bool()]
            # Rounding alone reaches 1.6e-5: the model normalises in float32 whatever its own precision.
            torch.testing.assert_close(kept, alone, atol=3e-5, rtol=3e-4)


def test_cached_decoding_equals_uncached() -> None:
    model, processor = tiny_model(), tiny_processor()
    inputs = processor([tiny_clip(0), tiny_clip(1, without=("speech",))], [Ask("eri"), Ask("msa")])
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    # Without a cache a placeholder that the model wrote itself cannot be told from one of the prompt.
    options["suppress_tokens"] = list(model.config.placeholder_token_ids.values())
    cached = model.generate(**inputs, **options, use_cache=True)
    uncached = model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(cached, uncached)


@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": False},
        {"do_sample": True, "temperature": 0.7, "top_k": 0},
        {"do_sample": False, "num_beams": 3},
        {"do_sample": False, "num_beams": 2, "num_return_sequences": 2},
    ],
    ids=["greedy", "sampled", "beams", "beams-2"],
)
def test_generate_on_unequal_lengths_equals_single_samples(how: dict[str, Any]) -> None:
    model, processor = tiny_model(), tiny_processor()
    clips = [tiny_clip(0), tiny_clip(1, without=("speech", "face"), subtitle="well")]
    asks = [Ask("eri"), Ask("msa")]
    options = {"max_new_tokens": 8, "pad_token_id": 0, "eos_token_id": None, **how}
    batch = processor(clips, asks, padding_side="left")
    torch.manual_seed(3)
    together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    copies = how.get("num_return_sequences", 1)
    assert together.shape == (2 * copies, 8)
    if how["do_sample"]:  # the rows share one random stream, so a row alone draws other numbers
        torch.manual_seed(3)
        assert torch.equal(together, model.generate(**batch, **options)[:, -8:])
        return
    for row, (clip, ask) in enumerate(zip(clips, asks, strict=True)):
        alone = model.generate(**processor(clip, ask), **options)[:, -8:]
        assert torch.equal(together[row * copies : (row + 1) * copies], alone)


def test_generate_accepts_inputs_embeds() -> None:
    model, inputs = tiny_model(), tiny_processor()(tiny_clip(), Ask("eri"))
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    media = {k: v for k, v in inputs.items() if k not in {"input_ids", "attention_mask"}}
    with torch.no_grad():
        embedded, _ = model.embed(inputs["input_ids"], media)
    written = model.generate(inputs_embeds=embedded, attention_mask=inputs["attention_mask"], **options)
    assert torch.equal(written, model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :])


def test_forward_returns_the_cache_and_passes_other_arguments_on() -> None:
    model, inputs = tiny_model(), tiny_processor()(tiny_clip(), Ask("msa"))
    with torch.no_grad():
        out = model(**inputs, use_cache=True, output_hidden_states=True, return_dict=True)
        assert CACHE_NAME not in model(**inputs, use_cache=False)
    length = inputs["input_ids"].shape[1]
    assert out[CACHE_NAME].get_seq_length() == length
    assert len(out.hidden_states) == 3
    following = torch.tensor([[40]])
    with torch.no_grad():
        step = model(
            input_ids=following,
            attention_mask=torch.ones(1, length + 1, dtype=torch.long),
            position_ids=torch.tensor([[length]]),
            cache=out[CACHE_NAME],
        )
        whole = dict(inputs) | {
            "input_ids": torch.cat([inputs["input_ids"], following], dim=1),
            "attention_mask": torch.ones(1, length + 1, dtype=torch.long),
        }
        torch.testing.assert_close(step.logits[:, -1], model(**whole).logits[:, -1], atol=3e-5, rtol=3e-4)


def test_media_after_a_cached_prefix_are_encoded() -> None:
    """Words first, then a clip: in two passes as in one."""
    model, processor = tiny_model(), tiny_processor()
    inputs = processor(tiny_clip(), Ask("msa"))
    media = {k: v for k, v in inputs.items() if k not in {"input_ids", "attention_mask"}}
    ids = inputs["input_ids"]
    with torch.no_grad():
        whole = model(**inputs).logits
        cache = model(input_ids=ids[:, :1], use_cache=True)[CACHE_NAME]
        rest = {"position_ids": torch.arange(1, ids.shape[1])[None], "attention_mask": torch.ones_like(ids)}
        after = model(input_ids=ids[:, 1:], **rest, **cache_argument(cache), **media).logits
        torch.testing.assert_close(after, whole[:, 1:], atol=3e-5, rtol=3e-4)
        with pytest.raises(ValueError, match=r"vision: the prompt holds 0 placeholder\(s\) but the media give 4 token"):
            model(input_ids=ids[:, -1:], **cache_argument(cache), **media)


def test_eval_mode_is_deterministic() -> None:
    model, inputs = tiny_model(), tiny_processor()(tiny_clip(), Ask("msa"))
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)


def test_cached_features_equal_raw_media() -> None:
    model, processor = tiny_model(), tiny_processor()
    inputs = processor(tiny_clip(), Ask("msa"))
    with torch.no_grad():
        raw = model(**inputs)
        words = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        again = model(**words, **raw.features)
    assert torch.equal(raw.logits, again.logits)
    torch.testing.assert_close(raw.gate.sum(-1), torch.ones(1))
    assert raw.attention.keys() == {"vision", "speech", "face"}
    for share in raw.attention.values():
        assert share.shape == (1, 4)
        torch.testing.assert_close(share.sum(-1), torch.ones(1))


@pytest.mark.parametrize("change", [1, -1])
def test_placeholder_mismatch_names_both_counts(change: int) -> None:
    model, processor = tiny_model(), tiny_processor()
    inputs = processor(tiny_clip(), Ask("msa"))
    ids = inputs["input_ids"]
    at = (ids[0] == processor.config.vision_token_id).nonzero()[0, 0]
    inputs["input_ids"] = torch.cat([ids[:, :at], ids[:, at : at + 1], ids[:, at:]], 1) if change > 0 else torch.cat(
        [ids[:, :at], ids[:, at + 1 :]], 1
    )  # fmt: skip
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with pytest.raises(ValueError, match=rf"vision: the prompt holds {4 + change} placeholder\(s\).* 4 token"):
        model(**inputs)


def test_media_without_placeholders_raises_too() -> None:
    model, processor = tiny_model(), tiny_processor()
    inputs = processor(tiny_clip(without=("speech",)), Ask("msa"))
    with pytest.raises(ValueError, match=r"speech: the prompt holds 0 placeholder\(s\) but the media give 4"):
        model(**inputs, speech_values=torch.zeros(1, 4, 8000))


def test_save_load_gives_the_same_logits_and_stores_tied_weights_once(tmp_path: Path) -> None:
    model, inputs = tiny_model(), tiny_processor()(tiny_clip(), Ask("msa"))
    model.save_pretrained(tmp_path)
    (tmp_path / "other").touch()
    weights = tmp_path / "model.safetensors"
    assert weights.stat().st_mode == (tmp_path / "other").stat().st_mode, "others of this machine cannot read it"
    again = NanoEmoXForConditionalGeneration.from_pretrained(tmp_path)
    different = [n for n, t in model.state_dict().items() if not torch.equal(t, again.state_dict()[n])]
    assert not different
    with torch.no_grad():
        # Memory of a mapped file is aligned differently, and kernels then sum in another order.
        torch.testing.assert_close(model(**inputs).logits, again(**inputs).logits, atol=1e-5, rtol=1e-5)
    with safe_open(tmp_path / "model.safetensors", "pt") as handle:
        names = set(handle.keys())
    assert not any("lm_head" in n for n in names)
    # The library writes some encoders under the names of the hub's checkpoints; nothing is lost or stored twice.
    assert len(names) == len(again.state_dict()) - 1


def test_bfloat16_is_close_to_float32() -> None:
    # Bound: 8 bits of mantissa through ~20 layers; measured 0.02-0.03 of the largest logit on this model.
    model, inputs = tiny_model(), tiny_processor()(tiny_clip(), Ask("msa"))
    with torch.no_grad():
        full = model(**inputs).logits
        half = tiny_model().to(torch.bfloat16)(**inputs).logits
    assert half.dtype == torch.bfloat16
    assert (full - half.float()).abs().max() <= 0.1 * full.abs().max()


def test_gradients_reach_every_adapter_and_the_language_model() -> None:
    model, processor = tiny_model().train(), tiny_processor()
    model(**processor(tiny_clip(), Ask("msa", answer="positive"))).loss.backward()
    without = {n for n, p in model.named_parameters() if p.grad is None and group_of(n) is not None}
    # Position rows beyond the clip's frames get a zero gradient, but the table as a whole gets one.
    assert not without
    reached = {group_of(n) for n, p in model.named_parameters() if p.grad is not None}
    assert reached >= {"vision_adapter", "speech_adapter", "face_adapter", "fusion"}


def test_logits_at_answer_positions_give_the_same_loss() -> None:
    model, processor = tiny_model(), tiny_processor()
    batch = processor([tiny_clip(0), tiny_clip(1)], [Ask("msa", answer="positive"), Ask("ovmer", answer="a, b, c")])
    labels = batch["labels"]
    following = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:] != -100
    with torch.no_grad():
        everywhere = model(**batch)
        there = model(**batch, logits_to_keep=following)
        summed = model(**batch, logits_to_keep=following, num_items_in_batch=torch.tensor(10))
    assert there.logits.shape == (int(following.sum()), model.config.text_config.vocab_size)
    torch.testing.assert_close(everywhere.loss, there.loss)
    torch.testing.assert_close(summed.loss * 10 / following.sum(), there.loss)


@pytest.mark.parametrize(
    "sections",
    [
        {"fusion": {"kind": "attention"}},
        {"fusion": {"kind": "none"}},
        {"fusion": {"pairing": "cross", "gate": "mean", "shared_projection": True, "time_position": False}},
        {"vision": {"taps": [1, 4]}, "speech": {"taps": [2, 3]}},
        {"vision": {"taps": [1, 2, 3, 4]}, "speech": {"taps": [1, 2, 3, 4]}},
        {"vision": {"frame_tokens": "grid2", "num_queries": 8}},
        {"speech": {"encoder": WHISPER_TINY, "window_s": 2.0}},
        {"face": {"crop": "whole_frame", "normalise": "none", "time_position": False}},
        {"face": {"raw_stages": False}},
        {"fusion": {"num_tokens": 3}},
    ],
)
def test_every_choice_is_a_field(sections: dict[str, dict[str, object]]) -> None:
    config = tiny_config(**sections)
    model, processor = tiny_model(config), tiny_processor(config)
    with torch.no_grad():
        out = model(**processor(tiny_clip(), Ask("msa")))
    assert torch.isfinite(out.logits).all()


def test_branches_are_optional() -> None:
    config = tiny_config()
    config.branches = ["speech"]
    model, processor = tiny_model(config), tiny_processor(config)
    assert model.vision_encoder is None
    assert model.fusion is None
    with torch.no_grad():
        out = model(**processor(tiny_clip(), Ask("msa")))
    assert out.attention.keys() == {"speech"}
    assert out.gate is None


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_any_causal_language_model(kind: str) -> None:
    config = tiny_config(kind)
    with torch.no_grad():
        out = tiny_model(config)(**tiny_processor(config)(tiny_clip(), Ask("msa")))
    assert torch.isfinite(out.logits).all()


def test_placeholder_ids_may_exceed_the_vocabulary() -> None:
    config = tiny_config()
    shifted = {f"{b}_token_id": 10_000 + i for i, b in enumerate(("vision", "speech", "face", "fusion"))}
    model, processor = tiny_model(config), tiny_processor(config)
    with torch.no_grad():
        before = model(**processor(tiny_clip(), Ask("msa"))).logits
        for name, value in shifted.items():
            setattr(config, name, value)
        after = model(**processor(tiny_clip(), Ask("msa"))).logits
    assert torch.equal(before, after)
