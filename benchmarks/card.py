"""What a card of six answers costs: ours, six ``generate`` calls, and one encoding, one prefill, the longest answer.

    nanoemox assemble paper --random --out DIR
    python benchmarks/card.py [--model DIR] [--clip FILE] [--json FILE]

Lengths are fixed on both sides: open vocabulary 16 tokens, reasoning 64, reply 96; closed tasks are scored here and
written there, 8 tokens each. The alternative is what one would write with transformers alone: for each task the whole
prompt with its media, encoded and written from scratch. The floor of the label card is one encoding and one prefill.
"""

from __future__ import annotations

from pathlib import Path

from measure import SAMPLE, as_saved, engine, machine, options, report, side_by_side, write_answers
from nanoemox.inference.batch import ClipBatch, make_plan
from nanoemox.inference.engine import Engine
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.types import Clip

TOKENS = {"ovmer": 16, "eri": 64, "erg": 96}
CLOSED_TOKENS = 8


def card(loaded: Engine, clip: Clip, *, label_only: bool) -> None:
    """Answer as the engine does, the open answers at a fixed length."""
    plan = make_plan([k for k in ALL_TASKS if TASKS[k].closed or not label_only])
    batch = ClipBatch(loaded.model, loaded.processor, [clip], plan)
    batch.closed()
    if not label_only:
        asks = [loaded.processor.question_ids(a) for a in plan.open]
        write_answers(loaded, batch.prefix, asks, max(TOKENS.values()))


def six_calls(plain: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, clip: Clip) -> None:
    """Answer by ``generate``, one whole call a task."""
    for key in ALL_TASKS:
        batch = processor([clip], [Ask(key)]).to(plain.device)
        tokens = TOKENS.get(key, CLOSED_TOKENS)
        plain.generate(**batch, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    args = parser.parse_args()
    loaded = engine(args)
    plain = as_saved(args, loaded)
    clip = loaded.load(args.clip)
    plan = make_plan(ALL_TASKS)
    prefix = ClipBatch(loaded.model, loaded.processor, [clip], plan).prefix
    longest = loaded.processor.question_ids(Ask("erg"))
    found = side_by_side(
        {
            "labels": lambda: card(loaded, clip, label_only=True),
            "full": lambda: card(loaded, clip, label_only=False),
            "calls": lambda: six_calls(plain, loaded.processor, clip),
            "encode": lambda: ClipBatch(loaded.model, loaded.processor, [clip], plan),
            "decode": lambda: write_answers(loaded, prefix, [longest], TOKENS["erg"]),
        },
        args.repeats,
    )
    floor = found["encode"] + found["decode"]
    report(
        machine(loaded), ["ours", "six calls", "floor", "calls / ours", "ours / floor"],
        {
            "labels only, s": [found["labels"], found["calls"], found["encode"], found["calls"] / found["labels"],
                               found["labels"] / found["encode"]],
            "full card, s": [found["full"], found["calls"], floor, found["calls"] / found["full"],
                             found["full"] / floor],
        },
        args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
