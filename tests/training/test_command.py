from __future__ import annotations

import gc
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.training.collate import IDS, Collator, Draws, SortedWindows
from nanoemox.training.command import run_train
from nanoemox.training.freeze import lighten
from nanoemox.training.loop import NonFiniteError, P2ETrainer
from nanoemox.training.phases import load_curriculum
from nanoemox.types import RecipeError
from tests.tiny import tiny_model, tiny_processor
from tests.training.toy import RECIPE, toy_place, toy_samples


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root, base model and recipe."""
    return toy_place(tmp_path_factory.mktemp("train"))


def train(place: Path, name: str, *, resume: bool = False, max_steps: int | None = None) -> dict:
    return run_train(
        place / "toy.yaml", place / "data", place / name, place / "base", resume=resume, max_steps=max_steps,
        features=place / "features", show=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(place: Path) -> dict:
    return train(place, "whole")


def test_run_writes_a_model_and_its_card(place: Path, finished: dict) -> None:
    out = place / "whole"
    model = NanoEmoXForConditionalGeneration.from_pretrained(out / "model")
    assert not any(".lora_" in n for n, _ in model.named_parameters())
    NanoEmoXProcessor.from_pretrained(out / "model")
    lines = [json.loads(line) for line in (out / "second" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    measured = finished["phases"]["second"]["validation"]
    assert {"composed/mer/accuracy", "said/mir/uar", "said/erg/loss"} <= set(measured)
    assert 0 <= measured["composed/mer/accuracy"] <= 1
    assert (out / "second" / "resolved.yaml").is_file()
    card = (out / "second" / "card.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| composed/mer |"))
    assert row.startswith("| composed/mer | 33.3% | 4 | 2 |")
    assert row.endswith("| 0.333 | 0.500 |")
    assert "from where first ended" in card


def test_checkpoints_contain_only_trainable_weights(place: Path, finished: dict) -> None:
    folder = place / "whole" / "second" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    with safe_open(str(folder / "checkpoint-4" / "adapters.safetensors"), framework="pt") as file:
        heads = {".lora_" if ".lora_" in name else name.split(".")[0] for name in file.keys()}  # noqa: SIM118
    assert heads == {"vision_adapter", "speech_adapter", "fusion", ".lora_"}
    assert not list(folder.rglob("model.safetensors"))


def test_resume_equals_an_uninterrupted_run(place: Path, finished: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    real = P2ETrainer.training_step

    def dies(self: P2ETrainer, *args: object, **kwargs: object) -> torch.Tensor:
        if "second" in self.args.output_dir and self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(P2ETrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(place, "killed")
    monkeypatch.setattr(P2ETrainer, "training_step", real)
    # What a SIGKILL during saving leaves must not be taken for a checkpoint.
    (place / "killed" / "second" / "checkpoints" / ".partial" / "checkpoint-3").mkdir(parents=True)
    with (place / "killed/second/metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')  # and what one leaves in the log must not stop the next run
    again = train(place, "killed", resume=True)
    for phase in ("first", "second"):
        one = load_file(place / "whole" / phase / "adapters.safetensors")
        two = load_file(place / "killed" / phase / "adapters.safetensors")
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
    assert again["phases"]["second"]["validation"] == finished["phases"]["second"]["validation"]
    lines = [json.loads(line) for line in (place / "killed/second/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


def test_one_model_at_a_time_is_in_memory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = {id(o) for o in gc.get_objects() if type(o) is NanoEmoXForConditionalGeneration}
    alive: list[int] = []
    real = P2ETrainer.train

    def counted(self: P2ETrainer, *args: object, **kwargs: object) -> object:
        models = (o for o in gc.get_objects() if type(o) is NanoEmoXForConditionalGeneration)
        alive.append(sum(id(m) not in before for m in models))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(P2ETrainer, "train", counted)
    train(place, "lean", max_steps=1)
    assert alive == [1, 1]


def test_an_old_run_is_not_overwritten(place: Path, finished: dict) -> None:
    with pytest.raises(RecipeError, match="resume it, or name another folder"):
        train(place, "whole")


def test_frozen_parts_stay_and_trainable_parts_change(place: Path, finished: dict) -> None:
    before, after = load_file(place / "base/model.safetensors"), load_file(place / "whole/model/model.safetensors")
    moved = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert moved == {"vision_adapter", "speech_adapter", "fusion", "language_model"}


def test_nan_loss_stops_before_the_step(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = NanoEmoXForConditionalGeneration.forward

    def breaks(self: NanoEmoXForConditionalGeneration, **kwargs: object) -> object:
        out = real(self, **kwargs)
        out.logits = out.logits * float("nan")
        return out

    monkeypatch.setattr(NanoEmoXForConditionalGeneration, "forward", breaks)
    with pytest.raises(NonFiniteError, match=r"loss nan is not finite at step 1; samples: composed/c\d/") as error:
        train(place, "nan", max_steps=1)
    assert "--resume" in str(error.value)


def test_nan_gradient_stops_before_the_step(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = P2ETrainer.training_step

    def poisons(self: P2ETrainer, model: torch.nn.Module, *args: object) -> torch.Tensor:
        loss = real(self, model, *args)
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(P2ETrainer, "training_step", poisons)
    shutil.rmtree(place / "inf", ignore_errors=True)
    with pytest.raises(NonFiniteError, match=r"gradient of \S+ and \d+ more is not finite at step 1; samples: c"):
        train(place, "inf", max_steps=1)


def test_half_precision_frozen_weights_give_identical_results(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = yaml.safe_load(RECIPE) | {"precision": "bf16"}
    (place / "half.yaml").write_text(yaml.safe_dump(fields))
    held: set[torch.dtype] = set()

    def seen(model: torch.nn.Module, dtype: torch.dtype | None) -> None:
        lighten(model, dtype)
        assert model.speech_encoder is None
        names = dict(model.named_parameters())
        held.add(next(p for n, p in names.items() if "up_proj" in n and ".lora_" not in n).dtype)
        assert all(p.dtype == torch.float32 for n, p in names.items() if p.requires_grad or "norm" in n or "embed" in n)

    for name, change in (("light", seen), ("heavy", lambda model, dtype: None)):
        monkeypatch.setattr("nanoemox.training.command.lighten", change)
        run_train(
            place / "half.yaml", place / "data", place / name, place / "base", features=place / "features", show=False
        )
    assert held == {torch.bfloat16}
    for phase in ("first", "second"):
        light, heavy = (load_file(place / name / phase / "adapters.safetensors") for name in ("light", "heavy"))
        assert light.keys() == heavy.keys()
        assert all(torch.equal(light[n], heavy[n]) for n in light)
        results = [json.loads((place / name / phase / "result.json").read_text()) for name in ("light", "heavy")]
        assert results[0]["validation"] == results[1]["validation"]


@pytest.fixture
def draws(place: Path) -> Draws:
    model, processor = tiny_model(), tiny_processor()
    samples = toy_samples()
    cache = FeatureCache.open_or_build(samples, model, processor, place / "f2", CacheOptions(root=place / "data"))
    phase = load_curriculum(place / "toy.yaml").phases["second"]
    by_corpus = {c: [s for s in samples if s.corpus == c] for c in ("composed", "said")}
    return Draws(phase.draw(by_corpus, 3), phase, cache, 200, processor.templates)


def test_examples_depend_on_their_position_only(draws: Draws) -> None:
    one, two = draws[17], draws[17]
    assert (one.id, one.ask, one.clip.subtitle, one.media.keys()) == (
        two.id, two.ask, two.clip.subtitle, two.media.keys(),
    )  # fmt: skip


def test_modality_dropout_keeps_one_and_answers_cite_available_ones(draws: Draws) -> None:
    shown = [draws[i] for i in range(200)]
    composed = [e for e in shown if e.id.startswith("composed")]
    assert all(e.media for e in composed)
    silent = sum("speech_last" not in e.media for e in composed) / len(composed)
    wordless = sum(e.clip.subtitle is None for e in composed) / len(composed)
    assert 0.15 < silent < 0.45
    assert 0.3 < wordless < 0.7
    assert all(e.clip.subtitle for e in shown if e.id.startswith("said"))
    chains = [e.ask.answer.startswith("<think>") for e in shown if e.ask.task == "erg"]
    assert 0.2 < sum(chains) / len(chains) < 0.8
    orders = {e.ask.labels for e in shown if e.ask.task == "mer"}
    assert len(orders) == 6


def test_every_question_wording_is_sampled(draws: Draws) -> None:
    words = draws.templates
    erg = words.tasks["erg"].model_copy(update={"questions_no_think": ("a", "b", "c")})
    mir = words.tasks["mir"].model_copy(update={"questions": tuple(f"{i} {{labels}}" for i in range(9))})
    mer = words.tasks["mer"].model_copy(update={"questions": ("{labels}",)})
    draws.templates = words.model_copy(update={"tasks": words.tasks | {"erg": erg, "mir": mir, "mer": mer}})
    drawn: dict[tuple[str, bool], Counter[int]] = {}
    for position in range(600):
        ask = draws[position].ask
        drawn.setdefault((ask.task, ask.think), Counter())[ask.paraphrase] += 1
    assert {k: sorted(v) for k, v in drawn.items()} == {
        ("mer", True): [0], ("mir", True): [*range(9)], ("erg", True): [*range(5)], ("erg", False): [*range(3)],
    }  # fmt: skip
    assert 0.4 < drawn["erg", False][0] / drawn["erg", False].total() < 0.6


def test_logits_at_answers_give_the_same_loss(draws: Draws) -> None:
    model = tiny_model()
    batch = Collator(tiny_processor())([draws[i] for i in range(6)])
    batch.pop(IDS)
    keep = batch.pop("logits_to_keep")
    whole, part = model(**batch), model(**batch, logits_to_keep=keep)
    assert part.logits.shape[0] == int((batch["labels"] != -100).sum())
    torch.testing.assert_close(whole.loss, part.loss)


def test_the_loss_counts_tokens_of_the_whole_window(draws: Draws) -> None:
    model, collate = tiny_model(), Collator(tiny_processor())
    together = collate([draws[i] for i in range(4)])
    count = (together["labels"] != -100).sum()
    parts = []
    for i in (0, 2):
        batch = collate([draws[i], draws[i + 1]])
        batch.pop(IDS)
        parts.append(model(**batch, num_items_in_batch=count).loss)
    together.pop(IDS)
    torch.testing.assert_close(sum(parts), model(**together).loss)


def test_a_step_is_sorted_and_complete(draws: Draws) -> None:
    order = list(SortedWindows(draws, 16))
    assert len(order) == 200
    for start in range(0, 200, 16):
        window = order[start : start + 16]
        assert sorted(window) == list(range(start, min(start + 16, 200)))
        assert [draws.size(i) for i in window] == sorted(draws.size(i) for i in window)


def test_processes_get_micro_batches_of_similar_length(draws: Draws) -> None:
    def gap(order: list[int]) -> int:
        """How much more one of two processes gets, in padded characters."""
        longest = [max(draws.size(i) for i in order[start : start + 4]) for start in range(0, 192, 4)]
        return abs(sum(longest[::2]) - sum(longest[1::2]))

    order = list(SortedWindows(draws, 4, processes=2, accumulation=2))
    for start in range(0, 192, 16):
        assert sorted(order[start : start + 16]) == list(range(start, start + 16))
    assert gap(order) < 0.7 * gap(list(SortedWindows(draws, 16)))


def test_text_only_samples_with_a_frozen_language_model_are_harmless(place: Path) -> None:
    words = yaml.safe_load(RECIPE)
    words["name"] = "words"
    words["phases"] = {"first": words["phases"]["first"] | {"mixture": {"said/mir": 1}}}
    (place / "words.yaml").write_text(yaml.safe_dump(words))
    out = place / "words"
    run_train(place / "words.yaml", place / "data", out, place / "base", show=False)
    logs = [json.loads(line) for line in (out / "first" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm"] == 0 for line in logs if "grad_norm" in line)
