"""A training objective, from outside the package: label smoothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from nanoemox.model.modeling import NanoEmoXOutput
from nanoemox.model.processing import Ask
from nanoemox.training.command import run_train
from nanoemox.training.objectives import OBJECTIVES
from nanoemox.training.objectives.cross_entropy import answers, cross_entropy
from nanoemox.training.phases import load_curriculum
from nanoemox.types import RecipeError
from tests.tiny import tiny_clip, tiny_model, tiny_processor
from tests.training.toy import steady_root


def smoothed(output: NanoEmoXOutput, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    targets = answers(labels)
    loss = functional.cross_entropy(output.logits.float(), targets, label_smoothing=0.5, reduction="sum")
    return loss / (len(targets) if num_items_in_batch is None else num_items_in_batch)


def test_it_is_trained_with_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "smoothed", smoothed)  # the one line
    fields = steady_root(tmp_path)
    fields["phases"] = {"first": fields["phases"]["first"] | {"modality_dropout": {}}}
    losses = {}
    for objective in ("cross_entropy", "smoothed"):
        fields["phases"]["first"]["objective"] = objective
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fields))
        run_train(
            tmp_path / "recipe.yaml", tmp_path / "data", tmp_path / objective, tmp_path / "base",
            features=tmp_path / "features", show=False,
        )  # fmt: skip
        lines = (tmp_path / objective / "first" / "metrics.jsonl").read_text().splitlines()
        losses[objective] = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    assert len(losses["smoothed"]) == 2
    assert losses["smoothed"] != losses["cross_entropy"]


def test_an_unknown_objective_names_those_that_there_are(tmp_path: Path) -> None:
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


def test_ours_is_the_loss_of_the_model() -> None:
    batch = tiny_processor()([tiny_clip(i) for i in range(2)], [Ask("mer", answer=a) for a in ("happy", "sad")])
    model, labels = tiny_model(), batch["labels"]
    keep = torch.cat([labels[:, 1:] != -100, torch.zeros(2, 1, dtype=torch.bool)], 1)
    for count in (None, 7):
        whole = model(**batch, num_items_in_batch=count).loss
        part = model(**{k: v for k, v in batch.items() if k != "labels"}, logits_to_keep=keep)
        torch.testing.assert_close(cross_entropy(part, labels, count), whole)
