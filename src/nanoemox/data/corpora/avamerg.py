"""AvaMERG: dialogues with a talking avatar, annotated with emotion, cause and reply (research only).

Every turn is a training sample; in test dialogues only the last one is evaluated. A clip has twice the number of its
turn, since the listener's replies are counted too. Reference: the authors put the turn's ``context`` into the
question; it may contain the scenario of the answer, so it is omitted here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import Clips, find, find_or_none, read_json
from nanoemox.data.manifest import ReplyLabels, Sample, Split
from nanoemox.tasks import ERG, LABEL_SETS, MER, format_label
from nanoemox.types import Think, Turn

LABELS: Final = LABEL_SETS["avamerg"]
_STEPS: Final = ("event_scenario", "speaker_emotion", "emotion_cause", "goal_to_response")
_TRAIN: Final = ("train.json",)
_TEST: Final = ("v_test_v5_0.json", "test.json")
logger = logging.getLogger(__name__)


def read(root: Path) -> list[Sample]:
    """Return reply and emotion of every evaluated turn.

    A turn whose emotion is none of the 32 words gives only a reply; one without a reply is skipped; both are logged.
    """
    train, test = find_or_none(root, *_TRAIN), find_or_none(root, *_TEST)
    if train is None and test is None:
        find(root, *_TRAIN, *_TEST)
    clips = Clips(root, "video/{name}.mp4")
    out: list[Sample] = []
    unknown: Counter[str] = Counter()
    for talk in read_json(train) if train else ():
        for turn in talk["turns"]:
            out += _samples(talk, turn, "train", clips, unknown)
    for talk in read_json(test) if test else ():
        out += _samples(talk, talk["turns"][-1], "test", clips, unknown)
    if unknown:
        logger.warning("avamerg: no known emotion or no reply in %d turns: %s", unknown.total(), dict(unknown))
    return out


def _samples(
    talk: Mapping[str, Any], turn: Mapping[str, Any], split: Split, clips: Clips, unknown: Counter[str]
) -> list[Sample]:
    *history, said = turn["dialogue_history"]
    key, number, who = str(talk["conversation_id"]), 2 * int(turn["turn_id"]), talk["speaker_profile"]["ID"]
    name = f"dia{key}utt{number}_{who}"
    source = Source(
        id=name,
        corpus="avamerg",
        split=split,
        media=clips.path(name, f"dia{key.lstrip('0') or '0'}utt{number}"),
        subtitle=said["utterance"].strip(),
        history=tuple(Turn(role=t["role"], text=t["utterance"].strip()) for t in history),
        speaker=str(who),
    )
    reply = (turn.get("response") or "").strip()
    if not reply:
        unknown["(no reply)"] += 1
        return []
    think = _chain(turn.get("chain_of_empathy") or {})
    emotion = think.emotion if think else ""
    out = [source.sample(ERG.key, ReplyLabels(think=think, reply=reply))]
    if emotion in LABELS:
        out.append(source.closed(MER.key, emotion, LABELS))
    else:
        unknown[emotion or "(no chain)"] += 1
    return out


def _chain(steps: Mapping[str, str | None]) -> Think | None:
    """Return the chain, or None if one of the four steps is missing."""
    scenario, emotion, cause, goal = ((steps.get(name) or "").strip() for name in _STEPS)
    if not (scenario and emotion and cause and goal):
        return None
    return Think(scenario=scenario, emotion=format_label(emotion), cause=cause, goal=goal)
