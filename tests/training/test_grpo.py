from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from nanoemox.data.manifest import Sample, write_manifest
from nanoemox.model.lora import LoraSpec, attach_lora
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask
from nanoemox.training.command import run_train
from nanoemox.training.freeze import set_trainable
from nanoemox.training.loop import P2ETrainer
from nanoemox.training.objectives import Start
from nanoemox.training.objectives.cross_entropy import cross_entropy
from nanoemox.training.objectives.grpo import Grpo, GrpoLoss, Rollout, answer_log_probs
from nanoemox.training.phases import load_curriculum
from nanoemox.types import Clip, RecipeError
from tests.tiny import save_tiny, tiny_clip, tiny_model, tiny_processor

TRUTH = ("happy, pleased", "sad, disappointed", "angry, annoyed")


def batch_of(*, bare: bool = False) -> dict[str, Any]:
    clips = [replace(tiny_clip(i), subtitle="no " * (2 * i + 1)) for i in range(3)]  # of three lengths
    if bare:
        clips = [Clip(clip.name, subtitle=clip.subtitle) for clip in clips]
    batch = dict(tiny_processor()(clips, [Ask("ovmer", answer=a) for a in TRUTH]))
    keep = torch.cat([batch["labels"][:, 1:] != -100, torch.zeros(3, 1, dtype=torch.bool)], 1)
    return batch | {"logits_to_keep": keep}


def trained_model() -> NanoEmoXForConditionalGeneration:
    model = tiny_model()
    torch.manual_seed(0)
    attach_lora(model, LoraSpec(4, 8, 0.5))
    set_trainable(model, ["lora", "speech_adapter"])
    return model.train()


def begin(settings: Grpo, model: NanoEmoXForConditionalGeneration) -> tuple[GrpoLoss, dict[str, list[float]]]:
    noted: dict[str, list[float]] = {}
    note = lambda name, value: noted.setdefault(name, []).append(value)  # noqa: E731
    return GrpoLoss(settings, Start(model, tiny_processor(), 3, note)), noted


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_log_probabilities_match_cross_entropy() -> None:
    model, batch = trained_model().eval(), batch_of()
    log_probs = answer_log_probs(model, batch)
    assert len(log_probs) == batch["logits_to_keep"].sum()
    torch.testing.assert_close(-log_probs.mean(), cross_entropy(model, batch))


@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_samples_follow_the_trained_probabilities(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    model = trained_model().eval()
    loss, _ = begin(Grpo(group=2, max_new_tokens=5, temperature=temperature), model)
    drawn_from: list[torch.Tensor] = []
    real = NanoEmoXForConditionalGeneration.generate

    def watched(self: NanoEmoXForConditionalGeneration, **kwargs: Any) -> torch.Tensor:
        out = real(self, **kwargs, output_scores=True, return_dict_in_generate=True)
        chosen = out.sequences[:, -len(out.scores) :]
        found = torch.stack(out.scores, 1).log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
        drawn_from.extend(found)
        return out.sequences

    monkeypatch.setattr(NanoEmoXForConditionalGeneration, "generate", watched)
    prompts, _ = loss.read(batch_of())
    assert len({len(p) for p in prompts}) > 1  # so that padding matters
    media = {k: v for k, v in batch_of().items() if k.endswith("_values")}
    answers = loss.sample(prompts, media)
    rows = loss.batch(prompts, answers, media)
    learnt = answer_log_probs(model, rows, temperature).split([len(a.ids) for a in answers])
    for one, other, answer in zip(learnt, drawn_from, answers, strict=True):
        torch.testing.assert_close(one, other[: len(answer.ids)], atol=1e-4, rtol=1e-4)


def test_reward_reads_the_truth_from_the_batch() -> None:
    loss, _ = begin(Grpo(), trained_model())
    assert loss.read(batch_of())[1] == [("happy", "pleased"), ("sad", "disappointed"), ("angry", "annoyed")]


def test_an_answer_ends_at_its_terminator() -> None:
    loss, _ = begin(Grpo(), trained_model())
    end = tiny_processor().terminator_ids
    words = tiny_processor().answer_ids("sad, angry")[: -len(end)]
    assert loss.rollout_of([*words, *end, 5, 5], end) == Rollout((*words, *end), ("sad", "angry"), True)
    assert loss.rollout_of(words, end) == Rollout(tuple(words), ("sad", "angry"), False)


def test_placeholder_in_an_answer_needs_no_media() -> None:
    model = trained_model().eval()
    loss, _ = begin(Grpo(), model)
    batch, face = batch_of(), tiny_processor().config.placeholder_token_ids["face"]
    prompts, _ = loss.read(batch)
    answers = [loss.rollout_of([20, face, 21, *tiny_processor().terminator_ids], tiny_processor().terminator_ids)] * 3
    assert answers[0].ids == (20, face)
    assert not answers[0].ended
    rows = loss.batch(prompts, answers, {k: v for k, v in batch.items() if k.endswith("_values")})
    assert len(answer_log_probs(model, rows)) == 6
    assert rows["labels"][0][rows["labels"][0] != -100].tolist() == [20, face]


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_constant_reward_changes_no_weight(monkeypatch: pytest.MonkeyPatch, kl: float) -> None:
    monkeypatch.setattr(Grpo, "score", lambda *_: (1 / 3, 0.1, 3))
    model = trained_model()
    loss, _ = begin(Grpo(group=7, max_new_tokens=4, kl=kl), model)
    loss(model, batch_of()).backward()
    assert len(gradients(model)) > 10
    assert all(not g.any() for g in gradients(model))
    assert model.training


def test_grpo_step_raises_the_probability_of_better_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grpo, "score", lambda _, __, answer: (float(answer.ids[0] % 2), 0.0, 0))
    model, drawn = trained_model(), []
    loss, noted = begin(Grpo(group=8, max_new_tokens=2, kl=0.1), model)
    sample = loss.sample
    monkeypatch.setattr(loss, "sample", lambda *args: drawn.append((args, sample(*args))) or drawn[-1][1])

    def likelihood_of_the_better() -> float:
        (prompts, media), answers = drawn[0]
        rows = loss.batch(prompts, answers, media)
        with torch.no_grad():
            log_probs = answer_log_probs(model.eval(), rows)
        better = torch.tensor([a.ids[0] % 2 for a in answers])[rows["logits_to_keep"].nonzero()[:, 0]]
        return float(((2 * better - 1) * log_probs).sum())

    loss(model, batch_of(bare=True)).backward()
    before = likelihood_of_the_better()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.01).step()
    assert likelihood_of_the_better() > before
    loss(model, batch_of(bare=True))
    first, second = noted["kl"]
    assert first == 0 < second


def test_reference_weights_are_kept() -> None:
    model = trained_model()
    loss, _ = begin(Grpo(group=2, max_new_tokens=3), model)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    moved = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss(model, batch_of())
    assert loss.reference.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(t, start[n]) for n, t in loss.reference.items())
    assert all(torch.equal(p, moved[n]) for n, p in model.named_parameters())


def answer(*words: str, ended: bool = True) -> Rollout:
    return Rollout((1,), words, ended)


def test_precision_and_recall_are_normalised_separately() -> None:
    settings = Grpo(length_penalty=0.0)
    truth = [("happy", "pleased")]
    group = [answer("joyful"), answer("sad"), answer("joyful", "sad"), answer("happy", ended=False)]
    right, wrong, half, endless = settings.advantages(truth, [group])[0]
    assert right > half > wrong == endless
    assert right + wrong + half + endless == pytest.approx(0)
    precision, recall = np.array([1, 0, 0.5, 0]), np.array([1, 0, 1, 0])
    expected = sum((x - x.mean()) / (x.std() + 1e-4) for x in (precision, recall))
    np.testing.assert_allclose(settings.advantages(truth, [group])[0], expected)


def test_reward_penalty_of_an_extra_word() -> None:
    truth, group = [("happy",)], [answer("happy"), answer("happy", "glad", "merry")]
    assert Grpo(length_penalty=0.25).advantages(truth, [group])[0].tolist() == [0.25, -0.25]
    assert Grpo(length_penalty=0.0).advantages(truth, [group])[0].tolist() == [0, 0]


def test_recall_reward_favours_long_lists() -> None:
    naive = Grpo(precision=0.0, length_penalty=0.0)
    few, many = naive.advantages([("sad", "angry")], [[answer("sad"), answer("sad", "angry", "happy", "afraid")]])[0]
    assert many > few
    few, many = Grpo().advantages([("sad",)], [[answer("sad"), answer("sad", "angry", "happy", "afraid")]])[0]
    assert few > many


RECIPE: dict[str, Any] = {
    "name": "words",
    "seed": 5,
    "log_every": 1,
    "validation_samples": 2,
    "phases": {
        "words": {
            "trainable": ["lora", "speech_adapter"], "lora": {"r": 4, "alpha": 8, "dropout": 0.5},
            "mixture": {"told/ovmer": 1}, "lr": 5e-3, "steps": 4, "micro_batch": 2, "accumulation": 2, "save_every": 2,
            "objective": "grpo", "objective_settings": {"group": 3, "max_new_tokens": 5, "kl": 0.2},
        }
    },
}  # fmt: skip


def test_resume_equals_an_uninterrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"corpus": "told", "id": f"t{i}", "task": "ovmer", "split": "validation" if i > 5 else "train",
         "subtitle": "no " * (i + 1), "labels": {"labels": ["sad", "angry"][: 1 + i % 2]}}
        for i in range(8)
    ]  # fmt: skip
    write_manifest([Sample.model_validate(r) for r in rows], tmp_path / "data/manifests/told.jsonl")
    save_tiny(tmp_path / "base")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    # Random models write no emotion words, so that there would be nothing to learn.
    monkeypatch.setattr(Grpo, "score", lambda _, __, answer: (sum(i % 2 for i in answer.ids), len(set(answer.ids)), 0))

    def train(name: str, resume: bool = False) -> dict[str, torch.Tensor]:
        run_train(
            tmp_path / "r.yaml", tmp_path / "data", tmp_path / name, tmp_path / "base", resume=resume, show=False,
            features=tmp_path / "features",
        )  # fmt: skip
        return load_file(tmp_path / name / "words/adapters.safetensors")

    whole = train("whole")
    real = P2ETrainer.training_step

    def dies(self: P2ETrainer, *args: object, **kwargs: object) -> torch.Tensor:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(P2ETrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train("killed")
    monkeypatch.setattr(P2ETrainer, "training_step", real)
    again = train("killed", resume=True)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert any(whole[k].any() for k in whole if "lora_B" in k)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mixture": {"told/ovmer": 1, "told/mer": 1}}, "grpo scores lists of emotion words, not mer: draw ovmer"),
        ({"objective_settings": {"groop": 3}}, "groop"),
        ({"objective_settings": {"group": 1}}, "greater than or equal to 2"),
    ],
)
def test_grpo_refuses_unsupported_options(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    fields = RECIPE | {"phases": {"words": RECIPE["phases"]["words"] | change}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(RecipeError, match=says):
        load_curriculum(tmp_path / "r.yaml")


def test_sharded_model_cannot_generate(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE | {"fsdp": True}))
    with pytest.raises(RecipeError, match="objective grpo cannot be used with fsdp"):
        load_curriculum(tmp_path / "r.yaml")
