from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanoemox.training.command import run_train
from nanoemox.training.forgetting import backward_transfer, taught_by
from nanoemox.training.phases import Curriculum, load_curriculum
from nanoemox.types import RecipeError
from tests.training.toy import RECIPE, steady_root, toy_samples

PLAIN: dict[str, Any] = {"trainable": ["fusion"], "lr": 1e-3, "steps": 1, "micro_batch": 2}


def curriculum(**last: Any) -> Curriculum:
    phases = {
        "a": PLAIN | {"mixture": {"composed/mer": 3, "composed/eri": 1}, "subset": {"composed/eri": 0.5}},
        "b": PLAIN | {"mixture": {"said/erg": 2}, "from": ["a"]},
        "c": PLAIN | {"mixture": {"said/mir": 4}, "from": ["b"]} | last,
    }
    return Curriculum.model_validate({"name": "r", "phases": phases})


def test_replay_fraction_of_samples() -> None:
    phase = curriculum(replay=0.2).with_replay("c")
    assert phase.mixture == pytest.approx(
        {"said/mir": 4, "composed/mer": 0.375, "composed/eri": 0.125, "said/erg": 0.5}
    )
    assert phase.subset == {"composed/eri": 0.5}
    samples = {c: [s for s in toy_samples() if s.corpus == c] for c in ("composed", "said")}
    mixture = phase.draw(samples, 1)
    drawn = Counter(mixture[i][0] for i in range(2000))
    assert drawn == {"said/mir": 1600, "composed/mer": 150, "composed/eri": 50, "said/erg": 200}


def test_replay_adds_to_existing_sources() -> None:
    phase = curriculum(mixture={"composed/mer": 1, "composed/eri": 1}, replay=0.5).with_replay("c")
    assert phase.mixture == pytest.approx({"composed/mer": 1.75, "composed/eri": 1.25, "said/erg": 1})
    assert phase.subset == {}


def test_no_replay_leaves_the_mixture_unchanged() -> None:
    plain = curriculum()
    assert plain.with_replay("c") is plain.phases["c"]


def test_replay_needs_a_previous_phase() -> None:
    with pytest.raises(ValueError, match=r"replay 0\.1 draws from earlier phases: name them in 'from'"):
        curriculum(replay=0.1, **{"from": []})


def test_a_matrix_needs_held_out_samples(tmp_path: Path) -> None:
    fields = yaml.safe_load(RECIPE) | {"forgetting": True, "validation_samples": 0}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(RecipeError, match="forgetting measures validation_samples of each selector, got 0"):
        load_curriculum(tmp_path / "r.yaml")


def test_backward_transfer_is_the_mean_change_since_training() -> None:
    plain = curriculum()
    assert taught_by(plain) == {"composed/mer": "a", "composed/eri": "a", "said/erg": "b", "said/mir": "c"}

    def row(mer: float, eri: float, erg: float, mir: float) -> dict[str, dict[str, float]]:
        return {
            "composed/mer": {"accuracy": mer, "loss": 9.0}, "composed/eri": {"loss": eri}, "said/erg": {"loss": erg},
            "said/mir": {"accuracy": mir, "loss": 9.0},
        }  # fmt: skip

    rows = {"a": row(0.8, 1.0, 5.0, 0.1), "b": row(0.7, 1.5, 2.0, 0.1), "c": row(0.5, 2.0, 2.5, 0.9)}
    assert backward_transfer(plain, rows) == pytest.approx({"accuracy": -0.3, "loss": 0.75})
    assert backward_transfer(plain, {"a": rows["a"]}) == {}


def test_run_writes_its_matrix(tmp_path: Path) -> None:
    fields = steady_root(tmp_path) | {"forgetting": True}
    fields["phases"]["second"] |= {"replay": 0.4, "steps": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fields))
    result = run_train(
        tmp_path / "recipe.yaml", tmp_path / "data", tmp_path / "out", tmp_path / "base", show=False
    )["phases"]  # fmt: skip
    matrix = json.loads((tmp_path / "out/forgetting.json").read_text())
    rows = {row["after"]: row["scores"] for row in matrix["rows"]}
    assert list(rows) == ["first", "second"]
    assert rows["first"].keys() == rows["second"].keys() == {"composed/mer", "composed/eri", "said/mir", "said/erg"}
    # What the phase itself measures is measured the same way.
    assert rows["second"]["said/erg"]["loss"] == result["second"]["validation"]["said/erg/loss"]
    first, last = (rows[p]["composed/mer"]["accuracy"] for p in ("first", "second"))
    assert matrix["backward_transfer"]["accuracy"] == pytest.approx(last - first)
    card = (tmp_path / "out/second/card.md").read_text()
    cells = [line.split("|")[1:-1] for line in card.splitlines() if line.startswith(("| after |", "| second |"))]
    shown = {head.strip(): cell.strip() for head, cell in zip(*cells, strict=True)}
    assert shown["composed/mer (first)"] == f"{last:.3f}"
    assert shown["said/erg (second)"] == f"{rows['second']['said/erg']['loss']:.3f}"
    assert "| composed/eri | 10.0% |" in card  # replayed samples stand among the others
    assert "Backward transfer" in (tmp_path / "out/first/card.md").read_text()
