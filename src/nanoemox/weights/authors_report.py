"""Report of every tensor of the public files, and a check that none of the model is missing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

from nanoemox.model.configuration import PAPER_BRANCHES
from nanoemox.types import CheckpointError
from nanoemox.weights.assemble import Assembly
from nanoemox.weights.convert import Conversion

ADAPTERS = "adapters"
_MAY_BE_DRAWN = re.compile(r"speech_encoder\..*\.masked_spec_embed")
"""Read while a speech encoder is trained, which no phase does."""


def report_tensors(assembly: Assembly, conversion: Conversion) -> dict[str, Any]:
    """List every tensor by the part whose file holds it.

    Args:
        assembly: How the frozen weights were assembled.
        conversion: How the authors' file was merged into them.

    Returns:
        ``files``: part -> ``used`` (name in the file -> names in the model) and ``unused`` (reason -> names in the
        file); ``model``: part of the model -> number of tensors; ``drawn``: names of the model that no file holds.

    Raises:
        CheckpointError: A tensor of the model comes from no file, or the authors' file is none of the last phase.
    """
    changed = {ours for news in conversion.used.values() for ours in news}
    missing = [b for b in PAPER_BRANCHES if b not in conversion.trained_branches]
    if missing or conversion.lora is None:
        absent = [*(f"the adapters of {b}" for b in missing), *([] if conversion.lora else ["LoRA"])]
        raise CheckpointError(f"{', '.join(conversion.files)} lacks {', '.join(absent)}: it is no file of phase 3")
    drawn = sorted({n for names in assembly.initialised.values() for n in names} - changed)
    if left := [n for n in drawn if not _MAY_BE_DRAWN.fullmatch(n)]:
        raise CheckpointError(f"no file holds {len(left)} tensor(s) of the model: {left}")
    files: dict[str, dict[str, dict[str, list[str]]]] = defaultdict(lambda: {"used": {}, "unused": {}})
    for ours, origin in assembly.origins.items():
        part, _, theirs = origin.partition(": ")
        files[part]["used"].setdefault(theirs, []).append(ours)
    for reason, names in assembly.dropped.items():
        for name in names:
            part, _, theirs = name.partition(": ")
            files[part]["unused"].setdefault(reason, []).append(theirs)
    files[ADAPTERS] = {"used": conversion.used, "unused": conversion.dropped}
    model = Counter(n.partition(".")[0] for n in {*assembly.origins, *changed, *drawn})
    return {"files": dict(files), "model": dict(model), "drawn": drawn}
