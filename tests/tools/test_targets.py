from __future__ import annotations

import numpy as np
import pytest

from nanoemox.tasks import LABEL_SETS, format_chain, parse_chain
from tools.corpora.targets import (
    FEELINGS,
    Voice,
    chain,
    conclusion,
    emotion_words,
    face_sentence,
    measure_voice,
    median_voice,
    voice_words,
    words_sentence,
)


def hum(pitch_hz: float, level: float = 0.1, syllables_hz: float = 4.0, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(16_000 * seconds)) / 16_000
    voice = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 6))
    return (level * voice * (0.55 + 0.45 * np.sin(2 * np.pi * syllables_hz * t))).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [80, 120, 200, 330, 450])
def test_pitch_of_a_hum(pitch_hz: float) -> None:
    voice = measure_voice(hum(pitch_hz))
    assert voice is not None
    assert voice.pitch_hz == pytest.approx(pitch_hz, rel=0.03)


def test_level_and_tempo() -> None:
    quiet, loud = measure_voice(hum(150, 0.02)), measure_voice(hum(150, 0.2))
    assert loud.energy_db - quiet.energy_db == pytest.approx(20, abs=0.5)
    slow, fast = measure_voice(hum(150, syllables_hz=2)), measure_voice(hum(150, syllables_hz=5))
    assert slow.tempo_hz == pytest.approx(2, abs=0.6)
    assert fast.tempo_hz == pytest.approx(5, abs=0.6)


def test_nothing_to_measure() -> None:
    assert measure_voice(np.zeros(16_000, np.float32)) is None
    assert measure_voice(np.zeros(10, np.float32)) is None
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    assert measure_voice(noise) is None


def test_voice_words_describe_deviation_from_the_mean() -> None:
    usual = median_voice([Voice(150, -30, 4, 6), Voice(160, -31, 4, 6), Voice(140, -29, 4, 6)])
    assert usual == Voice(150, -30, 4, 6)
    assert voice_words(usual, usual) == ()
    assert voice_words(Voice(220, -22, 5.5, 9), usual) == ("loud", "high-pitched", "lively", "fast")
    assert voice_words(Voice(100, -38, 2.5, 2), usual) == ("quiet", "low-pitched", "flat", "slow")


def test_every_label_of_our_corpora_has_words() -> None:
    for name in ("ravdess", "facial_expressions", "goemotions_ekman"):
        for label in LABEL_SETS[name]:
            assert len(emotion_words([label])) == len(emotion_words([label], strong=True)) == 2
            assert conclusion(label).startswith("This points to")
            assert face_sentence(label).startswith("The face")
    assert emotion_words(["joy", "happiness"]) == FEELINGS["happy"][1]


def test_quoting() -> None:
    assert words_sentence("Well, I am so worried about this test") == 'The words "am so worried about" carry feeling.'
    assert words_sentence("The door is brown") is None


def test_chain_is_complete_and_round_trips() -> None:
    think = chain(["I lost my job last week", "and now I am scared of the rent"], "Providing Suggestions")
    assert (think.emotion, think.goal) == ("afraid", "suggest something that may help")
    assert "money" in think.scenario
    assert parse_chain(format_chain(think, "Take your time."))[0] == think
    assert chain(["hm"], "Other", "anger").emotion == "angry"
