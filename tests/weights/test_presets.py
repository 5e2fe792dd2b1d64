"""Presets and the paper's variants match the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.recipes import recipe_names
from nanoemox.types import RecipeError
from nanoemox.weights.presets import load_preset, model_config

# The encoders of these two are our own: their sizes lie with their weights, not in the recipe.
OWN_ENCODERS = ("mini", "small")
NAMES = [n for n in recipe_names("model") if n not in OWN_ENCODERS]
CHOICES = {
    "vision": ("last", "taps", "frame_tokens", "fit"),
    "speech": ("last_states", "taps", "grid", "normalise", "remove_mean"),
    "face": ("kind", "raw_stages", "crop", "normalise", "time_position"),
    "fusion": ("kind", "gate", "pairing", "shared_projection", "time_position"),
}
"""Every field in which paper, code and we may differ."""


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_configuration(name: str) -> None:
    config = model_config(load_preset(name))
    for branch, section in ((b, load_preset(name).section(b)) for b in CHOICES):
        for field, value in section.items():
            assert getattr(getattr(config, branch), field) == value


@pytest.mark.parametrize("name", ["reference", "paper", "nanoemox"])
def test_the_three_presets_name_every_choice(name: str) -> None:
    recipe = load_preset(name)
    for branch, fields in CHOICES.items():
        assert set(fields) <= set(recipe.section(branch))


def test_nanoemox_preset_is_the_default_configuration() -> None:
    ours, default = model_config(load_preset("nanoemox")), NanoEmoXConfig()
    assert ours.to_dict() == default.to_dict()


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("paper-at", ["speech"]),
        ("paper-vt", ["vision"]),
        ("paper-ft", ["face"]),
        ("paper-vft", ["vision", "face"]),
        ("paper-avft", ["vision", "speech", "face"]),
        ("paper-avfmt", ["vision", "speech", "face", "fusion"]),
        ("affectgpt-s", ["vision", "speech", "fusion"]),
    ],
)
def test_modality_variants(name: str, branches: list[str]) -> None:
    assert model_config(load_preset(name)).branches == branches


@pytest.mark.parametrize(("name", "experts"), [("paper-experts-2", 2), ("paper-experts-3", 3), ("paper-experts-4", 4)])
def test_expert_variants(name: str, experts: int) -> None:
    assert model_config(load_preset(name)).num_experts == experts


def test_paper_and_reference_presets_differ_in_the_documented_fields() -> None:
    paper, code = (model_config(load_preset(n)) for n in ("paper", "reference"))
    differ = {f"{b}.{f}" for b, fields in CHOICES.items() for f in fields
              if getattr(getattr(paper, b), f) != getattr(getattr(code, b), f)}  # fmt: skip
    assert differ == {
        "speech.normalise", "speech.remove_mean", "face.crop", "face.normalise", "face.time_position",
        "fusion.shared_projection",
    }  # fmt: skip
    assert load_preset("reference").backbones["speech"] != load_preset("paper").backbones["speech"]
    assert load_preset("reference").templates == "reference"


def test_the_embedded_model_still_fits_its_preset() -> None:
    recipe = load_preset("mini")
    sizes = {"model_type": "clip_vision_model", "num_hidden_layers": 6}
    config = NanoEmoXConfig(vision=recipe.section("vision") | {"encoder": sizes})
    assert config.vision.taps == [3, 4, 5]
    with pytest.raises(RecipeError, match="names no backbone for vision"):
        model_config(recipe)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision": {"tapps": [1]}}, "unknown field"),
        ({"vision": {"taps": [1, 2, 99]}}, r"hidden states 0\.\.24"),
        ({"colour": 1}, "colour"),
        ({"branches": ["taste"]}, "branches"),
        ({"branches": ["fusion"]}, "fusion needs vision and speech"),
        ({"backbones": {"vision": "somebody/else"}}, "sizes of 'somebody/else' are not known"),
        ({"face": {"kind": "precomputed"}}, "vector_size"),
    ],
)
def test_a_mistake_in_an_overlay_is_named(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "paper", **fields}), "utf-8")
    with pytest.raises(RecipeError, match=message):
        model_config(load_preset(path))


def test_small_differs_from_mini_in_speech_and_token_counts() -> None:
    recipe = load_preset("small")
    assert recipe.templates == "compact"
    assert recipe.section("speech")["pooling"] == "mean_std"
    assert [recipe.section(b)["num_queries"] for b in ("vision", "speech", "face")] == [2, 4, 4]
