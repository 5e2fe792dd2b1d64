"""Untrusted names and answers cannot inject terminal control sequences."""

from __future__ import annotations

import pytest

from nanoemox.cli.app import print_text


def test_control_characters_are_escaped_and_markup_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("a\x1b[31mred\x1b]0;title\x07 \x9b2J [bold]x[/bold] \u202eevil\r\nnächste 情")
    said = capsys.readouterr().out
    assert said == "a\\x1b[31mred\\x1b]0;title\\x07 \\x9b2J [bold]x[/bold] \\u202eevil\\r\nnächste 情\n"
