from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nanoemox.model.lora import LoraSpec, attach_lora
from nanoemox.training.freeze import set_trainable
from nanoemox.training.loop import training_arguments
from nanoemox.training.phases import load_curriculum
from nanoemox.types import RecipeError
from tests.tiny import tiny_config, tiny_model
from tests.training.toy import RECIPE, toy_samples


def test_paper_recipe_figures() -> None:
    p2e = load_curriculum("p2e")
    assert [(p.lr, p.steps, p.micro_batch, p.accumulation) for p in p2e.phases.values()] == [
        (3e-4, 15_000, 3, 4), (3e-4, 25_000, 3, 4), (1e-5, 5_000, 3, 4), (8e-6, 300_000, 3, 4),
    ]  # fmt: skip
    last = p2e.phases["multitask"]
    assert (last.lora.r, last.lora.alpha) == (32, 16)
    assert p2e.saved_groups("multitask") == {"vision_adapter", "speech_adapter", "face_adapter", "fusion", "lora"}


def test_the_fast_recipe_sees_as_many_samples() -> None:
    slow, fast = load_curriculum("p2e"), load_curriculum("p2e-fast")
    for name, phase in slow.phases.items():
        quick = fast.phases[name]
        seen = phase.steps * phase.micro_batch * phase.accumulation
        assert quick.steps * quick.micro_batch * quick.accumulation == pytest.approx(seen, rel=0.001)
        assert quick.mixture == phase.mixture


def test_the_controls_of_the_paper() -> None:
    p2e, joint, reverse = (load_curriculum(name) for name in ("p2e", "joint", "reverse"))
    assert [p.steps for p in joint.phases.values()] == [sum(p.steps for p in p2e.phases.values())]
    assert joint.phases["multitask"].start_from == ()
    assert joint.phases["multitask"].mixture == p2e.phases["multitask"].mixture
    assert list(reverse.phases) == ["multitask", "fusion", "vision", "speech"]
    assert [p.start_from for p in reverse.phases.values()] == [(), ("multitask",), ("fusion",), ("vision",)]
    assert reverse.saved_groups("speech") == p2e.saved_groups("multitask")
    for name in ("p2e-msa", "joint-msa"):
        mixture = load_curriculum(name).phases["multitask"].mixture
        level_one = sum(w for s, w in mixture.items() if s.split("/")[1] in {"msa", "mer"})
        assert level_one == pytest.approx(18)
        assert "cmu_mosei/msa" in mixture
    only = load_curriculum("mercaption-only").phases["multitask"].mixture
    assert {s.split("/")[0] for s in only} == {"mercaptionplus"}


def test_reference_recipe_figures() -> None:
    reference = load_curriculum("reference")
    assert {p.micro_batch * p.accumulation for p in reference.phases.values()} == {3}
    shares = dict.fromkeys(("mer", "ovmer", "mir", "eri", "erg"), 0.0)
    last = reference.phases["multitask"]
    for selector, weight in last.mixture.items():
        shares[selector.split("/")[1]] += weight
    assert shares == {"mer": 10, "ovmer": 10, "mir": 40, "eri": 30, "erg": 10}
    assert (last.subset["mintrec/mir"], last.subset["mintrec2/mir"]) == (0.02, 0.03)
    assert (last.lora.r, last.lora.alpha) == (16, 32)


def test_a_subset_stays_the_same() -> None:
    samples = toy_samples(20)
    phase = load_curriculum("finetune").phases["finetune"]
    phase = phase.model_copy(update={"mixture": {"composed/mer": 1.0}, "subset": {"composed/mer": 0.25}})
    by_corpus = {"composed": [s for s in samples if s.corpus == "composed"]}
    drawn = [{phase.draw(by_corpus, seed)[i][1].id for i in range(500)} for seed in (1, 1, 2)]
    assert len(drawn[0]) == 4  # of the 18 that train
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["p2e", "p2e-mini", "p2e-fast", "reverse", "joint"])
def test_the_ratio_of_tasks(name: str) -> None:
    shares = dict.fromkeys(("mer", "ovmer", "mir", "eri", "erg"), 0.0)
    for selector, weight in load_curriculum(name).phases["multitask"].mixture.items():
        shares[selector.split("/")[1]] += weight
    assert shares == pytest.approx({"mer": 18, "ovmer": 28, "mir": 5, "eri": 31, "erg": 18})


def test_sentiment_is_never_trained() -> None:
    for name in ("p2e", "p2e-mini", "p2e-small", "p2e-fast", "reverse", "joint", "reference"):
        assert not any(s.endswith("/msa") for p in load_curriculum(name).phases.values() for s in p.mixture)


def test_overlay(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: p2e-mini\nphases:\n  speech: {lr: 0.5, modality_dropout: null}\n")
    mine, base = load_curriculum(path), load_curriculum("p2e-mini")
    assert mine.phases["speech"].lr == 0.5
    assert mine.phases["speech"].modality_dropout == {}
    assert mine.phases["vision"] == base.phases["vision"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps: 2", "stepz: 2", "stepz"),
        ("composed/mer: 3", "composed/dance: 3", "composed/dance"),
        ("composed/mer: 3", "composed/mer: 0", "must be positive, got 0"),
        ("from: [first]", "from: [zeroth]", "zeroth"),
        ("micro_batch: 2", "micro_batch: 2\n    subset: {said/mir: 0.5}", "subset.said/mir"),
        ("micro_batch: 2", "micro_batch: 2\n    min_lr: 1.0e-5", "min_lr"),
        ("seed: 3", "seed: 3\norder: [second]", "must name every phase once"),
        ("micro_batch: 2", "micro_batch: 2\n    workers: 2\n    balance: {}", "workers 2: balance changes the mixture"),
        ("lora: {r: 4, alpha: 8, dropout: 0.5}", "", "lora must be sized"),
        ("[speech_adapter, fusion, lora]", "[speech_encoder, fusion, lora]", "speech_encoder"),
    ],
)
def test_a_recipe_is_strict(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "r.yaml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=says):
        load_curriculum(path)


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    text = "  speech: {lr: 0.5}\n"
    path.write_text(f"extends: p2e-mini\nphases:\n{text}  fusion: {{lr: 0.1}}\n{text}")
    with pytest.raises(RecipeError, match=r"(?s)twice\.yaml: .*'speech' is given twice.*line 5"):
        load_curriculum(path)
    # A merge key lays defaults under a mapping; it repeats nothing.
    path.write_text("extends: p2e-mini\nphases:\n  vision: &all {lr: 0.1}\n  speech: {<<: *all, lr: 0.5}\n")
    assert load_curriculum(path).phases["speech"].lr == 0.5


def test_unknown_and_circular_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="p2e-mini"):
        load_curriculum("nope")
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(RecipeError, match="circle"):
        load_curriculum(tmp_path / "a.yaml")


def test_a_star_is_every_corpus(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("said/mir: 1", "'*/mir': 1"))
    samples = {c: [s for s in toy_samples() if s.corpus == c] for c in ("composed", "said")}
    sources = load_curriculum(path).phases["second"].sources(samples, "train")
    assert len(sources["*/mir"]) == 4


PREFIXES = {
    "vision_adapter": "vision_adapter.", "speech_adapter": "speech_adapter.", "face_adapter": "face_adapter.",
    "fusion": "fusion.",
}  # fmt: skip


@pytest.mark.parametrize("recipe", ["p2e", "p2e-mini"])
def test_trainable_parameters_match_the_phase(recipe: str) -> None:
    model = tiny_model()
    attach_lora(model, LoraSpec(4, 8, 0.0))
    for phase in load_curriculum(recipe).phases.values():
        names = set_trainable(model, phase.trainable)
        heads = tuple(PREFIXES[g] for g in phase.trainable if g != "lora")
        declared = {
            n
            for n, _ in model.named_parameters()
            if n.startswith(heads) or ("lora" in phase.trainable and ".lora_" in n)
        }
        assert {n for n, p in model.named_parameters() if p.requires_grad} == names == declared


def test_nothing_to_train() -> None:
    with pytest.raises(RecipeError, match="nothing to train in fusion"):
        set_trainable(tiny_model(tiny_config(fusion={"kind": "none"})), {"fusion", "vision_adapter"})


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curriculum = load_curriculum("p2e").model_copy(update={"report_to": ("tensorboard",)})
    phase = next(iter(curriculum.phases.values()))
    monkeypatch.setattr("nanoemox.training.loop.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="report_to: tensorboard is not installed"):
        training_arguments(tmp_path, curriculum, phase)
    assert training_arguments(tmp_path, load_curriculum("p2e"), phase).report_to == []


@pytest.mark.parametrize("name", ["model", "data", "a/b", ".x"])
def test_a_phase_does_not_share_a_folder_with_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("first", name))
    with pytest.raises(RecipeError, match="choose another name"):
        load_curriculum(tmp_path / "r.yaml")


def test_a_later_phase_keeps_the_size_of_lora(tmp_path: Path) -> None:
    fields = yaml.safe_load(RECIPE)
    second = fields["phases"]["second"]
    fields["phases"]["third"] = second | {"from": ["second"], "lora": second["lora"] | {"r": 64}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(RecipeError, match="phase 'third' goes on with the LoRA of 'second': give it the same lora"):
        load_curriculum(tmp_path / "r.yaml")


@pytest.mark.parametrize("text", [b"extends: 5\n", b"extends: [p2e]\n", b"name: \xe9\n"])
def test_recipes_that_are_no_recipes(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "r.yaml").write_bytes(text)
    with pytest.raises(RecipeError, match=r"r\.yaml: (extends|not UTF-8)"):
        load_curriculum(tmp_path / "r.yaml")
