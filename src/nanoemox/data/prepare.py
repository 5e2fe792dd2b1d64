"""``nanoemox prepare``: from a released folder to manifests and what they hold.

``train.jsonl``, ``val.jsonl`` and ``test.jsonl`` hold the samples of the splits that the corpus has; ``summary.json``
counts them and names the licence. Files need not be there yet: the summary counts the missing ones.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from nanoemox.data.corpora import MANIFESTS, READERS, SUMMARY, contradictions, reader, unique
from nanoemox.data.corpora.releases import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from nanoemox.data.files import files_below
from nanoemox.data.manifest import ClosedLabels, OpenLabels, Sample, target_text, write_manifest
from nanoemox.faces.vectors import SUFFIXES
from nanoemox.tasks import TASKS
from nanoemox.types import RecipeError

MOST_WORDS: Final = 20
"""Emotion words of the open vocabulary that a summary lists."""
_SHOWN: Final = 3
"""Samples with contradictory labels that the summary's text names."""


def prepare(
    corpus: str, root: Path, out: Path, *, trust_npz: bool = False, face_vectors: Path | None = None
) -> dict[str, Any]:
    """Read a corpus and write its manifests and summary.

    Args:
        corpus: Name of a corpus, see :data:`nanoemox.data.corpora.READERS`.
        root: The released folder; media paths in the manifests are relative to it.
        out: Folder to write to; manifests of splits that the corpus lacks are removed.
        trust_npz: Open pickled ``.npz`` files, which can run any code.
        face_vectors: Folder inside ``root`` that holds tables of OpenFace or arrays, called as the clips are. A clip
            without one has no face vectors.

    Returns:
        The summary.

    Raises:
        RecipeError: There is no such corpus, a file is missing or not as released.
    """
    record = reader(corpus)
    read = list(record.read(root, trust_npz=trust_npz))
    samples = unique(read)
    disputed = contradictions(read, samples)
    repeated = len(read) - len(samples) - len(disputed)
    if face_vectors is not None:
        samples = _with_face_vectors(samples, root, face_vectors)
    if not samples:
        raise RecipeError(f"{root} holds no sample of {corpus}; files read: {record.files}")
    summary: dict[str, Any] = {
        "corpus": corpus,
        "licence": record.licence,
        "root": os.path.abspath(root),
        "repeated": repeated,
        "contradictions": [
            {"id": first.id, "task": first.task, "kept": target_text(first), "left_out": target_text(other)}
            for first, other in disputed
        ],
        "splits": {},
    }
    for split, file in MANIFESTS.items():
        part = [s for s in samples if s.split == split]
        if part:
            write_manifest(part, out / file)
            summary["splits"][split] = summarise(part, root)
        else:
            (out / file).unlink(missing_ok=True)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return summary


def _with_face_vectors(samples: Sequence[Sample], root: Path, folder: Path) -> list[Sample]:
    """Assign to every clip the face vectors with the same file stem."""
    base, inside = Path(os.path.abspath(root)), Path(os.path.abspath(folder))
    if not inside.is_dir() or not inside.is_relative_to(base):
        raise RecipeError(
            f"--face-vectors {folder}: must be a folder inside {root}, so that manifests can name its files"
        )
    found: dict[str, str] = {}
    for path in files_below(inside):
        if path.suffix.lower() in SUFFIXES:
            place = path.relative_to(base).as_posix()
            if (other := found.setdefault(path.stem, place)) != place:
                raise RecipeError(f"--face-vectors: {other} and {place} have one name: keep one of them")
    names = [(PurePosixPath(s.media).stem if s.media else s.id) for s in samples]
    if not found.keys() & set(names):
        kinds = " or ".join(f"NAME{suffix}" for suffix in SUFFIXES)
        raise RecipeError(f"--face-vectors {folder}: holds {kinds} of none of the clips, such as {names[0]}")
    return [
        s.model_copy(update={"face_vectors": found[name]}) if name in found else s
        for s, name in zip(samples, names, strict=True)
    ]


def summarise(samples: Sequence[Sample], root: Path) -> dict[str, Any]:
    """Count the samples of a split: clips, tasks, labels, languages, speakers, what is missing."""
    clips = {s.id: s for s in samples}
    files = {file for s in samples for file in s.paths.values()}
    labels: dict[str, Counter[str]] = {}
    for sample in samples:
        of = sample.labels
        words = (of.label,) if isinstance(of, ClosedLabels) else of.labels if isinstance(of, OpenLabels) else ()
        if words:
            labels.setdefault(sample.task, Counter()).update(words)
    missing = {
        "picture": sum(not (s.media and _suffix(s.media) not in AUDIO_SUFFIXES) for s in clips.values()),
        "sound": sum(not (s.audio or (s.media and _suffix(s.media) not in IMAGE_SUFFIXES)) for s in clips.values()),
        "words": sum(not (s.subtitle or s.history) for s in clips.values()),
    }
    return {
        "samples": len(samples),
        "clips": len(clips),
        "tasks": dict(Counter(s.task for s in samples)),
        "labels": {
            task: dict(counts.most_common(MOST_WORDS if TASKS[task].form == "labels" else None))
            for task, counts in labels.items()
        },
        "languages": dict(Counter(s.language for s in clips.values())),
        "speakers": len({s.speaker for s in samples if s.speaker}),
        "clips_without": missing,
        "files": len(files),
        "files_missing": sum(not (root / file).is_file() for file in files),
    }


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def format_summary(summary: Mapping[str, Any], out: Path) -> str:
    """Format the summary as text."""
    lines = [f"{summary['corpus']}  ({summary['licence']})"]
    for split, part in summary["splits"].items():
        tasks = ", ".join(f"{count} {task}" for task, count in part["tasks"].items())
        lines.append(f"\n{MANIFESTS[split]}: {part['samples']} samples of {part['clips']} clips: {tasks}")
        for task, counts in part["labels"].items():
            lines.append(f"  {task}: " + ", ".join(f"{label} {count}" for label, count in counts.items()))
        without = ", ".join(f"{count} without {what}" for what, count in part["clips_without"].items() if count)
        languages = ", ".join(f"{count} {language}" for language, count in part["languages"].items())
        lines.append(f"  languages: {languages}; speakers: {part['speakers'] or 'not named'}")
        if without:
            lines.append(f"  clips: {without}")
        if part["files_missing"]:
            lines.append(f"  files: {part['files_missing']} of {part['files']} are not in {summary['root']}")
    if summary["repeated"]:
        lines.append(f"\n{summary['repeated']} samples came twice; the first was kept")
    if disputed := summary["contradictions"]:
        some = [f"{d['id']} {d['kept'][:40]!r}, then {d['left_out'][:40]!r}" for d in disputed[:_SHOWN]]
        lines.append(
            f"\n{len(disputed)} samples came again with another label; the first was kept: {'; '.join(some)}"
            + ("; ..." if len(disputed) > _SHOWN else "")
        )
    if summary["corpus"] == "table" and "train" in summary["splits"] and "validation" not in summary["splits"]:
        lines.append("\nno validation samples: no file was held out; give some rows the split val")
    return "\n".join([*lines, f"\nwritten: {out}"])


def list_corpora() -> list[dict[str, str]]:
    """Return name, licence, how to obtain it, and files of every corpus that can be prepared."""
    return [
        {"corpus": name, "licence": corpus.licence, "get": corpus.get, "files": corpus.files}
        for name, corpus in READERS.items()
    ]


def format_corpora() -> str:
    """Format the list as text."""
    width = max(map(len, READERS))
    return "\n".join(
        f"{name:{width}}  {corpus.licence}\n{'':{width}}  {corpus.get}" for name, corpus in READERS.items()
    )
