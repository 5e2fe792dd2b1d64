"""The speed scripts run and write their table, whatever the speed of the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import save_tiny

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONE_CLIP = {"features": ["--clips", "1", "--workers", "0"], "decoding": ["--tokens", "3"]}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["startup", "decoding", "card", "latency", "features", "training_step"])
def test_a_script_writes_its_table(script: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--model", str(tmp_path / "model"), "--repeats", "1"]
    command += ["--json", str(tmp_path / "out.json"), *ONE_CLIP.get(script, [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    table = json.loads((tmp_path / "out.json").read_text("utf-8"))["table"]
    assert all(values["ours" if "ours" in values else "seconds"] > 0 for values in table.values())
