from __future__ import annotations

import re
from pathlib import Path

from nanoemox.data.manifest import ClosedLabels
from nanoemox.tasks import LABEL_SETS
from tools.corpora import word_choice

COMMENTS = ["I love the neutral smell of bread", "what a positive mess", "oh no it is", "The garden was full of wasps"]


def test_word_choice_distractors_were_not_said(tmp_path: Path) -> None:
    folder = tmp_path / word_choice.FOLDER
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("anger\ndisgust\nfear\njoy\nneutral\nsadness\nsurprise\n")
    rows = [f"{text}\t{i % 7}\tkey{i}\n" for i, text in enumerate(COMMENTS * 5)]
    (folder / "train.tsv").write_text("".join(rows))
    samples = word_choice.read(tmp_path)
    assert samples == word_choice.read(tmp_path)
    assert {s.task for s in samples} == {"mer", "mir"}
    assert {s.corpus for s in samples} == {"word_choice"}
    for sample in samples:
        assert isinstance(sample.labels, ClosedLabels)
        said = set(re.findall(r"[a-z]+", str(sample.subtitle).lower()))
        assert {c for c in sample.labels.candidates if c in said} == {sample.labels.label}
        assert not set(sample.labels.candidates) & set(LABEL_SETS["sentiment"])
    assert not any(str(s.subtitle).startswith("oh no") for s in samples), "no word of four letters"
