"""``nanoemox export-task``: a benchmark as a folder that lm-evaluation-harness and lmms-eval can run.

The folder contains a manifest of prompts, the clips, a task file per harness, and a module that both import; it scores
with ``nanoemox.interop.export_scores``, so that the scores equal those of ``nanoemox score``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

from nanoemox.benchmarks.answerer import media_file
from nanoemox.benchmarks.predict import read_eval_set
from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.benchmarks.remote_prompts import SYSTEM, VERSION, question, quoted_words
from nanoemox.benchmarks.truth import label_value
from nanoemox.data.corpora import READERS
from nanoemox.data.manifest import Sample
from nanoemox.interop.export_scores import metric_names
from nanoemox.tasks import ERG, ERI, OVMER
from nanoemox.types import NanoEmoXError

MEDIA: Final = ("copy", "link", "none")
MANIFEST: Final = "manifest.jsonl"
_MAX_NEW_TOKENS: Final = {OVMER.key: 64, ERI.key: 512, ERG.key: 512}
_CLOSED_TOKENS: Final = 32
"""Tokens of a closed answer: a label, with room for a sentence around it."""
_FUNCTION: Final = '\n\ndef {0}(answers):\n    """Aggregate `{0}`."""\n    return _score("{0}", answers)\n'
_LMMS: Final = ("qwen2_5_omni", "Qwen/Qwen2.5-Omni-3B")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of ``nanoemox export-task``.

    Attributes:
        benchmark: Id.
        data_root: Folder of released corpora and of ``manifests``.
        out: Folder to write, empty or absent.
        media: ``copy`` clips, ``link`` to them (relative symbolic links), or ``none``: transcript only.
        limit: Number of clips, selected like ``nanoemox evaluate --limit``.
        trust_npz: Open pickled files, which can run arbitrary code.
    """

    benchmark: str
    data_root: Path
    out: Path
    media: str = "copy"
    limit: int | None = None
    trust_npz: bool = False


def export_task(options: ExportOptions) -> dict[str, Any]:
    """Write the folder.

    Returns:
        What was written: ``benchmark``, ``task``, ``clips``, ``media`` (files), ``out``.

    Raises:
        NanoEmoXError: An invalid option, a non-empty folder, a missing clip.
    """
    benchmark, out = get_benchmark(options.benchmark), options.out
    if options.media not in MEDIA:
        raise NanoEmoXError(f"--media {options.media}: there are {', '.join(MEDIA)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NanoEmoXError(f"{out} is there already and is no empty folder: give another --out")
    samples = read_eval_set(benchmark, options.data_root, options.limit, trust_npz=options.trust_npz).samples
    places = {} if options.media == "none" else _places(samples)
    absent = [source for source in places if not media_file(options.data_root, source).is_file()]
    if absent:
        raise NanoEmoXError(
            f"{len(absent)} of {len(places)} media files are not there, such as {options.data_root / absent[0]}: "
            "get them, or export the words alone with --media none"
        )
    out.mkdir(parents=True, exist_ok=True)
    for source, place in places.items():
        _copy_or_link(options.data_root / source, out / place, link=options.media == "link")
    lines = (json.dumps(_row(benchmark, sample, places), ensure_ascii=False) + "\n" for sample in samples)
    (out / MANIFEST).write_text("".join(lines), "utf-8")
    task = f"nanoemox_{benchmark.id}"
    for name, clips in ((task, False), (f"{task}_clips", True)):
        (out / f"{name}.yaml").write_text(_task_file(benchmark, name, clips=clips), "utf-8")
    (out / "utils.py").write_text(_module(benchmark), "utf-8")
    (out / "README.md").write_text(_readme(benchmark, task, len(samples)), "utf-8")
    return {"benchmark": benchmark.id, "task": task, "clips": len(samples), "media": len(places), "out": str(out)}


def _places(samples: Sequence[Sample]) -> dict[str, str]:
    """Return media file -> numbered path in the folder; clip names may contain anything."""
    sources = dict.fromkeys(source for s in samples for source in (s.media, s.audio) if source)
    return {source: f"media/{number:05}{Path(source).suffix}" for number, source in enumerate(sources)}


def _copy_or_link(source: Path, place: Path, *, link: bool) -> None:
    place.parent.mkdir(exist_ok=True)
    if link:
        place.symlink_to(os.path.relpath(source.resolve(), place.parent.resolve()))
    else:
        shutil.copyfile(source, place)


def _row(benchmark: Benchmark, sample: Sample, places: dict[str, str]) -> dict[str, Any]:
    truth, asked = label_value(sample.labels), question(benchmark)
    return {
        "id": sample.id,
        "prompt": f"{quoted_words(sample.subtitle, sample.history)}\n\n{asked}",
        "question": asked,
        "labels": list(benchmark.labels),
        "media": places.get(sample.media or ""),
        "audio": places.get(sample.audio or ""),
        "subtitle": sample.subtitle,
        "history": [{"role": turn.role, "text": turn.text} for turn in sample.history],
        "truth": truth if isinstance(truth, str) else list(truth),
    }


def _task_file(benchmark: Benchmark, name: str, *, clips: bool) -> str:
    """Return the task file of lm-evaluation-harness, or with clips of lmms-eval."""
    tokens = _MAX_NEW_TOKENS.get(benchmark.task, _CLOSED_TOKENS)
    settings = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": MANIFEST}},
        "test_split": "test",
        "output_type": "generate_until",
        "description": f"{SYSTEM}\n\n",
        "generation_kwargs": {"max_new_tokens" if clips else "max_gen_toks": tokens, "do_sample": False, "until": []},
        "metadata": {"version": benchmark.version},
    }
    called = ["doc_to_text", "doc_to_target", "process_results", *(["doc_to_visual"] if clips else [])]
    lines = [f"{key}: !function utils.{key}" for key in called]
    for metric in metric_names(benchmark):
        better = "false" if metric == "labels_per_answer" else "true"
        lines += [f"- metric: {metric}", f"  aggregation: !function utils.{metric}", f"  higher_is_better: {better}"]
    lines.insert(len(called), "metric_list:")
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) + "\n".join(lines) + "\n"


def _module(benchmark: Benchmark) -> str:
    names = metric_names(benchmark)
    functions = "".join(_FUNCTION.format(name) for name in names)
    return _render_template("utils.py", benchmark, metrics=json.dumps(names), functions=functions)


def _readme(benchmark: Benchmark, task: str, clips: int) -> str:
    return _render_template(
        "README.md",
        benchmark,
        task=task,
        clips=str(clips),
        split=benchmark.split,
        version=str(benchmark.version),
        words_version=str(VERSION),
        licence=READERS[benchmark.corpus].licence,
        headline=metric_names(benchmark)[0],
        lmms_model=_LMMS[0],
        lmms_weights=_LMMS[1],
        note=f" Note: {benchmark.note}." if benchmark.note else "",
    )


def _render_template(name: str, benchmark: Benchmark, **fields: str) -> str:
    text = (files("nanoemox.interop") / "export_files" / f"{name}.template").read_text("utf-8")
    return Template(text).substitute(fields, benchmark=benchmark.id, title=benchmark.title)
