"""Add the branch for heart, skin and EEG signals to a model; its adapter is initialised at random.

python examples/add_physiology.py OUT [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

from nanoemox import Engine
from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.weights.extend import add_branch


def main() -> None:
    base, _, _ = find_checkpoint(sys.argv[2] if len(sys.argv) > 2 else None)  # a name, a directory, or the default
    out = add_branch(base, "physiology", Path(sys.argv[1]), {"num_windows": 8, "window_s": 5.0})
    print(out, *Engine.from_pretrained(out).model.config.branches)


if __name__ == "__main__":
    main()
