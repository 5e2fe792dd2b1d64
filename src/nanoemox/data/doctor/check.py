"""``nanoemox check``: find what would break or spoil training with a manifest or corpus.

Media files are decoded; names, contents, speakers and transcripts are compared between the splits and
with other manifests or annotation files; lines, labels and encodings are checked.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora import MANIFESTS
from nanoemox.data.doctor.findings import LEVELS, REMEDIES, Finding, Level
from nanoemox.data.doctor.known import known_bad
from nanoemox.data.doctor.leaks import Trace, annotation_traces, find_leaks, traces
from nanoemox.data.doctor.media import check_face_vectors, check_media
from nanoemox.data.doctor.text import check_labels, check_words, read_lines
from nanoemox.data.opening import SampleSource, content_key, manifest_files, media_root, open_corpus, open_manifests
from nanoemox.types import RecipeError

_ANNOTATIONS: Final = (".json", ".jsonl", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Report:
    """The findings.

    Attributes:
        source: The checked source.
        root: Folder that media paths are relative to.
        samples: Number of samples that could be read.
        files: Number of files that they name.
        against: Sources they were compared with.
        findings: The findings, the worst first.
    """

    source: str
    root: str
    samples: int
    files: int
    against: list[str]
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        """Whether there is no error."""
        return all(finding.level != "error" for finding in self.findings)

    def counts(self) -> dict[str, dict[Level, int]]:
        """Return kind -> level -> number of findings, the worst first."""
        counted = Counter((f.kind, f.level) for f in self.findings)
        out: dict[str, dict[Level, int]] = {}
        for (kind, level), count in sorted(counted.items(), key=lambda kv: (LEVELS.index(kv[0][1]), kv[0][0])):
            out.setdefault(kind, {})[level] = count
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        counts = self.counts()
        return {
            "source": self.source,
            "root": self.root,
            "samples": self.samples,
            "files": self.files,
            "against": self.against,
            "sound": self.sound,
            "counts": counts,
            "remedies": {kind: REMEDIES[kind] for kind in counts},
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of ``check``.

    Attributes:
        against: Manifests, prepared folders or annotation files (JSON, CSV) that must not overlap.
        data_root: What media paths are relative to; by default what the manifest says.
        workers: Processes that open files; 0 for threads.
        media: Whether to open files at all.
        trust_npz: Open pickled ``.npz`` files of a corpus.
        done: Called with the number of files, then with None after each file.
    """

    against: tuple[Path, ...] = ()
    data_root: Path | None = None
    workers: int = 0
    media: bool = True
    trust_npz: bool = False
    done: Callable[[int | None], None] = lambda _: None


def check(source: str | Path, root: Path | None = None, options: CheckOptions | None = None) -> Report:
    """Check a manifest, a prepared folder, or a released corpus.

    Args:
        source: Path of a manifest or folder; with ``root``, the name of a corpus.
        root: The corpus' folder as released.
        options: The options.

    Raises:
        RecipeError: There is no such manifest or corpus, or the corpus cannot be read at all.
    """
    options = options or CheckOptions()
    if root is None:
        found, findings = _read(Path(source), options.data_root)
    else:
        found, findings = open_corpus(str(source), root, trust_npz=options.trust_npz), []
    samples = found.samples
    files = {path for s in samples for path in s.paths.values()}
    findings += [*check_labels(samples), *check_words(samples), *known_bad(samples)]
    contents: dict[str, str] = {}
    if options.media and files:
        options.done(len(files))
        seen, contents = check_media(found, options.workers, lambda: options.done(None))
        findings += [*seen, *check_face_vectors(found, lambda: options.done(None))]
    others = [trace for path in options.against for trace in _against(path, hashed=bool(contents))]
    findings += find_leaks(list(traces(found, contents)), others)
    findings.sort(key=lambda f: LEVELS.index(f.level))
    against = [str(path) for path in options.against]
    return Report(found.name, str(found.root), len(samples), len(files), against, findings)


def _read(path: Path, data_root: Path | None) -> tuple[SampleSource, list[Finding]]:
    samples, findings = [], []
    for file in manifest_files(path):
        read, wrong = read_lines(file)
        samples += read
        findings += wrong
    return SampleSource(str(path), media_root(path, data_root), samples), findings


def _against(path: Path, *, hashed: bool) -> list[Trace]:
    """Read what to compare with: a manifest if it is one, else an annotation file of any shape."""
    if not path.is_dir() and not _is_manifest(path):
        if path.suffix.lower() not in _ANNOTATIONS or not path.is_file():
            kinds = ", ".join(_ANNOTATIONS)
            raise RecipeError(f"--against {path}: no such file, or none of {kinds}; a prepared folder serves too")
        return list(annotation_traces(path))
    found = open_manifests(path)
    if path.is_dir() and any((path / MANIFESTS[split]).is_file() for split in ("validation", "test")):
        found = SampleSource(found.name, found.root, [s for s in found.samples if s.split != "train"])
    contents = _contents(found) if hashed else {}
    return list(traces(found, contents))


def _is_manifest(path: Path) -> bool:
    """Return whether the first line looks like a sample, so that later errors are those of a manifest."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and {"id", "corpus", "split", "task", "labels"} <= set(row)


def _contents(found: SampleSource) -> dict[str, str]:
    """Hash the existing files."""
    paths = {os.path.abspath(found.root / p) for s in found.samples for p in (s.media, s.audio) if p}
    return {path: content_key(Path(path)) for path in sorted(paths) if os.path.isfile(path)}


def problems_of(report: Report) -> Sequence[tuple[str, Level, int, str, str]]:
    """Return the rows of the table: kind, level, count, examples, remedy."""
    rows: list[tuple[str, Level, int, str, str]] = []
    for kind, levels in report.counts().items():
        for level, count in levels.items():
            some = [f for f in report.findings if (f.kind, f.level) == (kind, level)][:3]
            remedy = "" if level == "note" else REMEDIES[kind]
            rows.append((kind, level, count, "\n".join(f"{f.where}: {f.what}" for f in some), remedy))
    return sorted(rows, key=lambda row: LEVELS.index(row[1]))
