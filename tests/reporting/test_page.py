"""Reports: the page, the figures, the table and the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.benchmarks.tables import cell, format_report
from nanoemox.cli import main
from nanoemox.reporting.figures import OKABE_ITO, Bar, interval_plot, svg_of
from nanoemox.reporting.latex import escape
from nanoemox.reporting.report import ReportOptions, write_html, write_report
from nanoemox.types import NanoEmoXError
from tests.reporting.report_runs import NUM, write_run

HOSTILE = "<script>alert(1)</script>\"'&$x_1^{2}$ <img src=x onerror=alert(1)> https://example.org {{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements with their attributes, numbers of tables, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
        self.text = ""
        self._cell: tuple[str, str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag == "td" and "data-metric" in found:
            self._cell = (str(found["data-row"]), str(found["data-metric"]), found.get("data-value"))
        elif tag == "small":
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            row, metric, value = self._cell
            self.numbers.setdefault((row, metric), []).append((value, data.strip()))
            self._cell = None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    ours = write_run(root / "a", "ours", good=0.9, benchmarks=["meld", "ov_merd"])
    return [ours, write_run(root / "b", "theirs", good=0.3, benchmarks=["meld"])]


@pytest.fixture(scope="module")
def result(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("report")
    return write_report(
        ReportOptions(runs=tuple(folders), out=out / "r.html", figures=out / "figures", latex=out / "table.tex")
    )


@pytest.fixture(scope="module")
def html(result: Mapping[str, Any]) -> str:
    return Path(result["files"][0]).read_text("utf-8")


def test_displayed_numbers_match_the_runs(folders: list[Path], html: str) -> None:
    shown = Page(html).numbers
    for folder in folders:
        told = json.loads((folder / "metrics.json").read_text("utf-8"))
        for found in told["benchmarks"].values():
            for name, row in found["rows"].items():
                for metric in found["headline"]:
                    value = row["metrics"].get(metric)
                    if value is not None:
                        assert (str(value), cell(metric, value)) in shown[name, metric]


def test_page_loads_nothing_and_has_no_scripts(html: str) -> None:
    elements = Page(html).elements
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in elements}
    for _, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "http" not in html.replace("http-equiv", "")
    assert "@import" not in html
    assert {m for m in re.findall(r"url\(([^)]*)\)", html) if not m.startswith("#")} == set()
    policy = next(a["content"] for tag, a in elements if tag == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_ids_of_the_page_are_its_own(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.elements if "id" in a and not str(a["id"]).startswith(("p", "m", "h"))]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', html))
    assert wanted <= {str(a["id"]) for _, a in page.elements if "id" in a}


def test_model_and_clip_text_is_escaped(tmp_path: Path) -> None:
    changes = {
        "emer1": {"raw": HOSTILE, "truth": HOSTILE},
        f"emer{NUM - 1}": {"error": HOSTILE},
        "emer2": {"id": HOSTILE},
    }
    run = write_run(tmp_path / "run", HOSTILE, benchmarks=["emer"], clips=[1, 2, NUM - 1], changes=changes)
    files = write_report(
        ReportOptions(runs=(run,), out=tmp_path / "r.html", figures=tmp_path / "figures", latex=tmp_path / "t.tex")
    )["files"]
    page = Page(Path(files[0]).read_text("utf-8"))
    assert not {"script"} & {tag for tag, _ in page.elements}
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.text.count(HOSTILE) >= 5  # title, tables, truth, answer, name, reason
    assert "49" not in re.findall(r"https://example\.org (\d+)", page.text)
    for file in Path(tmp_path / "figures").glob("*.svg"):
        assert ElementTree.parse(file).getroot().tag.endswith("svg")


def test_figures_use_colour_blind_safe_colours(result: Mapping[str, Any]) -> None:
    svgs = [Path(f) for f in result["files"] if f.endswith(".svg")]
    names = {f.stem for f in svgs}
    assert {"meld-intervals", "meld-confusion-2", "meld-reliability", "ov_merd-wheels-1"} <= names
    assert {Path(f).stem for f in result["files"] if f.endswith(".png")} == names
    plain = {"#ffffff", "#dddddd", "#767676", "#000000", "#cccccc"}
    for file in svgs:
        if "confusion" not in file.stem:
            colours = set(re.findall(r"#[0-9a-f]{6}", file.read_text("utf-8")))
            assert colours <= plain | {colour.lower() for colour in OKABE_ITO}, file.stem


def test_figures_are_deterministic_and_parse_no_math() -> None:
    bars = [
        Bar("$\\frac{", 0.5, (0.4, 0.6), "run"),
        Bar("名前", 0.2, None, "baseline"),
        Bar("x", 0.7, None, "published"),
    ]
    one, two = (svg_of(interval_plot("n", "t", "%", bars)) for _ in range(2))
    assert one == two
    assert "$\\frac{" in one
    assert "名前" in one
    assert "<metadata" not in one


@given(st.text())
def test_latex_escapes_any_text(text: str) -> None:
    told = escape(text)
    bare = re.sub(r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}", "", told)
    bare = re.sub(r"\\[{}$&#_%]", "", bare)
    assert not set(bare) & set('\\{}$&#_%~^<>|"\n\r')
    assert told == told.strip()


def test_latex_table_has_one_row_per_benchmark(result: Mapping[str, Any]) -> None:
    table = Path(result["files"][-1]).read_text("utf-8")
    assert all(rule in table for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}", r"\end{table}"))
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    columns = {line.count(" & ") for line in rows}
    assert len(rows) == 1 + 2
    assert len(columns) == 1
    meld = result["benchmarks"]["meld"]["rows"][0]["metrics"]["hit_rate"]
    assert f"MELD & hit rate & {100 * meld:.2f} {{\\scriptsize [" in table
    assert "& 56.55 &" in table


def test_frames_are_shown_on_request(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", benchmarks=["meld"], clips=range(4))
    root = tmp_path / "data"
    (root / "manifests").mkdir(parents=True)
    cv2.imwrite(str(root / "face.png"), np.full((400, 600, 3), (0, 0, 255), np.uint8))
    (root / "broken.png").write_bytes(b"\0" * 20)
    lines = []
    for i, media in enumerate(("face.png", "broken.png", "absent.png", None)):
        row = json.loads((run / "predictions.jsonl").read_text("utf-8").splitlines()[i])
        labels = {"label": row["truth"], "candidates": list(row["parsed"]["probabilities"])}
        sample = {"id": row["id"], "corpus": "meld", "split": "test", "task": "mer", "labels": labels, "subtitle": "a"}
        lines.append(json.dumps(sample | ({"media": media} if media else {})))
    (root / "manifests" / "meld.jsonl").write_text("\n".join(lines) + "\n", "utf-8")

    def pictures(**options: Any) -> list[str]:
        write_report(ReportOptions(runs=(run,), out=tmp_path / "r.html", **options))
        elements = Page((tmp_path / "r.html").read_text("utf-8")).elements
        return [str(a["src"]) for tag, a in elements if tag == "img"]

    assert pictures() == []
    assert pictures(data_root=root) == []
    found = pictures(frames=True, data_root=root)
    assert len(found) == 1
    assert found[0].startswith("data:image/jpeg;base64,/9j/")
    with pytest.raises(NanoEmoXError, match="--data-root"):
        pictures(frames=True)
    with pytest.raises(NanoEmoXError, match="corpus meld"):
        pictures(frames=True, data_root=tmp_path / "nowhere")
    manifest = root / "manifests" / "meld.jsonl"
    manifest.write_text(manifest.read_text("utf-8").replace("face.png", "../face.png"), "utf-8")
    with pytest.raises(NanoEmoXError, match="must stay below"):
        pictures(frames=True, data_root=root)


def test_missing_libraries_disable_only_pages_and_figures(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NanoEmoXError, match=r"need matplotlib: pip install 'nanoemox\[eval\]'"):
        write_report(ReportOptions(runs=(folders[0],), out=tmp_path / "r.html"))
    told = write_html(folders[0])
    assert told is not None
    assert "pip install" in told
    assert not (folders[0] / "report.html").exists()
    assert write_report(ReportOptions(runs=(folders[0],), latex=tmp_path / "t.tex"))["files"] == [
        str(tmp_path / "t.tex")
    ]


def test_evaluation_report_by_one_call(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", benchmarks=["emer"])
    assert write_html(run) is None
    assert "<title>ours</title>" in (run / "report.html").read_text("utf-8")


def test_judge_results_are_in_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", benchmarks=["emer"])
    score = {"mean": 6.125, "interval": [5.5, 6.75], "n": NUM, "failed": 2, "alpha": None, "per_judge": {}}
    judged = {"judges": [], "benchmarks": {"emer": {"scale": [1, 10], "metrics": {"clue_overlap": score}}}}
    (run / "judge.json").write_text(json.dumps(judged), "utf-8")
    write_report(ReportOptions(runs=(run,), out=tmp_path / "r.html"))
    text = Page((tmp_path / "r.html").read_text("utf-8")).text
    assert "clue overlap, 1 to 10" in text
    assert "5.50 to 6.75" in text
    (run / "judge.json").write_text("{}", "utf-8")
    with pytest.raises(NanoEmoXError, match=r"judge\.json: benchmarks"):
        write_report(ReportOptions(runs=(run,), out=tmp_path / "r.html"))


def test_lone_surrogates_are_shown_as_question_marks(tmp_path: Path) -> None:
    changes = {"ov_merd0": {"raw": "@ sad", "parsed": {"labels": ["@"]}}, "ov_merd2": {"parsed": None, "error": "@"}}
    run = write_run(tmp_path / "run", benchmarks=["ov_merd"], changes=changes)
    for file in run.rglob("*.json*"):
        file.write_text(file.read_text("utf-8").replace("@", "\\ud800"), "utf-8")
    assert "ov_merd2: ?" in Page(write_page(run)).text
    json.dumps(score_files(run, ScoreOptions()), ensure_ascii=False).encode()


def test_settings_and_cost_have_one_line_each(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", benchmarks=["mintrec"])
    file = run / "metrics.json"
    told = json.loads(file.read_text("utf-8"))
    assert "Settings" not in write_page(run) + format_report(told)
    told |= {"settings": {"model": "<b>", "modalities": ["text", "audio"], "erg_steps": False}, "cost": {"answers": 3}}
    file.write_text(json.dumps(told), "utf-8")
    for line in ("Settings: model <b>, modalities text+audio, erg steps False.", "Cost: answers 3."):
        assert format_report(told).splitlines().count(line.replace("<b>", "&lt;b&gt;")) == 1
        assert Page(write_page(run)).text.count(line) == 1


def write_page(run: Path) -> str:
    assert write_html(run) is None
    return (run / "report.html").read_text("utf-8")


def test_short_report_lists_available_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", benchmarks=["emer"])
    told = format_report(json.loads((run / "metrics.json").read_text("utf-8")))
    assert "- `majority`: the most common answer" in told
    assert "- `text-only`" not in told
    assert "| row | clips | unanswered | f1 |" in told  # no judge has spoken: what there is


def test_the_command(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main([str(a) for a in ("report", *args)])
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    code, out, _ = run(folders[0], folders[1])
    assert code == 0
    assert f"written: {folders[0] / 'report.html'}" in out
    assert "meld  ours - theirs  hit_rate +" in out
    code, out, _ = run(folders[1], "--json")
    assert code == 0
    assert json.loads(out)["runs"] == ["theirs"]
    assert json.loads(out)["files"] == []
    assert not (folders[1] / "report.html").exists()
    assert run(tmp_path / "nowhere")[0] == 2
    assert "needs" not in run(tmp_path / "nowhere")[2]
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    code, _, err = run(folders[0], "--figures", blocked)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("option", "name", "remedy"),
    [
        ("--out", "talk.mp4", "ends in .html"),
        ("--latex", "tone.wav", "ends in .tex"),
        ("--latex", "metrics.json", "ends in .tex"),
        ("--out", "x" * 300 + ".mp4", "ends in .html"),
    ],
)
def test_a_file_of_another_kind_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str, remedy: str
) -> None:
    file = tmp_path / name
    if len(name) < 255:
        file.write_bytes(b"clip")
    with pytest.raises(SystemExit) as done:
        main(["report", str(tmp_path / "nowhere"), option, str(file)])
    err = capsys.readouterr().err
    assert (done.value.code, err.count("\n")) == (2, 1)
    assert f"{option} {file}: give a name that {remedy}" in err  # before the run is looked for
    assert len(name) > 255 or file.read_bytes() == b"clip"


@pytest.mark.parametrize(("option", "ending"), [("--out", ".html"), ("--latex", ".tex")])
def test_outputs_that_cannot_be_written_are_named(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, ending: str
) -> None:
    def run(file: Path) -> str:
        with pytest.raises(SystemExit) as done:
            main(["report", str(folders[1]), option, str(file)])
        err = capsys.readouterr().err
        assert (done.value.code, err.count("\n")) == (2, 1)
        assert "partial" not in err
        return err

    for name in ("plain", f"dir{ending}"):
        (tmp_path / name).mkdir()
        assert f"{option} {tmp_path / name}: a folder: give a file in it that ends in {ending}" in run(tmp_path / name)
    long = tmp_path / f"{'x' * 250}{ending}"
    assert f"{long}: File name too long" in run(long)


CHROMIUM = os.environ.get("NANOEMOX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it, or set NANOEMOX_CHROMIUM to its path")
@pytest.mark.parametrize("width", [375, 1280])
def test_browser_layout_fits_and_loads_nothing(html: str, tmp_path: Path, width: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'nanoemox[dev]'")
    (tmp_path / "page.html").write_text(html, "utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": width, "height": 900})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url[:5]))
        page.goto((tmp_path / "page.html").as_uri())
        assert said == []
        assert asked[0] == "file:"
        assert set(asked[1:]) <= {"data:"}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        drawings = "[...document.querySelectorAll('figure svg')]"
        assert page.evaluate(f"{drawings}.length > 0")
        assert page.evaluate(f"{drawings}.every(drawing => drawing.getBoundingClientRect().height > 50)")
        browser.close()
