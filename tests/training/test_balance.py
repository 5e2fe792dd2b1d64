from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nanoemox.data.mixture import BalancedMixture, Mixture
from nanoemox.training.balance import balanced_weights
from nanoemox.training.command import run_train
from nanoemox.training.loop import P2ETrainer
from nanoemox.training.phases import Balance
from nanoemox.types import RecipeError
from tests.tiny import save_tiny
from tests.training.toy import RECIPE, toy_root, toy_samples

WEIGHTS = {"a/mer": 2.0, "b/mer": 1.0, "a/eri": 3.0}


def test_lagging_tasks_gain_weight_and_the_sum_is_constant() -> None:
    before, now = {"a/mer": 2.0, "b/mer": 2.0, "a/eri": 4.0}, {"a/mer": 0.5, "b/mer": 0.5, "a/eri": 3.0}
    out = balanced_weights(WEIGHTS, before, now, Balance(most=10.0))
    assert sum(out.values()) == pytest.approx(6)
    assert out["a/mer"] / out["b/mer"] == pytest.approx(2), "a task keeps its proportions"
    # kept 0.25 against 0.75: three times the weight, relative to the recipe
    assert (out["a/eri"] / 3) / (out["a/mer"] / 2) == pytest.approx(3)
    bounded = balanced_weights(WEIGHTS, before, now, Balance(most=1.2))
    assert (bounded["a/eri"] / 3) / (bounded["a/mer"] / 2) == pytest.approx(1.44)


def test_zero_strength_or_no_measurement_changes_nothing() -> None:
    before, now = {"a/mer": 2.0, "a/eri": 4.0}, {"a/mer": 0.5, "a/eri": 3.0}
    assert balanced_weights(WEIGHTS, before, now, Balance(strength=0)) == pytest.approx(WEIGHTS)
    assert balanced_weights(WEIGHTS, {}, {}, Balance()) == pytest.approx(WEIGHTS)


def test_weight_change_applies_only_to_later_samples() -> None:
    samples = toy_samples(30)
    sources = {t: [s for s in samples if s.task == t] for t in ("mer", "eri")}
    plain, balanced = Mixture(sources, {"mer": 1, "eri": 1}, 5), BalancedMixture(sources, {"mer": 1, "eri": 1}, 5)
    balanced.change(700, {"mer": 1, "eri": 3})
    assert all(plain[i] == balanced[i] for i in range(700))
    names = [balanced[i][0] for i in range(700, 2700)]
    assert names.count("eri") == 1500
    with pytest.raises(RecipeError, match="change at 700"):
        balanced.change(700, {"mer": 1, "eri": 1})


def test_balanced_run_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    toy_root(tmp_path / "data")
    save_tiny(tmp_path / "base")
    recipe = RECIPE.replace("steps: 4", "steps: 6").replace("save_every: 2", "save_every: 2\n    balance: {every: 1}")
    (tmp_path / "toy.yaml").write_text(recipe)

    def train(name: str, *, resume: bool = False) -> None:
        run_train(
            tmp_path / "toy.yaml", tmp_path / "data", tmp_path / name, tmp_path / "base", resume=resume,
            features=tmp_path / "features", show=False,
        )  # fmt: skip

    train("whole")
    real = P2ETrainer.training_step

    def dies(self: P2ETrainer, *args: object, **kwargs: object) -> torch.Tensor:
        if "second" in self.args.output_dir and self.state.global_step == 5:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(P2ETrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train("killed")
    monkeypatch.setattr(P2ETrainer, "training_step", real)
    train("killed", resume=True)
    one, two = (load_file(tmp_path / n / "second" / "adapters.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    rows = [
        [json.loads(line) for line in (tmp_path / n / "second" / "balance.jsonl").read_text().splitlines()]
        for n in ("whole", "killed")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [0, 1, 2, 3, 4, 5]
    assert not (tmp_path / "whole" / "first" / "balance.jsonl").exists()
