"""Stage 0: what the language model does with texts that it never saw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, Qwen3ForCausalLM

from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.tasks import parse
from nanoemox.types import Clip
from tools.mini.data import arguments, say, score
from tools.mini.texts import samples_of

CLOSED = {"goemotions/mer": 1500, "mintrec/mir": 300, "mintrec2/mir": 300}
"""Questions whose candidates are scored, by corpus and task: a fixed random draw."""
GREEDY = {"goemotions/mer": 150, "mintrec/mir": 100, "goemotions/ovmer": 100, "goemotions/eri": 100, "esconv/erg": 100}
"""Greedy answers that are looked at, by corpus and task."""


def prompt(sample: Sample, processor: NanoEmoXProcessor) -> list[int]:
    """Return the ids of a question as it is asked at inference."""
    candidates = sample.labels.candidates if isinstance(sample.labels, ClosedLabels) else None
    clip = Clip(name=sample.id, subtitle=sample.subtitle, history=sample.history)
    return processor.prompt_ids(clip, Ask(sample.task, labels=candidates), ())


@torch.no_grad()
def choose(model: Qwen3ForCausalLM, processor: NanoEmoXProcessor, samples: Sequence[Sample]) -> list[str]:
    """Return the most probable candidate, each ended by the terminator (summed, no length normalisation)."""
    labels = samples[0].labels.candidates  # type: ignore[union-attr]
    answers = [processor.answer_ids(w) for w in labels]
    out = []
    for sample in samples:
        ids = prompt(sample, processor)
        rows = [torch.tensor(ids + a) for a in answers]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        states = model.model(input_ids=batch).last_hidden_state[:, len(ids) - 1 :]
        logp = functional.log_softmax(model.lm_head(states).float(), -1)
        values = [sum(float(logp[i, k, t]) for k, t in enumerate(a)) for i, a in enumerate(answers)]
        out.append(labels[int(np.argmax(values))])
    return out


@torch.no_grad()
def write(model: Qwen3ForCausalLM, processor: NanoEmoXProcessor, samples: Sequence[Sample]) -> list[str | None]:
    """Return greedy answers; None where the terminator never came."""
    (end,) = processor.terminator_ids
    out: list[str | None] = []
    for i in range(0, len(samples), 25):
        batch = processor.pad([prompt(s, processor) for s in samples[i : i + 25]], "left")
        got = model.generate(
            **batch,
            max_new_tokens=140,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        for row in got[:, batch["input_ids"].shape[1] :].tolist():
            out.append(processor.tokenizer.decode(row[: row.index(end)]) if end in row else None)
    return out


def well_formed(sample: Sample, raw: str | None) -> bool:
    """Say whether a greedy answer has the form of its task."""
    if not raw:
        return False
    if isinstance(sample.labels, ClosedLabels):
        return raw.strip() in sample.labels.candidates
    reading = parse(sample.task, raw)
    if sample.task == "erg":
        return bool(reading.reply) and reading.think is not None
    return bool(reading.labels or reading.text)


def measure(model: Qwen3ForCausalLM, processor: NanoEmoXProcessor, samples: Sequence[Sample]) -> dict[str, object]:
    """Score closed tasks on validation samples and look at the form of greedy answers."""
    model.eval()
    out: dict[str, object] = {}
    rng = np.random.default_rng(0)
    for key, count in CLOSED.items():
        part = [s for s in samples if s.split == "validation" and f"{s.corpus}/{s.task}" == key]
        part = [part[i] for i in rng.permutation(len(part))[:count]]
        got = choose(model, processor, part)
        names = list(part[0].labels.candidates)  # type: ignore[union-attr]
        truth = np.array([names.index(s.labels.label) for s in part])  # type: ignore[union-attr]
        out[key] = score(np.array([names.index(g) for g in got]), truth)
        out[f"{key} answered"] = dict(Counter(got))
        say(f"{key}: {out[key]}")
    known = {s.labels.reply for s in samples if s.split == "train" and isinstance(s.labels, ReplyLabels)}
    for key, count in GREEDY.items():
        part = [s for s in samples if s.split == "validation" and f"{s.corpus}/{s.task}" == key]
        part = [part[i] for i in rng.permutation(len(part))[:count]]
        raw = write(model, processor, part)
        found: dict[str, object] = {
            "n": len(part),
            "well_formed": float(np.mean([well_formed(s, r) for s, r in zip(part, raw, strict=True)])),
            "distinct": len(set(raw)) / len(raw),
            "examples": [[s.subtitle, r] for s, r in zip(part[:5], raw[:5], strict=True)],
        }
        if key == "esconv/erg":
            found["replies_from_training"] = float(np.mean([parse("erg", r or "").reply in known for r in raw]))
        out[f"{key} greedy"] = found
        say(f"{key} greedy: {json.dumps(found, ensure_ascii=False)}")
    return out


def main() -> None:
    """Measure a saved language model (``--out`` is its folder) and add the numbers to its metrics."""
    args = arguments(__doc__ or "").parse_args()
    folder: Path = args.out
    processor = NanoEmoXProcessor(tokenizer=AutoTokenizer.from_pretrained(folder))
    model = Qwen3ForCausalLM.from_pretrained(folder)
    found = measure(model, processor, samples_of(args.data_root)[0])
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    (folder / "metrics.json").write_text(json.dumps({**metrics, **found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
