from __future__ import annotations

from pathlib import Path

import pytest

from nanoemox.media.subtitles import parse_cues, plain_text, read_sidecar, words_between
from nanoemox.types import MediaError

SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Where</i> were\r\nyou?\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n{\\an8}Home &amp; away.\r\n"
)
VTT = """WEBVTT - title

STYLE
::cue { color: red }

NOTE a comment

intro
00:01.000 --> 00:02.000 align:start position:0%
<v Anna>Hello <00:01.500>there

01:00:00.000 --> 01:00:01.000
late
"""


def test_srt_and_vtt_literal() -> None:
    assert parse_cues(SRT) == ((1.0, 2.5, "Where were you?"), (3.0, 4.0, "Home & away."))
    assert parse_cues(VTT) == ((1.0, 2.0, "Hello there"), (3600.0, 3601.0, "late"))
    assert parse_cues("not subtitles\n\n-->\n") == ()


def test_words_between_keeps_order_and_drops_repeats() -> None:
    cues = parse_cues(SRT)
    assert words_between(cues, 0, 10) == "Where were you? Home & away."
    assert words_between(cues, 2.6, 10) == "Home & away."
    assert words_between((*cues, cues[1]), 2.6, 10) == "Home & away."
    assert words_between(cues, 5, 10) is None


def test_plain_text_drops_markup() -> None:
    assert plain_text(r"{\pos(1,2)}<b>a</b>\Nb  &lt;3") == "a b <3"


def test_sidecar_in_utf16_and_too_large(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    assert read_sidecar(clip) is None
    (tmp_path / "a.vtt").write_bytes(VTT.encode("utf-16"))
    assert (read_sidecar(clip) or ())[0].text == "Hello there"
    (tmp_path / "a.srt").write_bytes(b"x" * 4_000_001)
    with pytest.raises(MediaError, match=r"4000001.*limit|over 4000000"):
        read_sidecar(clip)


def test_a_file_without_empty_lines_or_milliseconds() -> None:
    text = "1\n00:00:01,000 --> 00:00:03,000\nHello\n2\n00:00:04 --> 00:00:05\nWorld 7\n"
    assert parse_cues(text) == ((1.0, 3.0, "Hello"), (4.0, 5.0, "World 7"))


def test_words_of_western_windows_are_read(tmp_path: Path) -> None:
    said = "J\u2019ai \u00e9t\u00e9 tr\u00e8s d\u00e9\u00e7u"
    (tmp_path / "a.srt").write_bytes(f"1\n00:00:01,000 --> 00:00:03,000\n{said}\n".encode("cp1252"))
    cues = read_sidecar(tmp_path / "a.mp4")
    assert cues is not None
    assert cues[0].text == said
