"""Clusters of dependent clips, by speaker or dialogue."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nanoemox.benchmarks.clusters import clusters_of
from nanoemox.benchmarks.compare import compare_files
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.score_files import ScoreOptions, format_scores, score_files
from nanoemox.types import NanoEmoXError

LABELS = get_benchmark("ravdess").labels


@pytest.mark.parametrize(
    ("key", "names", "unit", "size"),
    [
        ("ravdess", ("03-01-01-01-01-01-17", "03-01-05-02-01-01-17", "03-01-01-01-01-01-18"), "speaker", 2),
        ("iemocap", ("Ses05F_impro01_F000", "Ses05M_script01_F001", "Ses05F_impro01_M000"), "speaker", 2),
        ("meld", ("test_dia0_utt0", "test_dia0_utt1", "test_dia12_utt0"), "dialogue", 2),
        ("mintrec2", ("dia9_utt1", "dia9_utt3", "dia10_utt3"), "dialogue", 2),
        ("mintrec", ("S06_E04_70", "S06_E04_71", "S05_E18_121"), "episode", 2),
        ("cmu_mosi", ("1iG0909rllw_1", "1iG0909rllw_2", "2WGyTLYerpo_10"), "video", 2),
        ("ch_sims", ("video_0001_0001", "video_0001_0002", "video_0002_0001"), "video", 2),
        ("avamerg", ("dia00001utt2_12", "dia00001utt4_12", "dia00002utt4_7"), "dialogue", 2),
        ("mer2023", ("samplenew3_00000001", "samplenew3_00000002"), "clip", 2),
    ],
)
def test_clusters_follow_from_clip_names(key: str, names: tuple[str, ...], unit: str, size: int) -> None:
    found = clusters_of(get_benchmark(key), names)
    assert (found.unit, found.size) == (unit, size)
    assert clusters_of(get_benchmark(key), names, by="clip").size == len(names)


def test_clusters_are_speakers_else_dialogues_else_clips() -> None:
    meld = get_benchmark("meld")
    names = ("test_dia0_utt0", "test_dia0_utt1", "test_dia1_utt0", "test_dia1_utt1", "stray")
    mixed = clusters_of(meld, names, {names[0]: "Ross", names[2]: "Ross"})
    assert (mixed.unit, mixed.size) == ("speaker, else dialogue, else clip", 4)
    alone = clusters_of(meld, names[:4], dict.fromkeys(names[:4], "Ross"))
    assert (alone.unit, alone.size) == ("dialogue", 2)  # one speaker tells nothing of others
    assert clusters_of(meld, names[:2]).unit == "clip"
    with pytest.raises(NanoEmoXError, match="--intervals word: give auto or clip"):
        clusters_of(meld, names, by="word")


def ravdess_run(folder: Path, skill: dict[str, float], seed: int = 0) -> Path:
    """Sixty clips of each actor, right with the actor's own chance."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    rows = []
    for actor, chance in skill.items():
        for i in range(60):
            true = LABELS[i % len(LABELS)]
            text = true if generator.random() < chance else LABELS[(i + 1) % len(LABELS)]
            parsed = {"label": text, "probabilities": {text: 0.5}}
            row = {"benchmark": "ravdess", "id": f"03-01-01-{i:02}-01-01-{actor}", "truth": true, "raw": text}
            rows.append({**row, "parsed": parsed})
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_score_reports_its_resampled_clusters(tmp_path: Path) -> None:
    run = ravdess_run(tmp_path / "a", {"17": 0.9, "18": 0.7, "19": 0.4, "20": 0.2})
    by_speaker = score_files(run, ScoreOptions())
    by_clip = score_files(run, ScoreOptions(intervals="clip"))
    assert by_speaker["metrics"] == by_clip["metrics"]
    assert by_speaker["clusters"] == {"unit": "speaker", "n": 4}
    assert by_clip["clusters"] == {"unit": "clip", "n": 240}
    wide, narrow = ((low, high) for low, high in (s["intervals"]["hit_rate"] for s in (by_speaker, by_clip)))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert "intervals by speaker (4)" in format_scores(by_speaker)
    assert any("4 clusters (speaker)" in note for note in by_speaker["notes"])
    assert not any("clusters" in note for note in by_clip["notes"])


def test_paired_difference_resamples_the_same_speakers(tmp_path: Path) -> None:
    a = ravdess_run(tmp_path / "a", {"17": 0.9, "18": 0.9, "19": 0.3, "20": 0.3})
    b = ravdess_run(tmp_path / "b", {"17": 0.5, "18": 0.5, "19": 0.4, "20": 0.4}, seed=1)
    by_speaker, by_clip = (compare_files(a, b, ScoreOptions(intervals=by)) for by in ("auto", "clip"))
    assert by_speaker["clusters"] == {"unit": "speaker", "n": 4}
    one, other = (found["metrics"]["hit_rate"] for found in (by_speaker, by_clip))
    assert one["difference"] == other["difference"]
    assert one["p_value"] > 0.05 > other["p_value"]
