"""Our own list of emotion words: what a word means, however it is written.

Every word has a base (``happiness``, ``happily`` and ``happier`` are ``happy``), a group of synonyms (``bliss``), a
family (``joy``) and a valence. The families and groups were drawn up for this package after the structure that the
published wheels share: the eight sectors and three strengths of Plutchik (1980), Ekman's basic emotions with contempt
(1992), the tree of Shaver et al. (1987) as printed by Parrott (2001), Willcox's Feeling Wheel (1982) and the Geneva
Emotion Wheel (Scherer, 2005); no table was copied. Where the wheels disagree, the choice is:

- pride and strength (Willcox's "powerful"), calm (her "peaceful"), doubt and boredom are families of their own;
- worry, tension, stress and discomfort are fear, dissatisfaction and frustration are anger, guilt, shame,
  disappointment, loneliness and tiredness are sadness (Shaver et al.), hope and enthusiasm are joy;
- ``neutral`` is a family like any other; ``attitude`` holds manners that name no feeling (serious, professional),
  ``act`` what is done by speaking (advice, request);
- ``positive``, ``negative`` and ``mixed`` hold words that say no more than that.

The list is ``data/lexicon.tsv``; ``data/forms.tsv`` holds every written form, made by ``tools/lexicon/forms.py``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

FAMILIES: Final = (
    "joy", "pride", "love", "calm", "interest", "surprise", "doubt", "fear", "sadness", "anger", "disgust",
    "contempt", "boredom", "neutral", "attitude", "act", "positive", "negative", "mixed",
)  # fmt: skip
UNSPECIFIC: Final = frozenset({"positive", "negative", "mixed"})
"""Families that say good or bad but not what is felt."""


@dataclass(frozen=True, slots=True)
class LexiconWord:
    """What the lexicon knows of a word.

    Attributes:
        base: The word that stands for all its forms.
        group: Its synonyms.
        family: One of ``FAMILIES``.
        valence: -1, 0 or 1.
        plain: Whether running text may use it without a verb of feeling ("sad", not "content").
    """

    base: str
    group: str
    family: str
    valence: int
    plain: bool = True


# Words that shade an emotion without changing it, in front of it.
_SHADES = re.compile(
    r"^(?:(?:a (?:bit|little|sense|feeling|touch|hint|state|mix) (?:of )?|(?:sense|feelings?|state|kind|touch) of |"
    r"(?:very|so|too|quite|rather|really|slight(?:ly)?|mild(?:ly)?|moderate(?:ly)?|extreme(?:ly)?|deep(?:ly)?|"
    r"strong(?:ly)?|intense(?:ly)?|high(?:ly)?|great(?:ly)?|genuine(?:ly)?|possibly|possible|perhaps|maybe|somewhat|"
    r"increasingly|overly|emotional(?:ly)?|mental(?:ly)?|inner|being|feeling|feels?|becoming|the|an?|some|more|"
    r"severe(?:ly)?|subtle|subtly|general(?:ly)?|physical(?:ly)?|heightened|excessive|profound(?:ly)?) ))+"
)
_APART = re.compile(r"\s*(?:/|&|\band\b|\bor\b)\s*")
_BLANKS = re.compile(r"[\s_\-‐‑–]+")
_EDGES: Final = " .,;:!?\"'`*()[]{}<>"


def normalise(text: str) -> str:
    """Fold case, width, hyphens, underscores, quotes and blanks: ``Light-Hearted.`` is ``light hearted``."""
    folded = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
    return _BLANKS.sub(" ", folded).strip(_EDGES)


def look_up(text: str) -> LexiconWord | None:
    """Return what is known of a word or short phrase, shades of degree aside, or None."""
    phrase = normalise(text)
    table = words()
    return table.get(phrase) or table.get(_SHADES.sub("", phrase))


def base(text: str) -> str:
    """Return the base of a word, or the normalised word itself where it is unknown."""
    word = look_up(text)
    return word.base if word else normalise(text)


@lru_cache(maxsize=65536)
def pieces(label: str) -> tuple[str, ...]:
    """Return the words of one label: itself where it is known, else its parts around ``/``, ``and``, ``or``."""
    if look_up(label):
        return (normalise(label),)
    return tuple(part for part in _APART.split(normalise(label)) if part)


@cache
def words() -> Mapping[str, LexiconWord]:
    """Return every written form with its word, read once."""
    table = resources.files("nanoemox.scoring.corrected") / "data"
    bases = {w.base: w for w in read_words((table / "lexicon.tsv").read_text("utf-8"))}
    forms: dict[str, LexiconWord] = {}
    for line in (table / "forms.tsv").read_text("utf-8").splitlines():
        name, *written = line.split("\t")
        for form in written:
            plain = not form.startswith("~")
            word = bases[name]
            forms[form.lstrip("~")] = LexiconWord(word.base, word.group, word.family, word.valence, plain)
    return MappingProxyType(forms)


def read_words(text: str) -> tuple[LexiconWord, ...]:
    """Return the bases of a lexicon file in order."""
    return tuple(
        LexiconWord(cluster[0].lstrip("~"), group, family, valence)
        for family, group, valence, clusters in read_groups(text)
        for cluster in clusters
    )


def read_groups(text: str) -> tuple[tuple[str, str, int, tuple[tuple[str, ...], ...]], ...]:
    """Return family, group, valence and clusters of a lexicon file; a cluster is the words of one stem."""
    rows = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            family, group, valence, clusters = line.split("\t")
            stems = tuple(tuple(word.strip() for word in c.split("=")) for c in clusters.split(","))
            rows.append((family, group, int(valence), stems))
    return tuple(rows)
