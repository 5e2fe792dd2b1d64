"""The HTML card of an answer: its content, and that no text of a clip or answer becomes code."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.reporting.answer_page import MAX_CLIPS, ClipAnswers, render_card, render_page, style_sheet, write_page
from nanoemox.reporting.clip_view import NUM_PEAKS, ClipView, view_clip
from nanoemox.types import (
    Answer,
    Clip,
    Evidence,
    FaceTrack,
    NanoEmoXError,
    Reading,
    Think,
    Transcript,
    Word,
)

HOSTILE = "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)> ${7*7} {{7*7}} \u202egpj\x00\ud800"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with attributes, the text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.feed(html)
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)


def clip(words: str = "I got the job!") -> Clip:
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([8, 8, 40, 40], np.float32), (4, 1))
    return Clip(
        name=words,
        frames=rng.integers(0, 256, (4, 64, 300, 3), dtype=np.uint8),
        frame_times_s=np.arange(4) + 0.5,
        waveform=rng.normal(0, 0.1, 64_000).astype(np.float32),
        duration_s=4.0,
        subtitle=words,
        face=FaceTrack(boxes, np.ones(4, np.bool_)),
        heard=Transcript(words, "en", 0.9, "transcribe", 0.8, 0.1, (Word(0.5, 0.9, words),)),
    )


def answer(words: str = "happy", **changes: object) -> Answer:
    readings = {
        "msa": Reading("msa", "positive", "positive", {"positive": 0.7, "negative": 0.1, "neutral": 0.2}, valence=0.6),
        "mer": Reading(
            "mer", words, words, {words: 0.5, "b": 0.2, "c": 0.1, "d": 0.1, "e": 0.05, "f": 0.03, "g": 0.02}
        ),
        "ovmer": Reading("ovmer", words, labels=(words, "glad")),
        "eri": Reading("eri", words, text=words),
        "erg": Reading("erg", words, think=Think(words, words, words, words), reply=words),
    }
    made = Answer(
        words,
        words,
        readings,
        ("vision", "speech"),
        (0.25, 0.75),
        (words,),
        {"total": 0.41},
        Evidence(
            np.arange(4) + 0.5,
            np.array([0.1, 0.2, 0.3, 0.4], np.float32),
            np.array([[0.0, 2.0], [2.0, 4.0]]),
            np.array([0.3, 0.7], np.float32),
        ),
        heard=clip(words).heard,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_card_shows_answers_and_evidence() -> None:
    page = Page(render_page([ClipAnswers((answer(),), view_clip(clip()))]))
    for text in (
        "sentiment",
        "positive",
        "70%",
        "valence +0.60",
        "2 more",
        "glad",
        "Reasoning behind this reply",
        "expert 2",
    ):
        assert text in page.text
    assert "I got the job!" in page.text
    assert "⚠ happy" in page.text
    assert page.count("img", alt="the face that was read") == 4
    assert [page.count("section", **{"data-task": k}) for k in ("msa", "mer", "ovmer", "eri", "erg")] == [1] * 5
    assert page.count("section", **{"data-part": "gate"}) == 1
    widths = [float(a["width"] or 0) for t, a in page.elements if t == "rect" and a.get("height") == "10"]
    assert {70.0, 20.0, 50.0, 75.0, 40.0} <= set(widths)


def test_nothing_in_a_clip_or_an_answer_is_code() -> None:
    html = render_page([ClipAnswers((answer(HOSTILE),), view_clip(clip(HOSTILE)))])
    page = Page(html)
    assert page.count("script") == 0
    assert page.count("style") == 1
    assert all(a["src"].startswith("data:image/jpeg;base64,") for t, a in page.elements if t == "img")
    assert not [name for _, a in page.elements for name in a if name.startswith("on") or name == "style"]
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\u202e\x00\ud800]", html)
    assert "http" not in html.replace("http-equiv", "").lower()
    html.encode("utf-8")


def test_the_policy_forbids_all_but_the_one_style_sheet() -> None:
    html = render_page([ClipAnswers((answer(),))])
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = (a["content"] for _, a in Page(html).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_embedded_card_contains_no_template_syntax() -> None:
    card = render_card(ClipAnswers((answer(HOSTILE),), view_clip(clip(HOSTILE))))
    assert not set("{}$") & set(card)
    assert "${7*7} {{7*7}}" in Page(card).text
    assert all(line.startswith((".nx", "body.nx")) for line in style_sheet().splitlines() if line)


@given(st.text(max_size=60))
def test_any_text_gives_a_well_formed_page(text: str) -> None:
    page = Page(render_page([ClipAnswers((answer(text),), ClipView(2.0, subtitle=text))]))
    assert page.count("script") == 0


def test_timeline_is_drawn_as_lines_with_gaps() -> None:
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (3.0, 5.0), (4.0, 6.0)]
    windows = [answer("calm", span_s=s) for s in spans]
    windows[2] = replace(windows[2], tasks={}, warnings=("no answer for this window: silence",))
    page = Page(render_page([ClipAnswers(tuple(windows), view_clip(clip()))]))
    assert page.count("section", **{"data-part": "timeline"}) == 2
    assert page.count("polyline") == 2 * (3 + 6)  # two pieces for each of three and of the best six labels
    assert page.count("circle") == 4 * (3 + 6) + 4  # and the marks of valence in the four cards
    assert "calm 50% around 5.0 s" in page.text
    assert "2.0 to 4.0 s: no answer" in page.text
    points = [a["points"] for t, a in page.elements if t == "polyline"]
    assert points[0] == "150.0,36.0 300.0,36.0"  # 70 % at 1 and 2 of 6 seconds
    assert page.text.count("windows over 6.0 s") == 1


def test_text_only_image_and_silent_clips_have_a_page() -> None:
    still = Clip("still", frames=np.zeros((1, 9, 9, 3), np.uint8), frame_times_s=np.zeros(1))
    for view in (
        None,
        ClipView(0.0, subtitle="hello"),
        view_clip(still),
        view_clip(Clip("s", waveform=np.zeros(5, np.float32))),
    ):
        bare = answer(evidence=None, gate=None, heard=None, timing_s={}, modalities=())
        assert "read nothing" in Page(render_page([ClipAnswers((bare,), view)])).text


def test_clip_preview_is_small() -> None:
    view = view_clip(clip())
    assert len(view.peaks) == NUM_PEAKS
    assert max(view.peaks) == 1.0
    assert [s.time_s for s in view.shots] == [0.5, 1.5, 2.5, 3.5]
    assert all(len(s.frame) < 60_000 for s in view.shots)


def test_a_page_has_one_to_two_hundred_clips(tmp_path: Path) -> None:
    for number in (0, MAX_CLIPS + 1):
        with pytest.raises(NanoEmoXError, match=f"a page of {number} clips"):
            render_page([ClipAnswers((answer(),))] * number)
    (tmp_path / "file").write_text("")
    with pytest.raises(NanoEmoXError, match="name another file"):
        write_page(tmp_path / "file" / "page.html", [ClipAnswers((answer(),))])
