"""A training objective, from outside the package: label smoothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from nanoemox.model.processing import Ask
from nanoemox.training.command import run_train
from nanoemox.training.objectives import OBJECTIVES, Loss, Objective, Start, answer_logits
from nanoemox.training.objectives.cross_entropy import cross_entropy
from nanoemox.training.phases import load_curriculum
from nanoemox.types import RecipeError
from tests.tiny import tiny_clip, tiny_model, tiny_processor
from tests.training.toy import steady_root


class Smoothed(Objective):
    smoothing: float

    def begin(self, start: Start) -> Loss:
        def loss(model: nn.Module, batch: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor:
            logits, targets = answer_logits(model, batch)
            start.log("tokens", len(targets))
            found = functional.cross_entropy(logits, targets, label_smoothing=self.smoothing, reduction="sum")
            return found / (len(targets) if num_items_in_batch is None else num_items_in_batch)

        return loss


def test_new_objective_is_selected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "smoothed", Smoothed)  # the one line
    fields = steady_root(tmp_path)
    fields["phases"] = {"first": fields["phases"]["first"] | {"modality_dropout": {}}}
    losses = {}
    for objective, settings in (("cross_entropy", {}), ("smoothed", {"smoothing": 0.5})):
        fields["phases"]["first"] |= {"objective": objective, "objective_settings": settings}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fields))
        run_train(
            tmp_path / "recipe.yaml", tmp_path / "data", tmp_path / objective, tmp_path / "base",
            features=tmp_path / "features", show=False,
        )  # fmt: skip
        lines = (tmp_path / objective / "first" / "metrics.jsonl").read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if "loss" in row]
        losses[objective] = [row["loss"] for row in rows]
    assert all(row["tokens"] > 1 for row in rows)
    assert len(losses["smoothed"]) == 2
    assert losses["smoothed"] != losses["cross_entropy"]


def test_objective_settings_are_strict(tmp_path: Path) -> None:
    fields = {"trainable": ["fusion"], "mixture": {"a/mer": 1}, "lr": 1, "steps": 1, "micro_batch": 1}
    fields["objective_settings"] = {"smoothing": 0.1}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "r", "phases": {"only": fields}}))
    with pytest.raises(RecipeError, match="smoothing: Extra inputs are not permitted"):
        load_curriculum(tmp_path / "r.yaml")


def test_unknown_objective_lists_the_known_ones(tmp_path: Path) -> None:
    phase = {
        "trainable": ["fusion"],
        "mixture": {"a/mer": 1},
        "lr": 1,
        "steps": 1,
        "micro_batch": 1,
        "objective": "dpo",
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"name": "r", "phases": {"only": phase}}))
    with pytest.raises(RecipeError, match="objective 'dpo' is unknown: choose cross_entropy"):
        load_curriculum(tmp_path / "r.yaml")


def test_cross_entropy_equals_the_models_loss() -> None:
    batch = tiny_processor()([tiny_clip(i) for i in range(2)], [Ask("mer", answer=a) for a in ("happy", "sad")])
    model, labels = tiny_model(), batch["labels"]
    keep = torch.cat([labels[:, 1:] != -100, torch.zeros(2, 1, dtype=torch.bool)], 1)
    for count in (None, 7):
        whole = model(**batch, num_items_in_batch=count).loss
        torch.testing.assert_close(cross_entropy(model, {**batch, "logits_to_keep": keep}, count), whole)
