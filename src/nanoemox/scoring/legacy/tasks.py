"""The published scores of sentiment, intent and empathetic replies, quirks included.

As in the releases of AffectGPT and Nano-EmoX, only for comparison with printed tables. The words and their mapping are
interface facts of these releases (Nano-EmoX is under the MIT licence). Scores are in 0..1; the releases print percent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from nanoemox.scoring.legacy.wheels import check_lengths
from nanoemox.scoring.metrics.classification import ClassificationScores, classification_scores
from nanoemox.scoring.metrics.diversity import distinct_n
from nanoemox.types import NanoEmoXError


def legacy_sentiment(truth: Sequence[str], predicted: Sequence[str | None]) -> ClassificationScores:
    """Score sentiment: two classes over the clips whose truth is not ``neutral``.

    Every answer other than ``positive`` counts as negative, including ``neutral`` and unparsed ones.
    """
    check_lengths(truth, predicted)
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t != "neutral"]
    if not pairs:
        raise NanoEmoXError(
            f"all {len(truth)} clips are neutral: the published score drops them; use the corrected one"
        )
    labels = ("positive", "negative")
    return classification_scores(
        [t for t, _ in pairs], ["positive" if p == "positive" else "negative" for _, p in pairs], labels
    )


def legacy_intent(
    truth: Mapping[str, str], responses: Mapping[str, str], spelling: Mapping[str, str] | None = None
) -> ClassificationScores:
    """Score intents by exact match; clips without an answer are excluded.

    Args:
        truth: Clip -> label as the label file spells it.
        responses: Clip -> the model's text.
        spelling: Answer -> label that it counts as; the release has none.
    """
    names = [name for name in truth if name in responses]
    if not names:
        raise NanoEmoXError(f"none of the {len(truth)} clips of the truth is among the {len(responses)} answers")
    written = (responses[name] for name in names)
    return classification_scores([truth[name] for name in names], [(spelling or {}).get(w, w) for w in written])


@dataclass(frozen=True, slots=True)
class LegacyReplies:
    """Scores of empathetic replies.

    Attributes:
        accuracy: Share of clips whose mapped true emotion equals the emotion as written.
        hit_rate: Share of clips with both emotions in the same of eight classes; None if the release's code fails.
        unfolded: The first word without a class, at which it fails.
        distinct_1: Distinct words / words of a reply, averaged over all replies, with or without truth.
        distinct_2: The same for pairs of words.
        num_samples: Clips with truth and reply; others are excluded.
    """

    accuracy: float
    hit_rate: float | None
    unfolded: str | None
    distinct_1: float
    distinct_2: float
    num_samples: int


def legacy_replies(truth: Mapping[str, str], responses: Mapping[str, str]) -> LegacyReplies:
    """Score replies by the emotion in their chain and by their diversity.

    Accuracy compares the mapped truth with the unmapped answer, so an answer with the corpus' own word is right for
    only four of the 32. The hit rate maps both again, without a class for words such as ``tired`` or ``unknown``.

    Args:
        truth: Clip -> emotion word of the corpus.
        responses: Clip -> chain and reply as written.
    """
    emotions = {name: fold_truth(word) for name, word in truth.items()}
    named = {name: legacy_emotion(text) for name, text in responses.items()}
    pairs = [(true, named[name]) for name, true in emotions.items() if name in named]
    unfolded = next((word for pair in pairs for word in pair if word not in EIGHT_CLASSES), None)
    hits = None if unfolded is not None else _share(EIGHT_CLASSES[t] == EIGHT_CLASSES[p] for t, p in pairs)
    replies = list(filter(None, map(bare_reply, responses.values())))
    return LegacyReplies(
        accuracy=_share(t == p for t, p in pairs),
        hit_rate=hits,
        unfolded=unfolded,
        distinct_1=distinct_n(replies, 1),
        distinct_2=distinct_n(replies, 2),
        num_samples=len(pairs),
    )


def _share(right: Iterable[bool]) -> float:
    """Return the share of right answers; 0 without answers, as published."""
    values = list(right)
    return sum(values) / max(len(values), 1)


def legacy_emotion(response: str | None) -> str:
    """Return the emotion of a reply: from its chain, else the first group with a word in it, else ``unknown``.

    Words match as substrings: ``madam`` is angry, ``no concern`` is caring.
    """
    text = response or ""
    start, end = text.find("<think>"), text.find("</think>")
    if start >= 0 and end >= 0:
        stated = re.search(r"the emotion of the speaker is\s+(\w+)", text[start + len("<think>") : end].lower())
        if stated:
            return stated[1]
    lowered = text.lower()
    return next((emotion for emotion, words in _GROUPS if any(word in lowered for word in words)), "unknown")


def bare_reply(response: str | None) -> str:
    """Return a reply without its chain."""
    return re.sub(r"<think>.*?</think>", "", response or "", flags=re.DOTALL).strip()


def fold_truth(emotion: str) -> str:
    """Map an emotion word of the corpus as the release's loader does."""
    return _TRUTH.get(emotion, emotion)


def _folds(**classes: str) -> Mapping[str, str]:
    return MappingProxyType({word: emotion for emotion, words in classes.items() for word in words.split()})


def _groups(lines: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    parts = (line.partition(":") for line in lines)
    return tuple((emotion, tuple(words.split())) for emotion, _, words in parts)


EIGHT_CLASSES: Final = _folds(
    neutral="neutral",
    happy="happy joyful prepared content caring trusting faithful confident hopeful grateful proud excited "
    "anticipating",
    surprised="surprised impressed",
    angry="angry furious annoyed",
    fear="fear afraid terrified apprehensive",
    sad="sad lonely guilty anxious nostalgic disappointed sentimental ashamed devastated",
    disgusted="disgusted embarrassed",
    contempt="contempt jealous",
)
"""Emotion word -> class of MEAD, for the hit rate. Reference: ``embarrassed`` occurs twice; the later class counts."""

_TRUTH: Final = _folds(
    afraid="vulnerability helplessness fear fragile vulnerable fearful helpless",
    angry="angry annoyed furious",
    annoyed="frustration",
    anxious="conflicted anxiety worried uneasy stressed concerned burdened overwhelmed worry nervous stress confusion "
    "concern overwhelm",
    ashamed="inadequacy",
    contempt="jealous",
    disappointed="upset disappointment",
    disgusted="disgusted",
    fear="afraid terrified apprehensive",
    guilty="regret",
    happy="excited proud grateful hopeful confident anticipating joyful prepared content caring trusting faithful",
    jealous="lost confused",
    lonely="loneliness",
    nostalgic="nostalgia",
    sad="sadness melancholy heavy-hearted melancholic frustrated disappointed lonely guilty anxious nostalgic "
    "embarrassed sentimental ashamed",
    sentimental="pensive reflective thoughtful",
    surprised="surprised impressed devastated",
    tired="weary fatigue exhaustion tiredness exhausted tired",
)
"""Emotion word of the corpus -> word that accuracy compares with the answer."""

_GROUPS: Final = _groups(
    (
        "angry: angry anger furious mad irate enraged",
        "annoyed: annoyed annoyance irritated irritation vexed bothered",
        "caring: caring compassionate empathetic kind sympathetic concern",
        "content: content contentment satisfied pleased peaceful fulfilled",
        "disappointed: disappointed disappointment letdown discouraged disheartened",
        "excited: excited excitement enthusiastic thrilled eager animated",
        "faithful: faithful loyal devoted dedicated steadfast fidelity",
        "frustrated: frustrated frustration exasperated aggravated irked",
        "grateful: grateful gratitude thankful appreciative obliged",
        "guilty: guilty guilt remorseful ashamed contrite regretful",
        "hopeful: hopeful hope optimistic encouraged buoyant expectant anticipating",
        "joyful: joyful joy happy delighted cheerful gleeful",
        "lonely: lonely loneliness lonesome isolated forlorn desolate",
        "nostalgic: nostalgic nostalgia sentimental wistful yearning",
        "overwhelmed: overwhelmed overwhelm swamped burdened overloaded",
        "sad: sad sadness sorrowful melancholy grief depressed",
        "surprised: surprised surprise amazed astonished shocked stunned",
        "terrified: terrified terror frightened afraid scared petrified",
        "trusting: trusting trust confident relying believing assured prepared",
        "worried: worried worry anxious nervous concerned uneasy apprehensive",
        "anxious: anxiety",
    )
)
"""Emotion -> its words, in search order; without groups that never match before an earlier one."""
