"""Load the adapters of every phase of a run onto the model it started from, and answer with each.

python examples/train_mini.py runs/example
python examples/named_adapters.py runs/example/run
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from nanoemox import Engine
from nanoemox.model.named_adapters import NamedAdapters


def main() -> None:
    clip = str(files("nanoemox") / "assets" / "sample.mp4")
    engine = Engine.from_pretrained()
    adapters = NamedAdapters(engine.model)
    for file in sorted(Path(sys.argv[1]).glob("*/adapters.safetensors")):
        adapters.add(file.parent.name, file)
    for name in (None, *adapters.names):
        adapters.use(name)  # None: the base model alone
        probabilities = engine.answer(clip, ("mer",)).tasks["mer"].probabilities
        print(name or "base", probabilities)


if __name__ == "__main__":
    main()
