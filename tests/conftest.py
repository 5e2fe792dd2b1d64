"""Fixtures for every test: the makers' shared folder, a tiny seeded model, and the count of what was skipped."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# The same examples every time: a failure must reproduce.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Whatever was pulled on this machine, the tests answer with `mini`: nothing was pulled to this folder.
os.environ["NANOEMOX_HOME"] = str(Path(tempfile.gettempdir()) / "nanoemox-tests-nothing-pulled")

# Shapes at the seams of the model are checked in the tests alone. The hook sees what is imported after it: keep
# imports of the package out of the head of this file.
from transformers import PreTrainedConfig  # noqa: E402 (after the settings above)

# Sections of the configuration stand beside the modules that they size; the library makes and checks them itself.
PreTrainedConfig.__no_type_check__ = True
_SEAMS = ("branches", "adapters", "qformer", "splice", "fusion")
install_import_hook([f"nanoemox.model.{name}" for name in _SEAMS], "beartype.beartype")

_ROOT = Path(__file__).resolve().parents[1]
_REASON = "needs the project's shared folder: set NANOEMOX_SHARED to it"


def shared_folder() -> Path | None:
    """Find the makers' folder beside the checkout, or where NANOEMOX_SHARED says."""
    path = Path(os.environ.get("NANOEMOX_SHARED", _ROOT.parent / "shared"))
    return path if (path / "golden").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The makers' folder; a test that asks for it is skipped (or, if required, fails) where it is absent."""
    path = shared_folder()
    if path is None:
        if os.environ.get("NANOEMOX_REQUIRE_SHARED") == "1":
            pytest.fail(_REASON)
        pytest.skip(_REASON)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were skipped for want of the shared folder."""
    skipped = sum(_REASON in str(r.longrepr) for r in terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(f"skipped for want of the shared folder: {skipped}")
