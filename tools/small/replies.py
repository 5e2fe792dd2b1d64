"""Replies to comments of GoEmotions by a small grammar that names the emotion and, if possible, the topic.

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
from tools.corpora.targets import chain, pick


@dataclass(frozen=True, slots=True)
class Tone:
    """Phrases of replies to one emotion.

    Attributes:
        feeling: Word of the chain.
        goal: What the reply is for.
        openers, remarks, about, closers: Parts of a reply; ``about`` names the matter.
    """

    feeling: str
    goal: str
    openers: tuple[str, ...]
    remarks: tuple[str, ...]
    about: tuple[str, ...]
    closers: tuple[str, ...]


TONES: Final[Mapping[str, Tone]] = {
    "happy": Tone(
        "happy", "share their joy",
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
        "sad", "comfort them",
        ("I am so sorry.", "That sounds really hard.", "Oh, that hurts to hear.", "I am sorry you go through this."),
        ("It is all right to feel sad about it.", "No wonder you feel down.", "You do not have to carry it alone.",
         "Disappointments like this take time."),
        ("I can tell that {} weighs on you.", "It must hurt when it is about {}.", "Things with {} sound heavy."),
        ("Do you want to talk about it?", "What would help you right now?", "I am here to listen.",
         "How are you holding up today?"),
    ),
    "angry": Tone(
        "angry", "take their anger seriously",
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
        "afraid", "calm and reassure them",
        ("That sounds frightening.", "I can hear that you are worried.", "It makes sense to be nervous.",
         "Oh, that is a lot to be anxious about."),
        ("You are not alone with it.", "Not knowing how it ends is hard.", "A fear like that is hard to shake off.",
         "Try to breathe slowly for a moment."),
        ("Worries about {} would keep me awake as well.", "It is natural to be anxious about {}."),
        ("What worries you most?", "Is somebody with you?", "Let us take it one step at a time.",
         "What would make you feel safer?"),
    ),
    "disgust": Tone(
        "disgusted", "show that their distaste is understood",
        ("Ugh, that sounds unpleasant.", "I would not like that either.", "That is hard to stomach.", "How nasty!"),
        ("No wonder you want to turn away.", "Anyone would be put off by it.", "You should not have to see that."),
        ("I understand that {} puts you off.", "Nobody should have to bear that with {}."),
        ("Could you get away from it?", "What did you do?", "Shall we think of something nicer?"),
    ),
    "surprised": Tone(
        "surprised", "share their surprise and ask more",
        ("Really?", "Wow, I did not expect that!", "Oh, what a turn!", "That is a surprise!"),
        ("No wonder you are puzzled.", "You did not see that coming.", "It takes a moment to sink in.",
         "That raises a lot of questions."),
        ("So that is how it is with {}.", "I would wonder about {} as well.", "Nobody expects that of {}."),
        ("How did you find out?", "What do you make of it?", "What will you do now?", "Did anyone warn you?"),
    ),
    "neutral": Tone(
        "calm", "show interest and learn more",
        ("I see.", "Thank you for telling me.", "All right, I understand.", "That is good to know."),
        ("You seem quite calm about it.", "I am following you.", "It is good that you share it."),
        ("I would like to hear more about {}.", "You have given some thought to {}."),
        ("How do you feel about it?", "What comes next?", "What matters most to you in this?",
         "Is there more on your mind?"),
    ),
}  # fmt: skip
_SEEN: Final[Mapping[str, tuple[str, ...]]] = {
    "happy": ("Your smile says a lot.", "You look happy.", "Something has made you glad, I can see it."),
    "sad": ("You look sad.", "Something weighs on you, I can see it.", "You seem down."),
    "angry": ("You look angry.", "Something has made you cross, I can see it.", "You seem really annoyed."),
    "afraid": ("You look frightened.", "Something worries you, I can see it.", "You seem tense."),
    "disgusted": ("You pull a face.", "Something repels you, I can see it.", "You look put off."),
    "surprised": ("You look surprised.", "You did not expect that, I can see it.", "Your eyes are wide open."),
    "calm": ("You look calm.", "You seem relaxed.", "Nothing seems to trouble you."),
}
_WON_WORDS: Final = "won win passed promoted accepted graduated engaged married achieved finally job"
_LOST_WORDS: Final = "died dead death funeral grief mourning rip"
_WON: Final = frozenset(_WON_WORDS.split())
_LOST: Final = frozenset(_LOST_WORDS.split())
REFLECTED_WORDS: Final = (3, 14)
_WHO: Final = frozenset(
    ["i", "i'm", "i've", "i'll", "i'd", "my", "we", "we're", "our", "he", "he's", "she", "she's", "they", "they're"]
)
_UNSAID_WORDS: Final = "you your you're yours u ur dont im fuck fucking shit bitch ass dick sex sexy name religion"
_UNSAID: Final = frozenset(_UNSAID_WORDS.split())
_AFTER_I: Final = {"am": "are", "was": "were"}
_TURNED: Final[Mapping[str, str]] = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "i'm": "you are", "i've": "you have",
    "i'll": "you will", "i'd": "you would", "we": "you", "us": "you", "our": "your", "we're": "you are",
    "he's": "he is", "she's": "she is", "they're": "they are",
}  # fmt: skip
_BEFORE_MATTER: Final = re.compile(r"\b(the|my|this|that|these|those|his|her|their|our|a|an) ((?:[a-z']+ ?){1,3})")
_SMALL_WORDS: Final = """
a about after again all also always am an and any are aren't as at be because been before being both but by can can't
could did didn't do does doesn't doing don't down even ever every few for from get gets got had has hasn't have he her
here him his how i if in into is isn't it it's its just kind like lot many may me might more most much must my never no
nor not now of off on one only or other our out over own part point really right same she should so some still such than
that that's the their them then there these they thing things this those time to too under until up us very was wasn't
way we were what when where which while who why will with won't would yet you your
"""
_SMALL: Final = frozenset(_SMALL_WORDS.split())


def reply_to(text: str, tone: Tone, key: str) -> ReplyLabels:
    """Reply to a comment: opener, a remark that paraphrases it or names its topic, and a question or wish."""
    words = re.findall(r"[a-z']+", text.lower().replace("’", "'"))
    opener = _opener(words, tone, key)
    said_back = paraphrase(text)
    if tone.feeling == "happy" and said_back is not None and re.search(r"n't|\b(not|no|sorry)\b", said_back):
        said_back = None
    matter = topic_of(text)
    if said_back is not None:
        remark = f"So {said_back}."
    elif matter is not None:
        remark = _one(tone.about, f"{key}/about which").format(matter)
    else:
        remark = _one(tone.remarks, f"{key}/remark")
    before = chain([text], "other")
    think = Chain(scenario=before.scenario, emotion=tone.feeling, cause=before.cause, goal=tone.goal)
    return ReplyLabels(think=think, reply=f"{opener} {remark} {_one(tone.closers, f'{key}/closer')}")


def wordless_reply(tone: Tone, key: str) -> ReplyLabels:
    """Reply to a silent person based on their face."""
    before = chain([], "other")
    think = Chain(scenario=before.scenario, emotion=tone.feeling, cause=before.cause, goal=tone.goal)
    asked = _one(("Do you want to tell me about it?", "What is on your mind?", "What happened?"), f"{key}/asked")
    return ReplyLabels(think=think, reply=f"{_one(_SEEN[tone.feeling], f'{key}/seen')} {asked}")


def tone_of(feeling: str) -> Tone:
    """Return the phrases for an emotion: calm is neutral, contempt is disgust."""
    return TONES[{"calm": "neutral", "contempt": "disgust"}.get(feeling, feeling)]


def paraphrase(text: str) -> str | None:
    """Return the first suitable sentence in the second person ("I got the job!": "you got the job"), or None."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip().replace("’", "'"))
    return next((back for s in sentences if not s.endswith("?") and (back := _second_person(s.rstrip(".!")))), None)


def _second_person(sentence: str) -> str | None:
    words = re.findall(r"[A-Za-z']+|,", sentence)
    low = [w.lower() for w in words]
    if not REFLECTED_WORDS[0] <= len(words) <= REFLECTED_WORDS[1] or low[0] not in _WHO or _UNSAID & set(low):
        return None
    if len("".join(words)) < len(re.sub(r"\s", "", sentence)):  # figures, links, names in brackets
        return None
    turned = []
    for before, word in zip(["", *low], low, strict=False):
        verb = _AFTER_I.get(word) if before == "i" else None
        turned.append(verb or _TURNED.get(word) or words[len(turned)])
    return " ".join(turned).replace(" ,", ",")


def topic_of(text: str) -> str | None:
    """Return the topic of a comment, its longest noun phrase with a determiner ("my old car": "your old car")."""
    found = []
    for start, rest in _BEFORE_MATTER.findall(re.sub(r"[^a-z' ]", " . ", text.lower().replace("’", "'"))):
        group: list[str] = []
        for word in rest.split():
            if word in _SMALL or word in _UNSAID or "'" in word or (group and word.endswith(("ed", "ing", "ly"))):
                break
            group.append(word)
        if group and max(map(len, group)) > 2:
            found.append(
                f"{'your' if start in ('my', 'our') else 'the' if start in ('a', 'an') else start} {' '.join(group)}"
            )
    return max(found, key=len, default=None)


def _opener(words: list[str], tone: Tone, key: str) -> str:
    if tone.feeling == "happy" and _WON & set(words):
        return "Congratulations!"
    if tone.feeling == "sad" and _LOST & set(words):
        return "I am so sorry for your loss."
    return _one(tone.openers, f"{key}/opener")


def _one(parts: tuple[str, ...], key: str) -> str:
    return parts[pick(key, len(parts))]
