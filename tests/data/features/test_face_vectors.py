"""``face.kind: precomputed``, from the manifest to the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from nanoemox.benchmarks.baselines import media_of, shuffled_media, text_only
from nanoemox.benchmarks.engine_answerer import EngineAnswerer
from nanoemox.benchmarks.records import BENCHMARKS
from nanoemox.cli import app
from nanoemox.data.doctor.check import check
from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import Sample, read_manifest, write_manifest
from nanoemox.data.opening import absolute, open_manifests
from nanoemox.data.prepare import prepare
from nanoemox.faces import vectors
from nanoemox.inference.engine import Engine
from nanoemox.inference.timeline import TimelineOptions
from nanoemox.media.load import load_clip
from nanoemox.model.processing import Ask
from nanoemox.training.command import run_train
from nanoemox.types import MediaError, NanoEmoXError, RecipeError
from tests.faces.openface import write_openface
from tests.media.test_media import make_video
from tests.tiny import save_tiny, tiny_clip, tiny_config, tiny_model, tiny_processor
from tests.training.toy import write_wav

LABELS = ("happy", "sad")
FACE = {
    "kind": "precomputed", "vector_columns": ["au_intensity", "au_presence"], "vector_size": 35,
    "num_attention_heads": 5, "num_queries": 2, "projector_size": 48,
}  # fmt: skip
CONFIG = tiny_config(face={"encoder": None, **FACE})
RECIPE = """
name: vectors
phases:
  only:
    trainable: [face_adapter]
    mixture: {table/mer: 1}
    lr: 1.0e-3
    steps: 2
    micro_batch: 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, of which one has no vectors and one is a voice, prepared in place; and a model."""
    root = tmp_path_factory.mktemp("vectors")
    (root / "openface").mkdir()
    rows = ["file,label,split,subtitle"]
    for i in range(6):
        name = f"v{i}.wav" if i == 4 else f"c{i}.mp4"
        write_wav(root / name, 200) if i == 4 else make_video(root / name, [4 * k for k in range(30)])
        if i != 3:
            write_openface(root / "openface" / f"{Path(name).stem}.csv", rows=15, seed=i)
        rows.append(f"{name},{LABELS[i % 2]},{'val' if i == 5 else 'train'},words {i}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "manifests").mkdir()
    prepare("table", root, root / "manifests" / "table", face_vectors=root / "openface")
    save_tiny(root / "base", CONFIG)
    return root


def samples_of(place: Path) -> list[Sample]:
    return open_manifests(place / "manifests" / "table").samples


def test_prepare_records_vector_paths(place: Path) -> None:
    found = {s.id: s.face_vectors for s in samples_of(place)}
    assert found["c0"] == "openface/c0.csv"
    assert found["v4"] == "openface/v4.csv"
    assert found["c3"] is None
    assert next(s for s in absolute(open_manifests(place / "manifests" / "table"))).face_vectors == str(
        place / "openface" / "c0.csv"
    )
    with pytest.raises(RecipeError, match="must be a folder inside"):
        prepare("table", place, place / "out", face_vectors=place.parent)
    (place / "empty").mkdir()
    with pytest.raises(RecipeError, match="of none of the clips, such as c0"):
        prepare("table", place, place / "out", face_vectors=place / "empty")


def test_check_reads_the_vectors(place: Path, tmp_path: Path) -> None:
    report = check(place / "manifests" / "table")
    assert not [f for f in report.findings if f.where.startswith("openface")]
    samples = samples_of(place)
    (place / "bad.csv").write_text("a,b\n1,2\n")
    np.save(place / "wide.npy", np.zeros((3, 9)))
    others = {"bad": "bad.csv", "gone": "gone.csv", "wide": "wide.npy"}
    more = [samples[0].model_copy(update={"id": k, "face_vectors": v}) for k, v in others.items()]
    write_manifest([*samples, *more], tmp_path / "m.jsonl")
    (tmp_path / "summary.json").write_text(json.dumps({"root": str(place)}))
    found = {(f.kind, f.where) for f in check(tmp_path / "m.jsonl").findings if f.where in others.values()}
    assert found == {("unreadable", "bad.csv"), ("missing", "gone.csv"), ("unreadable", "wide.npy")}


def test_cached_equals_uncached(place: Path, tmp_path: Path) -> None:
    model, processor = tiny_model(CONFIG), tiny_processor(CONFIG)
    engine = Engine(model, processor)
    samples = samples_of(place)
    cache = FeatureCache.open_or_build(samples, model, processor, tmp_path, CacheOptions(root=place, batch_size=4))
    assert cache.bad == {}
    assert {"openface/c0.csv", "c0.mp4", "c3.mp4"} <= set(cache.keys)
    for sample in samples:
        loaded = load_clip(place / sample.media, num_frames=4, subtitle=sample.subtitle)
        if sample.face_vectors:
            loaded = engine.with_face_vectors(loaded, place / sample.face_vectors)
        ask = Ask("mer", LABELS, answer=sample.labels.label)
        cached = model(**processor([loaded], [ask], media=[cache.media(sample)]))
        raw = model(**processor([loaded], [ask]))
        torch.testing.assert_close(cached.logits, raw.logits, rtol=0, atol=1e-5)
        assert ("face_vectors" in cache.media(sample)) == (sample.face_vectors is not None)
    one, other = (cache.media(s)["face_vectors"] for s in samples[:2])
    assert not torch.equal(one, other)  # the pictures are the same, so the entry is not the picture's alone
    alone = samples[0].model_copy(update={"id": "alone", "media": None})
    more = FeatureCache.open_or_build([alone], model, processor, tmp_path, CacheOptions(root=place))
    assert set(more.media(alone)) == {"face_vectors"}


def test_bad_vectors_are_listed_and_their_samples_skipped(place: Path, tmp_path: Path) -> None:
    good = samples_of(place)[0]
    (place / "bad.csv").write_text("a,b\n1,2\n")
    bad = good.model_copy(update={"id": "bad", "face_vectors": "bad.csv"})
    gone = good.model_copy(update={"id": "gone", "face_vectors": "gone.csv"})
    model, processor = tiny_model(CONFIG), tiny_processor(CONFIG)
    cache = FeatureCache.open_or_build([good, bad, gone], model, processor, tmp_path, CacheOptions(root=place))
    assert [cache.usable(s) for s in (good, bad, gone)] == [True, False, False]
    assert "no column" in cache.bad["c0.mp4 with bad.csv"]
    with pytest.raises(MediaError, match=r"gone\.csv: cannot be opened"):
        cache.media(gone)
    # A model that looks at faces itself has no use for them.
    usual = FeatureCache.open_or_build([bad], tiny_model(), tiny_processor(), tmp_path, CacheOptions(root=place))
    assert usual.usable(bad)


def test_train_two_steps_and_answer_with_and_without(place: Path) -> None:
    (place / "vectors.yaml").write_text(RECIPE)
    result = run_train(place / "vectors.yaml", place, place / "run", place / "base", show=False)
    assert result["phases"]["only"]["steps"] == 2
    assert result["phases"]["only"]["validation"]["table/mer/n"] == 1
    engine = Engine.from_pretrained(place / "run" / "model", device="cpu")
    clip, table = place / "c0.mp4", place / "openface" / "c0.csv"
    seen = engine.answer(engine.load(clip, face_vectors=table), ("mer",))
    without = engine.answer(clip, ("mer",))
    assert "face" in seen.modalities
    assert "face" not in without.modalities
    assert seen.tasks["mer"].probabilities != without.tasks["mer"].probabilities
    rows = np.random.default_rng(0).normal(size=(15, 35))
    assert "face" in engine.answer(engine.load(clip, face_vectors=rows), ("mer",)).modalities
    window = engine.load(clip, face_vectors=table, span_s=(0.5, 1.0))
    assert not np.array_equal(window.face_vectors, engine.load(clip, face_vectors=table).face_vectors)
    with pytest.MonkeyPatch.context() as patch:
        read = Mock(wraps=vectors.read_face_table)
        patch.setattr(vectors, "read_face_table", read)
        options = TimelineOptions(0.25, 0.5, tasks=("mer",), face_vectors=table)
        windows = list(engine.timeline(clip, options))
        assert read.call_count == 1
    assert len(windows) > 2
    for answer in windows:
        alone = engine.answer(engine.load(clip, face_vectors=table, span_s=answer.span_s), ("mer",))
        assert answer.tasks["mer"].probabilities == pytest.approx(alone.tasks["mer"].probabilities, abs=1e-9)
    with pytest.raises(NanoEmoXError, match=r"takes no face vectors \(face\.kind: swin\)"):
        Engine(tiny_model(), tiny_processor()).load(clip, face_vectors=table)
    with pytest.raises(MediaError, match="vectors of width 4, this model needs 35"):
        engine.answer(replace(tiny_clip(), face_vectors=np.zeros((4, 4), np.float32)), ("mer",))


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["answer", *map(str, arguments), "--task", "mer", "--device", "cpu"])


def test_command_line_accepts_a_vector_file(place: Path) -> None:
    clip, table, base = place / "c0.mp4", place / "openface" / "c0.csv", place / "base"
    given = command(clip, "--model", base, "--json", "--face-vectors", table)
    assert given.exit_code == 0, given.output
    assert "face" in json.loads(given.stdout)["modalities"]
    assert "face" not in json.loads(command(clip, "--model", base, "--json").stdout)["modalities"]
    for wrong, why in (
        ((clip, place / "c1.mp4", "--face-vectors", table), "takes one clip, 2 are given"),
        ((clip, "--face-vectors", place / "no.csv"), "no such file"),
        (("--text", "Hm.", "--face-vectors", table), "--text cannot be combined with --face-vectors"),
    ):
        refused = command(*wrong)
        assert isinstance(refused.exception, NanoEmoXError)
        assert why in str(refused.exception)


def test_benchmark_baselines_remove_and_swap_vectors(place: Path) -> None:
    asked = [s.model_copy(update={"split": "validation"}) for s in samples_of(place)]
    answerer = EngineAnswerer(Engine(tiny_model(CONFIG), tiny_processor(CONFIG)), place)
    record = replace(BENCHMARKS["ravdess"], labels=LABELS)
    with_them = answerer.answer(record, asked[:1])[0].parsed
    bare = answerer.answer(record, [asked[0].model_copy(update={"face_vectors": None})])[0].parsed
    assert with_them["probabilities"] != bare["probabilities"]
    withheld, exchanged = text_only(answerer).sample, shuffled_media(answerer, asked).sample
    assert withheld(asked[0]).paths == {}
    assert {tuple(exchanged(s).paths.items()) for s in asked} == {tuple(s.paths.items()) for s in asked}
    assert all(exchanged(s).paths != s.paths for s in asked)
    assert len(media_of(asked)) == 6


def test_manifest_accepts_face_vectors(tmp_path: Path) -> None:
    fields = {"id": "a", "corpus": "own", "split": "train", "task": "mer", "face_vectors": "a.npy"}
    sample = Sample.model_validate({**fields, "labels": {"label": "happy", "candidates": LABELS}})
    assert read_manifest(write_manifest([sample], tmp_path / "m.jsonl")) == [sample]


def test_the_recipe_of_the_paper_adds_up() -> None:
    from nanoemox.faces.vectors import width_of
    from nanoemox.recipes import files

    own = yaml.safe_load((files("nanoemox") / "recipes" / "model" / "paper-landmarks.yaml").read_text())["face"]
    assert width_of(own["vector_columns"]) == own["vector_size"]
    assert own["vector_size"] % own["num_attention_heads"] == 0
