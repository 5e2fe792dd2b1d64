"""Training samples of ``small``: replies, explanations, candidate lists, augmented voices."""

from __future__ import annotations

import numpy as np
import pytest

from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, TextLabels
from nanoemox.tasks import LABEL_SETS
from tools.small.data import (
    bare_explanations,
    chat_samples,
    short_candidate_lists,
    split_of,
    with_common_labels,
    with_polarity,
)
from tools.small.expression import converted
from tools.small.replies import TONES, paraphrase, reply_to, tone_of, topic_of, wordless_reply
from tools.small.situations import situations
from tools.small.voices import rerecorded, trim


def comment(key: str, text: str, label: str, split: str = "train") -> Sample:
    labels = ClosedLabels(label=label, candidates=LABEL_SETS["goemotions_ekman"])
    return Sample(id=key, corpus="goemotions", split=split, task="mer", labels=labels, subtitle=text)  # type: ignore[arg-type]


def test_replies_fit_achievements_and_losses() -> None:
    won = reply_to("I finally got the job!", TONES["happy"], "a")
    assert won.reply.startswith("Congratulations!")
    assert won.think is not None
    assert (won.think.emotion, won.think.scenario) == ("happy", "the person talks about problems at work")
    assert reply_to("My dog died.", TONES["sad"], "b").reply.startswith("I am so sorry for your loss.")


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("I finally got the job!", "you finally got the job"),
        ("Wow. My boss shouted at me, and I am done.", "your boss shouted at you, and you are done"),
        ("They're late. Again.", None),
        ("Do I look happy?", None),
        ("I hate you so much.", None),
        ("I paid 200 for that.", None),
        ("Nice weather today.", None),
    ],
)
def test_paraphrase_only_where_it_makes_sense(text: str, back: str | None) -> None:
    assert paraphrase(text) == back


@pytest.mark.parametrize(
    ("text", "matter"),
    [
        ("Look at my old blue car!", "your old blue car"),
        ("it is an awful lineup and it failed", "the awful lineup"),
        ("Well, that is what it is.", None),
        ("the dog died yesterday", "the dog"),
    ],
)
def test_topic_of_a_comment(text: str, matter: str | None) -> None:
    assert topic_of(text) == matter


def test_replies_paraphrase_text_and_describe_silent_faces() -> None:
    assert "So you lost your keys." in reply_to("I lost my keys.", tone_of("sad"), "a").reply
    silent = wordless_reply(tone_of("calm"), "a")
    assert '"' not in silent.reply
    assert silent.think is not None
    assert silent.think.emotion == "calm"


def test_whole_situations_are_held_out_and_chains_cite_only_the_text() -> None:
    found = list(situations())
    assert {s.task for s in found} == {"mer", "eri", "erg"}
    assert not {s.subtitle for s in found if s.split == "train"} & {
        s.subtitle for s in found if s.split == "validation"
    }
    assert len({s.id for s in found}) == len(found)
    replies = [s for s in found if isinstance(s.labels, ReplyLabels)]
    assert not any("{" in f"{s.subtitle}{s.labels.reply}" for s in replies if isinstance(s.labels, ReplyLabels))
    kin = [s for s in replies if isinstance(s.labels, ReplyLabels) and "grandmother" in s.labels.reply]
    assert kin
    assert all("grandmother" in (s.subtitle or "") for s in kin)


def test_explanations_name_the_polarity_and_sentiment_is_not_trained() -> None:
    found = bare_explanations([comment("a", "no way", "fear"), comment("b", "well", "surprise")], explained=set())
    texts = [with_polarity(s).labels for s in found]
    assert [t.text for t in texts if isinstance(t, TextLabels)] == [
        "This points to a negative feeling: fear.",
        "This points to surprise.",
    ]
    assert {s.task for s in found} == {"eri"}


def test_intent_samples_have_short_candidate_lists_with_the_answer() -> None:
    labels = ClosedLabels(label="thank", candidates=LABEL_SETS["mintrec"])
    sample = Sample(id="x", corpus="mintrec", split="train", task="mir", labels=labels, subtitle="Thanks!")
    first, *others = short_candidate_lists(sample)
    assert first == sample
    assert len(others) == 1
    for other in others:
        assert isinstance(other.labels, ClosedLabels)
        assert "thank" in other.labels.candidates
        assert 6 <= len(other.labels.candidates) <= 9
    held = sample.model_copy(update={"split": "validation"})
    assert short_candidate_lists(held) == [held]


def test_held_out_comments_keep_their_names() -> None:
    named = {with_common_labels(comment(str(i), "x", "joy")).labels.label for i in range(40)}  # type: ignore[union-attr]
    assert named == {"joy", "happy"}
    kept = {with_common_labels(comment(str(i), "x", "joy", "validation")).labels.label for i in range(40)}  # type: ignore[union-attr]
    assert kept == {"joy"}


def test_chat_samples_are_balanced() -> None:
    many = [comment(str(i), "I am fine then", "neutral") for i in range(700)]
    assert len(chat_samples(many)) == 500
    plain = [comment(str(i), "this is fine then", "neutral") for i in range(700)]
    assert len(chat_samples(plain)) == 40
    assert not chat_samples([comment("a", "nobody says such long and plain things of themselves here", "neutral")])


@pytest.mark.parametrize("name", ["AJ_Cook_0001.jpg", "AJ_Cook_0013.jpg"])
def test_photographs_of_a_person_share_a_split(name: str) -> None:
    assert split_of(name) == split_of("AJ_Cook_0002.jpg")


def test_another_recording_is_finite_bounded_and_repeatable() -> None:
    sound = np.zeros(32_000, np.float32)
    sound[8_000:24_000] = 0.1 * np.sin(np.arange(16_000) / 10)
    assert 16_000 <= len(trim(sound, np.random.default_rng(0))) <= 16_000 + 2 * 6_400 + 320
    for seed in range(12):
        copy = rerecorded(sound, np.random.default_rng(seed))
        assert copy.dtype == np.float32
        assert np.isfinite(copy).all()
        assert np.abs(copy).max() <= 1
        np.testing.assert_array_equal(copy, rerecorded(sound, np.random.default_rng(seed)))


def test_filters_change_their_order_of_axes() -> None:
    import torch

    state = converted({"dense0/conv0/filters": torch.zeros(3, 3, 3, 32), "fc/weights": torch.zeros(256, 7),
                       "dense1/conv2/depthwise_filter": torch.zeros(3, 3, 64, 1)})  # fmt: skip
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "blocks.0.convolutions.0.weight": (32, 3, 3, 3),
        "head.weight": (7, 256),
        "blocks.1.convolutions.2.depthwise.weight": (64, 1, 3, 3),
    }
