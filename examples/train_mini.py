"""Fine-tune the embedded model on your own clips with a recipe of two phases.

python examples/train_mini.py [out]

Your clips go into a folder with one manifest a corpus; here that is the sample clip under three questions, and each
phase runs for four steps only.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.training.command import run_train

RECIPE = """
name: finetune-example
phases:
  align:
    trainable: [speech_adapter, face_adapter]
    mixture: {mine/mer: 1}
    lr: 1.0e-4
    steps: 4
    micro_batch: 2
  together:
    from: [align]
    trainable: [vision_adapter, speech_adapter, face_adapter, fusion, lora]
    lora: {r: 4, alpha: 8, dropout: 0.0}
    mixture: {mine/mer: 18, mine/ovmer: 28, mine/erg: 18}
    lr: 1.0e-4
    steps: 4
    micro_batch: 2
"""
SAID = "I finally got the job! I can't believe it, I am so happy!"
THINK = {"scenario": "a new job", "emotion": "happy", "cause": "the offer came", "goal": "share the joy"}
LABELS = {
    "mer": {"label": "happy", "candidates": ["happy", "sad", "angry"]},
    "ovmer": {"labels": ["happy", "proud"]},
    "erg": {"think": THINK, "reply": "Congratulations! You have earned it."},
}


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example")
    data = out / "data-root"
    (data / "manifests").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(files("nanoemox") / "assets" / "sample.mp4"), data / "sample.mp4")
    lines = [
        {"id": "sample", "corpus": "mine", "split": split, "task": task, "labels": labels, "media": "sample.mp4"}
        | {"subtitle": SAID, "id": f"sample-{split}"}
        for split in ("train", "validation")
        for task, labels in LABELS.items()
    ]
    manifest = "".join(json.dumps(line) + "\n" for line in lines)
    (data / "manifests" / "mine.jsonl").write_text(manifest, "utf-8")
    recipe = data / "recipe.yaml"
    recipe.write_text(RECIPE, "utf-8")
    base, _, _ = find_checkpoint(None)  # the embedded model; or name a directory
    result = run_train(str(recipe), data, out / "run", base, seed=7)
    for name, phase in result["phases"].items():
        print(name, phase["validation"])
    print("trained model:", result["model"])


if __name__ == "__main__":
    main()
