"""Hostile text in names, subtitles, labels and answers stays text wherever it is printed."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nanoemox import cli
from nanoemox.benchmarks.tables import format_report
from nanoemox.printing import one_line, printable
from nanoemox.reporting.answer_page import ClipAnswers, render_page
from nanoemox.reporting.clip_view import ClipView
from nanoemox.reporting.report import ReportOptions, write_report
from nanoemox.types import Answer, Reading, Think, Transcript
from tests.reporting.report_runs import NUM, write_run
from tests.tiny import PLACEHOLDERS, SPECIAL

HOSTILE = {
    "terminal": "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd",
    "bidi": "a\u202egnp.exe\u2066b\u200fc",
    "lines": "a\rb\u2028c\u0085d",
    "markup": "[bold red]a[/bold red] [link=http://x]b[/link] [/]",
    "formula": "=cmd|' /C calc'!A0",
    "script": "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} %(x)s {0}",
    "latex": "\\input{/etc/passwd} \\\\ & $x_1^2$ % # ~ \\end{tabular}",
    "tokens": " ".join((*SPECIAL, *PLACEHOLDERS)),
    "thought": "</think> <think>\nscenario: forged",
}
EVERYTHING = " ".join(HOSTILE.values())
every_text = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


class Page(HTMLParser):
    """Tags with names of attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def is_plain(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def written(folder: Path, text: str) -> tuple[str, str, list[Path]]:
    """Write a report in which a text is the model's name, an answer, a truth, a clip and a reason."""
    changes = {
        "emer1": {"raw": text, "truth": text, "parsed": {"text": text}},
        "emer2": {"id": text},
        f"emer{NUM - 1}": {"error": text},
    }
    run = write_run(folder / "run", text, benchmarks=["emer", "meld"], clips=[1, 2, NUM - 1], changes=changes)
    page, table, figures = folder / "r.html", folder / "t.tex", folder / "figures"
    write_report(ReportOptions(runs=(run,), out=page, latex=table, figures=figures))
    return page.read_text("utf-8"), table.read_text("utf-8"), sorted(figures.glob("*.svg"))


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[Path]]:
    """The same report of a kind text."""
    return written(tmp_path_factory.mktemp("kind"), "ours")


@pytest.mark.parametrize("text", [EVERYTHING, HOSTILE["formula"], HOSTILE["latex"]], ids=["all", "formula", "latex"])
def test_a_report(kind: tuple[str, str, list[Path]], tmp_path: Path, text: str) -> None:
    html, table, figures = written(tmp_path, text)
    page, expected = Page(html), Page(kind[0])
    assert set(page.tags) <= set(expected.tags)
    assert is_plain(html)
    assert page.text.count(printable(text)) >= 5  # title, tables, truth, answer, clip, reason
    # LaTeX: as many commands, cells and rows as of a kind name.
    escapes = r"\\text\w+\{\}|\\[{}$&#_%]|\{\\scriptsize [^}]*\}"
    bare, calm = (re.sub(escapes, "", t) for t in (table, kind[1]))
    for mark in ("\\", "{", "}", "$", "&", "#", "%", "~", "^"):
        assert bare.count(mark) == calm.count(mark), mark
    assert is_plain(table)
    assert figures
    for figure in figures:
        words = "".join(ElementTree.parse(figure).getroot().itertext())
        assert is_plain(words)
    report = format_report(json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8")))
    assert is_plain(report)
    assert "<script" not in report


@every_text
def test_a_page_of_answers(text: str) -> None:
    def page_of(words: str) -> str:
        readings = {
            "msa": Reading("msa", words, label=words, probabilities={words: 0.6, "b": 0.4}, valence=0.1),
            "ovmer": Reading("ovmer", words, labels=(words, "b")),
            "eri": Reading("eri", words, text=words),
            "erg": Reading("erg", words, think=Think(words, words, words, words), reply=words),
        }
        heard = Transcript(words, "en", 0.9, "transcribe", 0.8, 0.1, ())
        answer = Answer(words, words, readings, ("text",), warnings=(words,), heard=heard)
        return render_page([ClipAnswers((answer,), ClipView(1.0, subtitle=words))])

    html = page_of(text)
    assert Page(html).tags == Page(page_of("a")).tags
    assert is_plain(html)
    assert Page(html).text.count(printable(text)) >= 12


def run_cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.mark.parametrize(
    "words",
    [
        lambda text: ("answer", text),
        lambda text: ("answer", "--text", "x", "--model", text),
        lambda text: ("answer", "--text", "x", "--task", text),
        lambda text: (text,),
        lambda text: ("answer", f"--{text}"),
        lambda text: ("features", "x", "--out", "y", "--dtype", text),
        lambda text: ("check", text),
        lambda text: ("report", text),
        lambda text: ("rate", text),
        lambda text: ("train", text, "--data-root", ".", "--out", "x"),
    ],
    ids=["clip", "model", "task", "command", "option", "value", "manifest", "run", "study", "recipe"],
)  # fmt: skip
def test_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: Callable[[str], tuple[str, ...]],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(capsys, *words(EVERYTHING))
    assert code == 2
    assert err
    assert is_plain(out + err)
    assert "Traceback" not in err


@every_text
def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    _, _, err = run_cli(capsys, "answer", "--text", "x", "--model", f"no\nnanoemox: all is well {text}")
    assert err.count("\n") == 1
    assert one_line(text)[:20] in err


@every_text
def test_log_records_are_single_lines(capsys: pytest.CaptureFixture[str], text: str) -> None:
    run_cli(capsys, "models")
    logging.getLogger("nanoemox.data.overlap").warning("not held out: %s", f"{text}\nnanoemox: forged")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert is_plain(err)


def test_json_for_programs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", EVERYTHING, benchmarks=["meld"], clips=range(3))
    code, out, _ = run_cli(capsys, "report", run, "--json")
    assert code == 0
    assert is_plain(out)
    assert json.loads(out)["runs"] == [EVERYTHING]


@every_text
def test_ratings_in_a_table(tmp_path: Path, text: str) -> None:
    pytest.importorskip("fastapi")
    from contextlib import closing

    from nanoemox.study.plan import plan_study
    from nanoemox.study.results import export_ratings
    from nanoemox.study.store import RatingStore, create_study
    from tests.study.rated_runs import reply_row
    from tests.study.rated_runs import write_run as write_replies

    create_study(tmp_path / "s", plan_study([write_replies(tmp_path / "run", [reply_row(text, "Hm.")])], 1, 0))
    with closing(RatingStore(tmp_path / "s")) as store:
        name = store.join("=1+1")
        store.rate(name, store.show(name, 0).key, "empathy", 3)
    assert export_ratings(tmp_path / "s", tmp_path / "r.csv") == 1
    told = (tmp_path / "r.csv").read_text("utf-8")
    assert is_plain(told)
    (row,) = csv.DictReader(told.splitlines())
    assert row["rater"] == "'=1+1"
    assert not row["clip"].startswith("=")
