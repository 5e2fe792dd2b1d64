"""The Auto classes in a fresh process that imports only ``nanoemox.model.auto``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tiny import save_tiny

SCRIPT = """
import sys
import nanoemox.model.auto
from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor
folder = sys.argv[1]
for auto in (AutoConfig, AutoProcessor, AutoModel, AutoModelForMultimodalLM):
    print(type(auto.from_pretrained(folder)).__name__)
"""


def test_auto_classes_in_a_fresh_process(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = "NanoEmoXForConditionalGeneration"
    assert done.stdout.split() == ["NanoEmoXConfig", "NanoEmoXProcessor", model, model]
