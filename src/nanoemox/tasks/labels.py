"""The label sets of the corpora; the order is the index order of a set's own label files where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


LABEL_SETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sentiment": _words("positive, negative, neutral"),
        "crema_d": _words("anger, disgust, fear, happy, neutral, sad"),
        "m3ed": _words("anger, disgust, fear, happy, neutral, sad, surprise"),
        "caer": _words("anger, disgust, fear, happy, neutral, sad, surprise"),
        "ferv39k": _words("happy, sad, neutral, angry, surprise, disgust, fear"),
        "mer2023": _words("happy, angry, worried, sad, surprise, neutral"),
        "mer2024": _words("happy, angry, worried, sad, surprise, neutral"),
        "meld": _words("anger, joy, sadness, neutral, disgust, fear, surprise"),
        "iemocap": _words("happy, sad, neutral, anger"),
        "merr": _words("neutral, sad, angry, happy, worried, surprise, fear, doubt, contempt"),
        "mintrec": _words(
            "complain, praise, apologise, thank, criticize, agree, taunt, flaunt, joke, oppose, comfort, care, inform, "
            "advise, arrange, introduce, leave, prevent, greet, ask for help"
        ),
        "mintrec2": _words(
            "acknowledge, advise, agree, apologise, arrange, ask for help, asking for opinions, care, comfort, "
            "complain, confirm, criticize, doubt, emphasize, explain, flaunt, greet, inform, introduce, invite, joke, "
            "leave, oppose, plan, praise, prevent, refuse, taunt, thank, warn"
        ),
        # AvaMERG annotates the speaker's emotion with the 32 situation words of EmpatheticDialogues ...
        "avamerg": _words(
            "afraid, angry, annoyed, anticipating, anxious, apprehensive, ashamed, caring, confident, content, "
            "devastated, disappointed, disgusted, embarrassed, excited, faithful, furious, grateful, guilty, hopeful, "
            "impressed, jealous, joyful, lonely, nostalgic, prepared, proud, sad, sentimental, surprised, terrified, "
            "trusting"
        ),
        # ... and scores its hit rate after folding them into the eight classes of MEAD.
        "mead": _words("neutral, happy, surprised, angry, fear, sad, disgusted, contempt"),
        # The candidate list in a question of the authors that is evaluated but never trained on.
        "avamerg_candidates": _words(
            "conflicted, sadness, weary, upset, frustrated, disappointment, uneasy, confused, stressed, burdened, "
            "worry, nervous, confusion, helpless, overwhelm, surprised, proud, lonely, guilty, hopeful, anxious, "
            "nostalgic, content, caring, ashamed"
        ),
        "ravdess": _words("neutral, calm, happy, sad, angry, fearful, disgust, surprised"),
        "facial_expressions": _words("anger, contempt, disgust, fear, happiness, neutral, sadness, surprise"),
        "goemotions_ekman": _words("anger, disgust, fear, joy, neutral, sadness, surprise"),
    }
)
"""Data set -> its labels; the order is the index order of the set's own label files where it has one."""
