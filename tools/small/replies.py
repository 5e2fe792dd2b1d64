"""Replies of our own to comments of GoEmotions: a small grammar that names the feeling and, where it can, the matter.

ESConv, the one corpus of replies that we may use, knows people in distress only. The grammar answers gladness, surprise
and plain talk too. What fits is chosen by the words (an achievement is congratulated, a loss is mourned), the rest by a
hash of the comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nanoemox.data.manifest import ReplyLabels
from nanoemox.types import Think as Chain
from tools.corpora.targets import FEELING_WORDS, chain, pick


@dataclass(frozen=True, slots=True)
class Tone:
    """How one feeling is answered.

    Attributes:
        feeling: Word of the chain.
        adjective: Ends "I can hear how ...".
        goal: What the reply is for.
        openers, remarks, about, closers: Parts of a reply; ``about`` names the matter.
    """

    feeling: str
    adjective: str
    goal: str
    openers: tuple[str, ...]
    remarks: tuple[str, ...]
    about: tuple[str, ...]
    closers: tuple[str, ...]


TONES: Final[Mapping[str, Tone]] = {
    "happy": Tone(
        "happy", "glad you are", "share their joy",
        ("That is wonderful!", "How lovely!", "I am so glad for you!", "What good news!", "That makes me smile.",
         "Oh, I love that!"),
        ("You sound so happy.", "I can hear the joy in it.", "You have every reason to be pleased.",
         "Moments like this are worth keeping."),
        ("You must be so happy about {}.", "I can hear how much {} means to you.", "It is good to hear that {} brings "
         "you joy."),
        ("What happens next?", "Tell me more about it!", "How will you celebrate?", "Enjoy every bit of it.",
         "Who have you told so far?"),
    ),
    "sad": Tone(
        "sad", "sad this makes you", "comfort them",
        ("I am so sorry.", "That sounds really hard.", "Oh, that hurts to hear.", "I am sorry you go through this."),
        ("It is all right to feel sad about it.", "No wonder you feel down.", "You do not have to carry it alone.",
         "Disappointments like this take time."),
        ("I can tell that {} weighs on you.", "It must hurt when it is about {}.", "Things with {} sound heavy."),
        ("Do you want to talk about it?", "What would help you right now?", "I am here to listen.",
         "How are you holding up today?"),
    ),
    "angry": Tone(
        "angry", "angry you are", "take their anger seriously",
        ("That would make me angry too.", "I understand why you are upset.", "That does not sound fair.",
         "You have every right to be annoyed."),
        ("Nobody likes to be treated like that.", "It sounds as if a line was crossed.", "I am on your side.",
         "No wonder you are fed up."),
        ("It is clear that {} has pushed you too far.", "Trouble with {} would upset anyone.",
         "You expected better when it comes to {}."),
        ("What happened then?", "What would you like to say to them?", "Would it help to let it out?",
         "What would make it right?"),
    ),
    "fearful": Tone(
        "afraid", "worried you are", "calm and reassure them",
        ("That sounds frightening.", "I can hear that you are worried.", "It makes sense to be nervous.",
         "Oh, that is a lot to be anxious about."),
        ("You are not alone with it.", "Not knowing how it ends is hard.", "A fear like that is hard to shake off.",
         "Try to breathe slowly for a moment."),
        ("Worries about {} would keep me awake as well.", "It is natural to be anxious about {}."),
        ("What worries you most?", "Is somebody with you?", "Let us take it one step at a time.",
         "What would make you feel safer?"),
    ),
    "disgust": Tone(
        "disgusted", "much this repels you", "show that their distaste is understood",
        ("Ugh, that sounds unpleasant.", "I would not like that either.", "That is hard to stomach.", "How nasty!"),
        ("No wonder you want to turn away.", "Anyone would be put off by it.", "You should not have to see that."),
        ("I understand that {} puts you off.", "Nobody should have to bear that with {}."),
        ("Could you get away from it?", "What did you do?", "Shall we think of something nicer?"),
    ),
    "surprised": Tone(
        "surprised", "puzzled you are", "share their surprise and ask more",
        ("Really?", "Wow, I did not expect that!", "Oh, what a turn!", "That is a surprise!"),
        ("No wonder you are puzzled.", "You did not see that coming.", "It takes a moment to sink in.",
         "That raises a lot of questions."),
        ("So that is how it is with {}.", "I would wonder about {} as well.", "Nobody expects that of {}."),
        ("How did you find out?", "What do you make of it?", "What will you do now?", "Did anyone warn you?"),
    ),
    "neutral": Tone(
        "calm", "calm you are about it", "show interest and learn more",
        ("I see.", "Thank you for telling me.", "All right, I understand.", "That is good to know."),
        ("You seem quite calm about it.", "I am following you.", "It is good that you share it."),
        ("I would like to hear more about {}.", "You have given some thought to {}."),
        ("How do you feel about it?", "What comes next?", "What matters most to you in this?",
         "Is there more on your mind?"),
    ),
}  # fmt: skip
_WON_WORDS: Final = "won win passed promoted accepted graduated engaged married achieved finally job"
_LOST_WORDS: Final = "died dead death funeral grief mourning rip"
_THE: Final = (
    "job exam test game team match house car party wedding food movie film show book song music news trip weather "
    "police government school class story video picture result money doctor hospital meeting company train phone law "
    "war baby interview vote election"
)
_YOUR: Final = (
    "boss mother father brother sister son daughter wife husband boyfriend girlfriend friend dog cat family teacher "
    "neighbour child birthday life work home parents friends kids children holiday"
)
_OTHERS: Final[Mapping[str, str]] = {
    "mom": "your mother", "mum": "your mother", "dad": "your father", "movies": "the movie", "games": "the game",
    "jobs": "the job", "dogs": "your dog", "cats": "your cat", "vacation": "your holiday",
}  # fmt: skip
_WON: Final = frozenset(_WON_WORDS.split())
_LOST: Final = frozenset(_LOST_WORDS.split())
_MATTERS: Final = {w: f"the {w}" for w in _THE.split()} | {w: f"your {w}" for w in _YOUR.split()} | dict(_OTHERS)


REFLECTED_WORDS: Final = (3, 14)
_MINE: Final = frozenset(("i", "i'm", "i've", "i'll", "i'd", "my", "we", "we're", "our"))
_UNSAID_WORDS: Final = "you your you're yours u ur dont im fuck fucking shit bitch ass dick sex sexy"
_UNSAID: Final = frozenset(_UNSAID_WORDS.split())
_AFTER_I: Final = {"am": "are", "was": "were"}
_TURNED: Final[Mapping[str, str]] = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "i'm": "you are", "i've": "you have",
    "i'll": "you will", "i'd": "you would", "we": "you", "us": "you", "our": "your", "we're": "you are",
}  # fmt: skip


def reply_to(text: str, tone: Tone, key: str) -> ReplyLabels:
    """Answer a comment: opener, a remark on what was told, its matter or words, and a question or a wish."""
    words = re.findall(r"[a-z']+", text.lower().replace("’", "'"))
    opener = _opener(words, tone, key)
    told = reflected(text)
    if tone.feeling == "happy" and told is not None and re.search(r"n't|\b(not|no|sorry)\b", told):
        told = None
    matter = next((_MATTERS[w] for w in words if w in _MATTERS), None)
    if told is not None and pick(f"{key}/told", 4):
        remark = f"So {told}."
    elif matter is not None and pick(f"{key}/about", 3):
        remark = _one(tone.about, f"{key}/about which").format(matter)
    elif len(words) > 3 and not pick(f"{key}/quote", 3):
        remark = f'When you say "{_quote(words)}", I can hear how {tone.adjective}.'
    else:
        remark = _one(tone.remarks, f"{key}/remark")
    before = chain([text], "other")
    think = Chain(scenario=before.scenario, emotion=tone.feeling, cause=before.cause, goal=tone.goal)
    return ReplyLabels(think=think, reply=f"{opener} {remark} {_one(tone.closers, f'{key}/closer')}")


def reflected(text: str) -> str | None:
    """Say the first sentence back as a listener does ("I got the job!": "you got the job"), or None."""
    first = re.split(r"[.!?]+(?:\s|$)", text.strip().replace("’", "'"))[0]
    words = re.findall(r"[A-Za-z']+|,", first)
    low = [w.lower() for w in words]
    if not REFLECTED_WORDS[0] <= len(words) <= REFLECTED_WORDS[1] or low[0] not in _MINE or _UNSAID & set(low):
        return None
    if len("".join(words)) < len(re.sub(r"\s", "", first)):  # figures, links, names in brackets
        return None
    turned = []
    for before, word in zip(["", *low], low, strict=False):
        verb = _AFTER_I.get(word) if before == "i" else None
        turned.append(verb or _TURNED.get(word) or words[len(turned)])
    return " ".join(turned).replace(" ,", ",")


def _opener(words: list[str], tone: Tone, key: str) -> str:
    if tone.feeling == "happy" and _WON & set(words):
        return "Congratulations!"
    if tone.feeling == "sad" and _LOST & set(words):
        return "I am so sorry for your loss."
    return _one(tone.openers, f"{key}/opener")


def _quote(words: list[str]) -> str:
    """Take the four words around the first one of feeling, or the last four."""
    at = next((i for i, w in enumerate(words) if w in FEELING_WORDS), len(words) - 1)
    start = max(0, min(at - 2, len(words) - 4))
    return " ".join(words[start : start + 4])


def _one(parts: tuple[str, ...], key: str) -> str:
    return parts[pick(key, len(parts))]
