"""Extraction of emotion words: single rules, and agreement with the published extraction on real outputs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from benchmarks.extraction import measure, shortened_as_published
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.scoring.corrected.extraction import agreement, extract_words, is_list
from nanoemox.scoring.corrected.lexicon import look_up, words
from nanoemox.types import NanoEmoXError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The character's emotional state is tense, uneasy, negative.", ("tense", "uneasy", "negative")),
        ("happy, Excited and joyful", ("happy", "excited", "joyful")),
        ("[care, concern, worry]", ("care", "concern", "worry")),
        ("Emotions: grumblish, sad", ("grumblish", "sad")),
        ("neutral", ("neutral",)),
        ("happy, glorpy", ("happy", "glorpy")),
        ("1. Happiness\n2. Self-doubt", ("happiness", "self-doubt")),
        ("<think>He may be angry.</think> sad, tired", ("sad", "tired")),
        ("生气", ("生气",)),
        ("[]", ()),
    ],
)
def test_list_words_stay_as_written(text: str, expected: tuple[str, ...]) -> None:
    assert is_list(text.rpartition(">")[2])
    assert extract_words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She feels sad and disappointed.", {"sad", "disappointed"}),
        ("He is not angry but appears sad.", {"sad"}),
        ("She is not angry or upset; she seems calm.", {"calm"}),
        ("There is no sign of fear or anxiety, and he appears happy.", {"happy"}),
        ("He shows no visible signs of distress. Overall, he appears relaxed.", {"relaxed"}),
        ("She seems neither happy nor sad but rather surprised.", {"surprised"}),
        ("He seems calm rather than angry.", {"calm"}),
        ("Without any anger, the man feels relieved.", {"relieved"}),
        ('The subtitle says, "I am so angry and sad!" She appears happy.', {"happy"}),
        ("The subtitle says “I hate you, I am furious”. He seems calm.", {"calm"}),
        ("If he were angry, he would shout. He feels happy.", {"happy"}),
        ("It is not that she is angry; she is disappointed.", {"disappointed"}),
        ("Nothing suggests that she is angry.", set()),
        ("She can't hide her excitement.", {"excited"}),
        ("He was happy yesterday, but now he feels devastated.", {"devastated"}),
        ("not happy", set()),
        ("<think>He feels angry.</think>", {"angry"}),
        ("The character's emotional state is not clear.", set()),
        ("They look scared", {"scared"}),
        ("She feels content with her life.", {"contented"}),
        ("The subtitle content is unclear.", set()),
        ("The man looks at the table.", set()),
        ("", set()),
    ],
)
def test_prose(text: str, expected: set[str]) -> None:
    assert set(extract_words(text)) == expected


def test_verdict_outweighs_earlier_mentions() -> None:
    text = (
        "In the video, a man sits in a pleasant room with a serious expression. The environment is peaceful. "
        'He might be surprised. The subtitle content says, "Wonderful!" In the text, people usually feel happy in '
        "such moments. In conclusion, it can be inferred that the man's emotional state is anger and frustration."
    )
    assert extract_words(text) == ("angry", "frustrated")


def test_unknown_words_and_speech_acts_are_kept() -> None:
    found = extract_words("The character's emotional state is sad, advice, description, glorpy.")
    assert found == ("sad", "advice", "description", "glorpy")
    assert shortened_as_published(found) == ("sad", "advice")
    long = ("sarcastic", "professional", "curious", "contempt", "curiosity", "angry")
    assert shortened_as_published(long) == ("sarcastic", "professional", "curious", "angry")


def test_agreement_by_hand() -> None:
    same = agreement([["happy", "sad"]], [["sadness", "happily"]])
    assert (same.words, same.synonyms, same.num_clips) == (1.0, 1.0, 1)
    half = agreement([["glad"], []], [["happy"], ["neutral"]])
    assert (half.words, half.synonyms) == (0.5, 1.0)
    assert agreement([["sad", "angry"]], [["sad"]]).words == pytest.approx(2 / 3)
    assert not agreement([["sad"]], [["angry"]]).reliable
    with pytest.raises(NanoEmoXError, match="1 and 2 lists of words"):
        agreement([["a"]], [["a"], ["b"]])
    with pytest.raises(NanoEmoXError, match="0 lists"):
        agreement([], [])


@given(st.text(max_size=300))
def test_any_text_is_accepted(text: str) -> None:
    found = extract_words(text)
    assert found == extract_words(text)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("part", ["if she is sad, ", "she feels sad ", "no ", '"', "subtitle: ", "in a state ", "sad/"])
def test_hostile_texts_take_linear_time(part: str) -> None:
    assert extract_words(part * 20_000) == extract_words(part * 20_000)


@given(st.lists(st.sampled_from(sorted(words())), min_size=1, max_size=6))
def test_prose_gives_only_base_forms(some: list[str]) -> None:
    for word in extract_words(f"Overall, it is likely that the woman feels {' and '.join(some)}. She walks away now."):
        known = look_up(word)
        assert known is not None
        assert known.base == word


def test_agreement_with_the_published_extraction_of_lists(shared: Path) -> None:
    root = shared / "data/predictions/affectgpt_mer_unibench"
    paths = sorted(p for p in root.rglob("*.npz") if "openset" not in p.name and "cmumosei" not in str(p))[::4]
    figures = [measure(path)[0] for path in paths]
    assert statistics.fmean(f.synonyms for f in figures) >= 0.97
    assert statistics.fmean(f.words for f in figures) >= 0.965


def test_agreement_with_the_published_extraction_of_prose(shared: Path) -> None:
    root = shared / "data/predictions/ovmerd_baselines"
    paths = sorted(p for p in root.rglob("*.npz") if "openset" not in p.name)
    assert len(paths) == 30
    figures = [measure(path)[0] for path in paths[::3]]
    assert statistics.median(f.words for f in figures) >= 0.65
    assert json.dumps([f.reliable for f in figures]).count("true") >= 2
