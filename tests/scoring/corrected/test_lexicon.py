"""The lexicon: well-known words, consistency, and coverage of real predictions."""

from __future__ import annotations

import ast
import csv
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from nanoemox.scoring.corrected.lexicon import (
    FAMILIES,
    base,
    look_up,
    normalise,
    pieces,
    read_groups,
    read_words,
    words,
)
from nanoemox.tasks import LABEL_SETS

DATA = resources.files("nanoemox.scoring.corrected") / "data"


def family(word: str) -> str | None:
    known = look_up(word)
    return known.family if known else None


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("fear", "fear"), ("fearful", "fear"), ("fearless", "pride"), ("neutral", "neutral"), ("happy", "joy"),
        ("happily", "joy"), ("surprised", "surprise"), ("worried", "fear"), ("frustration", "anger"),
        ("guilt", "sadness"), ("calm", "calm"), ("confused", "doubt"), ("sarcastic", "contempt"),
        ("professional", "attitude"),
        ("advice", "act"), ("positive", "positive"), ("uninterested", "boredom"), ("lack of interest", "boredom"),
        ("frolicsomest", None), ("table", None),
    ],
)  # fmt: skip
def test_families(word: str, expected: str | None) -> None:
    assert family(word) == expected


def test_forms_and_spellings_share_a_base() -> None:
    assert {base(w) for w in ("Happy", "happiness", "happily", "happier", " happiest.")} == {"happy"}
    assert {base(w) for w in ("light-hearted", "Light_Hearted", "lighthearted")} == {"light hearted"}
    assert {base(w) for w in ("frustrates", "frustrating", "frustration")} == {"frustrated"}
    assert base("zorbed") == "zorbed"
    assert normalise("  “Self-Doubt”. ".replace("“", '"').replace("”", '"')) == "self doubt"


def test_modifiers_do_not_change_a_word_but_negation_does() -> None:
    assert base("slightly anxious") == base("a sense of anxiety") == base("very anxious") == "anxious"
    assert look_up("not anxious") is None
    assert family("unhappy") == "sadness"
    assert family("lack of enthusiasm") == "boredom"


def test_labels_made_of_several_words() -> None:
    assert pieces("happiness/contentment") == ("happiness", "contentment")
    assert pieces("sad or upset") == ("sad", "upset")
    assert pieces("Awe and Amazement") == ("awe and amazement",)
    assert pieces("at-ease") == ("at ease",)


def test_every_label_of_our_label_sets_is_known() -> None:
    for name, labels in LABEL_SETS.items():
        if not name.startswith("mintrec"):
            assert [label for label in labels if look_up(label) is None] == [], name


def test_lexicon_file_is_sorted() -> None:
    text = (DATA / "lexicon.tsv").read_text("utf-8")
    groups = read_groups(text)
    assert {family for family, _, _, _ in groups} == set(FAMILIES)
    assert len({group for _, group, _, _ in groups}) == len(groups)
    assert {valence for _, _, valence, _ in groups} == {-1, 0, 1}
    written = [normalise(word.lstrip("~")) for _, _, _, clusters in groups for cluster in clusters for word in cluster]
    assert [word for word, n in Counter(written).items() if n > 1] == []
    assert set(written) <= set(words())
    assert {word.base for word in words().values()} == {word.base for word in read_words(text)}


def test_each_specific_family_has_one_valence() -> None:
    signs: dict[str, set[int]] = {}
    for word in words().values():
        signs.setdefault(word.family, set()).add(word.valence)
    assert all(len(v - {0}) <= 1 for v in signs.values()), signs


def test_forms_file_equals_generator_output() -> None:
    pytest.importorskip("lemminflect")
    from tools.lexicon.forms import table

    assert (DATA / "forms.tsv").read_text("utf-8") == table(), "run python -m tools.lexicon.forms"


def _tokens(path: Path) -> Counter[str]:
    with np.load(path, allow_pickle=True) as file:
        items = [str(item).strip("[]").split(",") for item in file["fileitems"]]
    return Counter(w for row in items for item in row if (w := item.strip().strip("'\" ")))


@pytest.mark.parametrize(("folder", "least"), [("affectgpt_mer_unibench", 0.995), ("ovmerd_baselines", 0.985)])
def test_real_predictions_are_in_the_lexicon(shared: Path, folder: str, least: float) -> None:
    tokens: Counter[str] = Counter()
    for path in sorted((shared / "data" / "predictions" / folder).rglob("*-openset.npz"))[::3]:
        tokens += _tokens(path)
    parts = Counter({part: 0 for label in tokens for part in pieces(label)})
    for label, n in tokens.items():
        for part in pieces(label):
            parts[part] += n
    unknown = sum(n for part, n in parts.items() if look_up(part) is None)
    assert 1 - unknown / parts.total() >= least


def test_ov_merd_labels_are_in_the_lexicon(shared: Path) -> None:
    with (shared / "data/annotations/mer2024/ov_store/check-openset.csv").open(newline="", encoding="utf-8") as file:
        tokens = Counter(word for row in csv.DictReader(file) for word in ast.literal_eval(row["openset"]))
    assert sum(n for word, n in tokens.items() if look_up(word)) / tokens.total() >= 0.97
