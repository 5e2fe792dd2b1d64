"""Questions used to validate held-out samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ReplyLabels, Sample
from nanoemox.training.phases import Curriculum
from nanoemox.training.validate import Validator
from tests.tiny import tiny_model, tiny_processor
from tests.training.toy import RECIPE

CHAIN = {"scenario": "s", "emotion": "sad", "cause": "c", "goal": "g"}


def replies(*, think: bool) -> list[Sample]:
    labels = ReplyLabels.model_validate({"think": CHAIN if think else None, "reply": "Oh no."})
    return [
        Sample(id=f"{i}", corpus="said", split="validation", task="erg", subtitle=f"I failed {i} times", labels=labels)
        for i in range(40)
    ]


@pytest.mark.parametrize(
    ("think", "share", "least", "most"),
    [(False, 1.0, 0, 0), (True, 0.0, 0, 0), (True, 1.0, 40, 40), (True, 0.5, 10, 30)],
)
def test_validation_of_replies_matches_training(
    tmp_path: Path, think: bool, share: float, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor, samples = tiny_model(), tiny_processor(), replies(think=think)
    cache = FeatureCache.open_or_build(samples, model, processor, tmp_path, CacheOptions(root=tmp_path))
    phase = Curriculum.model_validate(yaml.safe_load(RECIPE)).phases["second"].model_copy(update={"think_share": share})
    validator = Validator(model, processor, cache, phase)
    measured = []
    real = validator.answers
    monkeypatch.setattr(validator, "answers", lambda examples: measured.extend(examples) or real(examples))
    assert validator.measure({"said/erg": samples}, 40, 0)["said/erg/n"] == 40
    assert all(e.ask.think == e.ask.answer.startswith("<think>") for e in measured)
    assert least <= sum(e.ask.think for e in measured) <= most


def test_validation_can_be_disabled(tmp_path: Path) -> None:
    model, processor, samples = tiny_model(), tiny_processor(), replies(think=False)
    cache = FeatureCache.open_or_build(samples, model, processor, tmp_path, CacheOptions(root=tmp_path))
    phase = Curriculum.model_validate(yaml.safe_load(RECIPE)).phases["second"]
    assert Validator(model, processor, cache, phase).measure({"said/erg": samples}, 0, 0) == {}
