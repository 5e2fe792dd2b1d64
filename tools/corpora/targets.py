"""Answers that no corpus annotates: word lists, grounded explanations and chains of empathy, built by templates.

No corpus that we may use explains an emotion, so explanations are put together from what is known and measured of
that very clip: how loud, high, lively and fast its voice is beside the median of its corpus, what label its face
carries, which of its words carry feeling, and the label itself. The parts stay apart until the answer is needed, so
that a clip whose voice was withheld in training is not explained by its voice. The same holds for the chain of
empathy: scenario and cause come from topics that the person names, the emotion from the person's words, the goal
from the listener's annotated strategy. Letters: ``S`` waveform samples.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nanoemox.data.corpora.releases import family
from nanoemox.types import SAMPLE_RATE_HZ, Think

# --- Words for a label -----------------------------------------------------------------------------------------------

FEELINGS: Final[Mapping[str, tuple[str, tuple[str, str], tuple[str, str]]]] = {
    # family: (noun, words where the feeling is ordinary, words where it is strong)
    "neutral": ("a neutral state", ("neutral", "calm"), ("neutral", "composed")),
    "calm": ("calm", ("calm", "relaxed"), ("calm", "peaceful")),
    "happy": ("happiness", ("happy", "pleased"), ("joyful", "excited")),
    "sad": ("sadness", ("sad", "disappointed"), ("sorrowful", "hopeless")),
    "angry": ("anger", ("angry", "annoyed"), ("furious", "outraged")),
    "fearful": ("fear", ("afraid", "worried"), ("terrified", "anxious")),
    "disgust": ("disgust", ("disgusted", "displeased"), ("disgusted", "repulsed")),
    "surprised": ("surprise", ("surprised", "curious"), ("astonished", "shocked")),
    "contempt": ("contempt", ("contemptuous", "dismissive"), ("contemptuous", "scornful")),
}


def emotion_words(labels: Iterable[str], *, strong: bool = False) -> tuple[str, ...]:
    """Return the open-vocabulary answer for one or more labels: two words each, without repeats."""
    words = [word for label in labels for word in FEELINGS[family(label)][2 if strong else 1]]
    return tuple(dict.fromkeys(words))


# --- How a voice sounds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Voice:
    """What was measured of one voice.

    Attributes:
        pitch_hz: Median fundamental frequency.
        energy_db: Mean level of the active part in dB below full scale.
        tempo_hz: Energy peaks, roughly syllables, per second.
        liveliness_st: Spread of the pitch in semitones.
    """

    pitch_hz: float
    energy_db: float
    tempo_hz: float
    liveliness_st: float


_FRAME, _HOP = 640, 160  # 40 ms holds three periods of the lowest voice; 10 ms resolves syllables
_LOW_HZ, _HIGH_HZ = 70, 500


def measure_voice(waveform: npt.NDArray[np.float32]) -> Voice | None:
    """Measure pitch by autocorrelation, level and tempo.

    Args:
        waveform: float32[S], mono, 16 kHz.

    Returns:
        The measures; None where less than 0.3 s is louder than the background or nothing is voiced.
    """
    if len(waveform) < _FRAME:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP].astype(np.float64)
    frames = frames - frames.mean(1, keepdims=True)
    level_db = 10 * np.log10((frames**2).mean(1) + 1e-10)
    active = level_db > max(level_db.max() - 30, -70)
    if active.sum() * _HOP < 0.3 * SAMPLE_RATE_HZ:
        return None
    pitch_hz = _pitches(frames[active])
    if len(pitch_hz) < 5:
        return None
    first, last = np.flatnonzero(active)[[0, -1]]
    smooth = np.convolve(level_db[first : last + 1], np.hanning(11) / np.hanning(11).sum(), "same")
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > smooth.max() - 20)
    semitones = 12 * np.log2(pitch_hz / np.median(pitch_hz))
    return Voice(
        pitch_hz=float(np.median(pitch_hz)),
        energy_db=float(level_db[active].mean()),
        tempo_hz=float(peaks.sum() / ((last - first + 1) * _HOP / SAMPLE_RATE_HZ)),
        liveliness_st=float(np.subtract(*np.percentile(semitones, [90, 10]))),
    )


def _pitches(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the fundamental frequency in Hz of the frames that are voiced."""
    spectrum = np.fft.rfft(frames * np.hanning(_FRAME), 2 * _FRAME)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, :_FRAME]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME)) ** 2)[:_FRAME]
    correlation = correlation / (correlation[:, :1] + 1e-12) / np.maximum(window / window[0], 0.05)
    shortest, longest = SAMPLE_RATE_HZ // _HIGH_HZ, SAMPLE_RATE_HZ // _LOW_HZ
    lags = correlation[:, shortest : longest + 1]
    # The shortest lag that is nearly as good as the best: otherwise half the true pitch often wins.
    good = lags >= 0.9 * lags.max(1, keepdims=True)
    lag = shortest + _climb(lags, good.argmax(1))
    return np.asarray(SAMPLE_RATE_HZ / lag[lags.max(1) > 0.5], np.float64)


def _climb(lags: npt.NDArray[np.float64], start: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Move from where a peak begins to its top."""
    rows, at = np.arange(len(lags)), start.copy()
    for _ in range(20):
        right = np.minimum(at + 1, lags.shape[1] - 1)
        at = np.where(lags[rows, right] > lags[rows, at], right, at)
    return at


def median_voice(voices: Sequence[Voice]) -> Voice:
    """Return the voice that others of the corpus are compared with."""
    return Voice(*np.median(np.array([astuple(v) for v in voices]), axis=0).tolist())


def voice_words(voice: Voice, usual: Voice) -> tuple[str, ...]:
    """Name what is unusual about a voice: a share of clips earns each word, most earn one or two."""
    louder_db = voice.energy_db - usual.energy_db
    higher, faster = voice.pitch_hz / usual.pitch_hz, voice.tempo_hz / max(usual.tempo_hz, 1e-6)
    livelier = voice.liveliness_st / max(usual.liveliness_st, 1e-6)
    words = [
        "loud" if louder_db > 4 else "quiet" if louder_db < -4 else "",
        "high-pitched" if higher > 1.25 else "low-pitched" if higher < 0.8 else "",
        "lively" if livelier > 1.4 else "flat" if livelier < 0.6 else "",
        "fast" if faster > 1.2 else "slow" if faster < 0.8 else "",
    ]
    return tuple(filter(None, words))


# --- Explanations ----------------------------------------------------------------------------------------------------

_LOOKS: Final = {
    "neutral": "shows no strong expression", "calm": "is relaxed", "happy": "looks happy", "sad": "looks sad",
    "angry": "looks angry", "fearful": "looks afraid", "disgust": "shows disgust", "surprised": "looks surprised",
    "contempt": "shows contempt",
}  # fmt: skip


def voice_sentence(words: Sequence[str]) -> str:
    """Say how the voice sounds."""
    return f"The voice is {_listed(words)}." if words else "The voice is ordinary in loudness, pitch and pace."


def face_sentence(label: str) -> str:
    """Say how the face looks."""
    return f"The face {_LOOKS[family(label)]}."


def words_sentence(text: str) -> str | None:
    """Quote the words that carry feeling with their neighbours; None where no such word is found."""
    words = re.findall(r"[A-Za-z']+", text)
    hits = [i for i, word in enumerate(words) if word.lower() in FEELING_WORDS]
    if not hits:
        return None
    quote = " ".join(words[max(0, hits[0] - 2) : hits[0] + 2]).lower()
    return f'The words "{quote}" carry feeling.'


PLAIN_WORDS: Final = "The words themselves are plain."


def conclusion(label: str) -> str:
    """Say what the evidence points to."""
    return f"This points to {FEELINGS[family(label)][0]}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# --- The chain of empathy --------------------------------------------------------------------------------------------

_SAID: Final[Mapping[str, str]] = {
    "anxious": "anxious anxiety worried worry worries worrying nervous panic stress stressed stressful stressing",
    "afraid": "afraid scared fear fears frightened terrified paranoid",
    "sad": "sad sadness cry crying cried heartbroken hurt hurts upset unhappy down tears miss missing",
    "depressed": "depressed depression depressing hopeless worthless empty miserable",
    "lonely": "lonely alone isolated loneliness",
    "angry": "angry anger mad furious hate hated frustrated frustrating frustration annoyed annoying",
    "ashamed": "ashamed shame embarrassed guilty guilt",
    "overwhelmed": "overwhelmed overwhelming exhausted tired burnout struggling",
    "hopeful": "hope hopeful hopefully better",
    "grateful": "thank thanks grateful appreciate helped helpful",
    "happy": "happy glad great wonderful loved excited awesome amazing",
}
SAID: Final = {word: feeling for feeling, words in _SAID.items() for word in words.split()}
_MORE: Final = (
    "disgusting gross awful terrible horrible wow omg surprised shocked unbelievable lol haha funny enjoy enjoyed fun "
    "beautiful sorry unfortunately disappointed stupid idiot fuck fucking damn hell creepy scary shit weird wtf cool "
    "nice best worst proud lucky bad sick ridiculous pathetic insane crazy ruined lost died death"
)
FEELING_WORDS: Final = frozenset(SAID) | frozenset(_MORE.split())

_TOPICS: Final[tuple[tuple[str, str, str], ...]] = (
    # (words that name it, scenario, cause); the first that is named wins
    ("breakup broke ex boyfriend girlfriend dumped cheated cheating", "a relationship that is ending",
     "trouble with their partner"),
    ("husband wife divorce marriage partner relationship", "difficulties with their partner",
     "trouble with their partner"),
    ("fired laid unemployed layoff layoffs", "losing their job", "the loss of work"),
    ("job boss work coworker coworkers career interview manager company office", "problems at work",
     "pressure at work"),
    ("school exam exams class classes college university grades teacher study studying homework degree semester",
     "pressure in their studies", "demands of their studies"),
    ("pandemic covid virus quarantine lockdown coronavirus", "life during the pandemic", "the pandemic"),
    ("friend friends friendship", "problems with friends", "how a friend behaves"),
    ("mother mom father dad parents family sister brother son daughter kids children", "tension in the family",
     "worries about the family"),
    ("money bills rent debt afford pay financial loan", "money troubles", "too little money"),
    ("sick illness doctor pain hospital health cancer died death passed", "illness or loss", "illness or loss"),
    ("sleep insomnia nightmares", "nights without rest", "lack of sleep"),
    ("christmas holiday holidays", "the holidays", "being unable to celebrate as usual"),
    ("drinking alcohol drugs smoking", "a struggle with a habit", "a habit that is hard to break"),
)  # fmt: skip
_GOALS: Final[Mapping[str, str]] = {
    "questions": "learn more about how they feel",
    "restatement or paraphrasing": "show that they were understood",
    "reflection of feelings": "name the feeling and show understanding",
    "self-disclosure": "show that they are not alone",
    "affirmation and reassurance": "encourage and reassure them",
    "providing suggestions": "suggest something that may help",
    "information": "give useful information",
    "other": "be friendly and keep the talk going",
}
_BY_FEELING: Final = {
    "depression": "depressed", "sadness": "sad", "anxiety": "anxious", "anger": "angry", "fear": "afraid",
    "disgust": "disgusted", "shame": "ashamed", "nervousness": "anxious",
}  # fmt: skip
UNNAMED_FEELING: Final = "troubled"
"""Feeling of a chain where the words name none."""


def chain(said: Sequence[str], strategy: str, feeling: str | None = None) -> Think:
    """Build the chain of empathy before a reply.

    Args:
        said: The person's turns, oldest first.
        strategy: The listener's annotated strategy.
        feeling: The dialogue's annotated emotion type, where there is one.
    """
    scenario, cause = _topic(said)
    return Think(
        scenario=f"the person talks about {scenario}",
        emotion=_feeling(said) or _BY_FEELING.get(feeling or "", UNNAMED_FEELING),
        cause=cause,
        goal=_GOALS.get(strategy.strip().lower(), _GOALS["other"]),
    )


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower().replace("’", "'"))


def _feeling(said: Sequence[str]) -> str | None:
    """Return the feeling that the person named last."""
    for turn in reversed(said):
        for word in _tokens(turn):
            if word in SAID:
                return SAID[word]
    return None


def _topic(said: Sequence[str]) -> tuple[str, str]:
    """Return scenario and cause of the topic that the person named last."""
    for turn in reversed(said):
        words = set(_tokens(turn))
        for names, scenario, cause in _TOPICS:
            if words & set(names.split()):
                return scenario, cause
    return "how they are doing", "something they have not named yet"


def pick(key: str, count: int) -> int:
    """Return a number below ``count`` that depends on nothing but ``key``."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count
