"""What the tools of `small` make of samples: replies, explanations, lists, copies of voices."""

from __future__ import annotations

import numpy as np
import pytest

from nanoemox.data.manifest import ClosedLabels, Sample, TextLabels
from nanoemox.tasks import LABEL_SETS
from tools.small.data import bare_explanations, renamed, short_lists, split_of, talk, with_polarity
from tools.small.expression import converted
from tools.small.replies import TONES, reply_to
from tools.small.voices import changed, trimmed


def comment(key: str, text: str, label: str, split: str = "train") -> Sample:
    labels = ClosedLabels(label=label, candidates=LABEL_SETS["goemotions_ekman"])
    return Sample(id=key, corpus="goemotions", split=split, task="mer", labels=labels, subtitle=text)  # type: ignore[arg-type]


def test_an_achievement_is_congratulated_and_a_loss_mourned() -> None:
    won = reply_to("I finally got the job!", TONES["happy"], "a")
    assert won.reply.startswith("Congratulations!")
    assert won.think is not None
    assert (won.think.emotion, won.think.scenario) == ("happy", "the person talks about problems at work")
    assert reply_to("My dog died.", TONES["sad"], "b").reply.startswith("I am so sorry for your loss.")


def test_replies_differ_and_quote_only_what_was_said() -> None:
    text = "this is so scary honestly help"
    replies = {reply_to(text, TONES["fearful"], str(i)).reply for i in range(60)}
    assert len(replies) > 20
    quotes = {r.split('"')[1] for r in replies if '"' in r}
    assert quotes == {"is so scary honestly"}


def test_explanations_name_the_polarity_and_sentiment_is_never_asked() -> None:
    found = bare_explanations([comment("a", "no way", "fear"), comment("b", "well", "surprise")], explained=set())
    texts = [with_polarity(s).labels for s in found]
    assert [t.text for t in texts if isinstance(t, TextLabels)] == [
        "This points to a negative feeling: fear.",
        "This points to surprise.",
    ]
    assert {s.task for s in found} == {"eri"}


def test_intents_are_asked_with_short_lists_that_hold_the_answer() -> None:
    labels = ClosedLabels(label="thank", candidates=LABEL_SETS["mintrec"])
    sample = Sample(id="x", corpus="mintrec", split="train", task="mir", labels=labels, subtitle="Thanks!")
    first, *others = short_lists(sample)
    assert first == sample
    assert len(others) == 3
    for other in others:
        assert isinstance(other.labels, ClosedLabels)
        assert "thank" in other.labels.candidates
        assert 6 <= len(other.labels.candidates) <= 9
    held = sample.model_copy(update={"split": "validation"})
    assert short_lists(held) == [held]


def test_held_out_comments_keep_their_names() -> None:
    named = {renamed(comment(str(i), "x", "joy")).labels.label for i in range(40)}  # type: ignore[union-attr]
    assert named == {"joy", "happy"}
    kept = {renamed(comment(str(i), "x", "joy", "validation")).labels.label for i in range(40)}  # type: ignore[union-attr]
    assert kept == {"joy"}


def test_talk_is_evened_out() -> None:
    many = [comment(str(i), "this is fine then", "neutral") for i in range(700)]
    assert len(talk(many, "talk")) == 500


@pytest.mark.parametrize("name", ["AJ_Cook_0001.jpg", "AJ_Cook_0013.jpg"])
def test_photographs_of_one_person_lie_on_one_side(name: str) -> None:
    assert split_of(name) == split_of("AJ_Cook_0002.jpg")


def test_another_recording_is_finite_bounded_and_repeatable() -> None:
    sound = np.zeros(32_000, np.float32)
    sound[8_000:24_000] = 0.1 * np.sin(np.arange(16_000) / 10)
    assert 16_000 <= len(trimmed(sound, np.random.default_rng(0))) <= 16_000 + 2 * 6_400 + 320
    for seed in range(12):
        copy = changed(sound, np.random.default_rng(seed))
        assert copy.dtype == np.float32
        assert np.isfinite(copy).all()
        assert np.abs(copy).max() <= 1
        np.testing.assert_array_equal(copy, changed(sound, np.random.default_rng(seed)))


def test_filters_change_their_order_of_axes() -> None:
    import torch

    state = converted({"dense0/conv0/filters": torch.zeros(3, 3, 3, 32), "fc/weights": torch.zeros(256, 7),
                       "dense1/conv2/depthwise_filter": torch.zeros(3, 3, 64, 1)})  # fmt: skip
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "blocks.0.convolutions.0.weight": (32, 3, 3, 3),
        "head.weight": (7, 256),
        "blocks.1.convolutions.2.depthwise.weight": (64, 1, 3, 3),
    }
