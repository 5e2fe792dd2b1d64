"""The Auto classes in a fresh process that imports only ``nanoemox``, in either order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import save_tiny

MODEL = "NanoEmoXForConditionalGeneration"
LOADED = {
    "AutoProcessor": "NanoEmoXProcessor",
    "AutoModel": MODEL,
    "AutoModelForMultimodalLM": MODEL,
    "AutoConfig": "NanoEmoXConfig",
}
ORDERS = {
    "ours first": "import nanoemox\nassert not {'torch', 'transformers'} & set(sys.modules)\nimport transformers",
    "transformers first": "import transformers\nimport nanoemox",
    "an Auto class first": "import transformers\nfrom transformers import AutoConfig\nimport nanoemox",
}
# Each kind of Auto class is the first to be used in one of the orders.
FIRST = dict(zip(ORDERS, ("AutoProcessor", "AutoModel", "AutoConfig"), strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_auto_classes_in_a_fresh_process(order: str, tmp_path: Path) -> None:
    classes = sorted(LOADED, key=lambda name: name != FIRST[order])
    code = f"import sys\n{ORDERS[order]}\nfrom transformers import AutoConfig, AutoProcessor\n"
    code += "assert 'nanoemox.model.modeling' not in sys.modules\n"
    code += f"for name in {classes}:\n"
    code += "    print(type(getattr(transformers, name).from_pretrained(sys.argv[1])).__name__)\n"
    code += "print(type(transformers.AutoConfig.for_model('nanoemox')).__name__)\n"
    code += "assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith('nanoemox')]"
    command = [sys.executable, "-c", code, str(save_tiny(tmp_path / "model"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*(LOADED[name] for name in classes), "NanoEmoXConfig"]
