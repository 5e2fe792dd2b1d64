"""Distinct-n by hand and as properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.scoring import corpus_distinct_n, distinct_n, distinct_n_values
from nanoemox.types import NanoEmoXError

texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), min_size=1, max_size=12)


def test_by_hand() -> None:
    replies = ["I am sorry I am", "so sorry", "", "sorry"]
    assert distinct_n_values(replies, 1)[[0, 1, 3]].tolist() == [3 / 5, 1, 1]
    assert math.isnan(distinct_n_values(replies, 1)[2])
    assert distinct_n(replies, 1) == pytest.approx((3 / 5 + 1 + 1) / 3)
    assert distinct_n(replies, 2) == pytest.approx((3 / 4 + 1) / 2)
    assert corpus_distinct_n(replies, 1) == pytest.approx(4 / 8)
    assert corpus_distinct_n(replies, 2) == pytest.approx(4 / 5)


def test_tokens_ignore_case_and_keep_punctuation() -> None:
    assert corpus_distinct_n(["Sorry sorry, sorry"], 1) == pytest.approx(2 / 3)


def test_repetition_across_replies_lowers_only_the_corpus_score() -> None:
    replies = ["that sounds hard"] * 50
    assert distinct_n(replies, 1) == 1
    assert corpus_distinct_n(replies, 1) == pytest.approx(3 / 150)


def test_without_n_grams_the_score_is_zero() -> None:
    assert distinct_n([], 1) == distinct_n(["", "one"], 2) == 0
    assert corpus_distinct_n([], 1) == corpus_distinct_n(["one"], 2) == 0


def test_n_is_checked() -> None:
    with pytest.raises(NanoEmoXError, match="n is 0"):
        distinct_n(["a"], 0)


@given(texts, st.integers(1, 3))
def test_properties(replies: list[str], n: int) -> None:
    for score in (distinct_n, corpus_distinct_n):
        value = score(replies, n)
        assert 0 <= value <= 1
        assert score(replies[::-1], n) == pytest.approx(value)
        assert score([reply.upper() for reply in replies], n) == value
    assert corpus_distinct_n(replies * 2, n) == pytest.approx(corpus_distinct_n(replies, n) / 2)
    assert distinct_n(replies * 2, n) == pytest.approx(distinct_n(replies, n))
