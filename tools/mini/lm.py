"""Stage 0, language: a tiny Qwen3 that reads and writes our task prompts, from texts alone.

First plain language modelling on the allowed texts. Then echoes: sequences of random tokens that come twice, because
copying from the context is what every quote and every choice from a list needs, and a small model does not learn it
from texts alone. Then the package's own text-only samples of the tasks, laid out by the package's own processor;
among them questions that offer words of no emotion at all, so that an answer is taken from the list. Sentiment is
never among them: the paper leaves it untrained.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from nanoemox.data.manifest import ClosedLabels, Sample, target_text
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.types import Clip
from tools.mini.data import arguments, decay_groups, say, schedule, write_metrics
from tools.mini.evaluate_stage0 import measure
from tools.mini.texts import documents, samples_of

PACKED = 256
LIMIT = 256
"""Longest prompt + answer in tokens that is trained on."""
TOKENS = 4096
"""Tokens in a batch."""
COMMENTS = 24_000
"""Comments that are read plainly; all of them come again as subtitles."""
ECHOED, ECHOES, ECHO_LOSS = 16, 64, 0.05
"""Longest echoed sequence, sequences in a batch, and the loss at which echoing counts as learnt."""
ECHO_STEPS = 2_000
"""Most steps of echoes at a time."""
PRACTICE = (2, 1)
"""Epochs of practice after each time of echoes: who reads prompts already learns to echo in a quarter of the steps."""
SHARES = {
    "goemotions/mer": 18_000, "goemotions/ovmer": 3_000, "goemotions/eri": 4_000, "esconv/erg": 2_800,
    "word_choice/mer": 5_000, "word_choice/mir": 5_000,
}  # fmt: skip
"""Samples drawn of a corpus and task in one epoch; of others all."""
NAMES = {
    "anger": ("anger", "angry"), "disgust": ("disgust", "disgusted"), "fear": ("fear", "fearful", "afraid"),
    "joy": ("joy", "happy", "happiness"), "neutral": ("neutral",), "sadness": ("sadness", "sad"),
    "surprise": ("surprise", "surprised"),
}  # fmt: skip
EXTRA = ("calm", "contempt", "worried", "doubt")
"""Candidates that are sometimes offered and never right here."""


def renamed(labels: ClosedLabels, rng: random.Random) -> ClosedLabels:
    """Offer other words for the same emotions, and sometimes one that is never right."""
    names = {k: rng.choice(v) for k, v in NAMES.items()}
    extra = tuple(rng.sample(EXTRA, rng.randint(1, 2))) if rng.random() < 0.4 else ()
    return ClosedLabels(label=names[labels.label], candidates=(*(names[c] for c in labels.candidates), *extra))


def offered(labels: ClosedLabels, rng: random.Random) -> tuple[str, ...]:
    """Return candidates in a random order: a long list mostly cut to a few, a short one mostly whole."""
    rest = [c for c in labels.candidates if c != labels.label]
    if rng.random() < (0.85 if len(rest) > 10 else 0.3) and len(rest) > 2:
        rest = rng.sample(rest, rng.randint(2, min(11, len(rest) - 1)))
    out = [labels.label, *rest]
    rng.shuffle(out)
    return tuple(out)


def ids_of(sample: Sample, processor: NanoEmoXProcessor, rng: random.Random) -> tuple[list[int], list[int]]:
    """Return prompt and answer ids of one training question, paraphrased."""
    labels, think, candidates = sample.labels, rng.random() < 0.8, None
    answer = target_text(sample, think=think)
    if isinstance(labels, ClosedLabels):
        if sample.corpus == "goemotions" and rng.random() < 0.4:
            labels = renamed(labels, rng)
        candidates, answer = offered(labels, rng), labels.label
    clip = Clip(name=sample.id, subtitle=sample.subtitle, history=sample.history[-rng.choice((1, 2, 4)) :])
    ask = Ask(sample.task, labels=candidates, think=think, paraphrase=rng.randrange(5))
    return processor.prompt_ids(clip, ask, ()), processor.answer_ids(answer)


def epoch_of(samples: list[Sample], rng: random.Random) -> list[Sample]:
    """Draw one epoch; neutral comments at two thirds of their share."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.corpus == "goemotions" and target_text(sample) == "neutral" and rng.random() > 0.67:
            continue
        groups.setdefault(f"{sample.corpus}/{sample.task}", []).append(sample)
    return [s for key, of in groups.items() for s in rng.sample(of, min(len(of), SHARES.get(key, len(of))))]


def instruction_batches(
    samples: list[Sample], processor: NanoEmoXProcessor, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ids (padded with -1), labels and weights, samples of like length together, batches in random order."""
    rows = []
    for sample in samples:
        prompt, answer = ids_of(sample, processor, rng)
        if len(prompt) + len(answer) <= LIMIT:
            # One answer counts much the same whether it is a label or a page: else replies drown the labels.
            rows.append((prompt, answer, len(answer) ** -0.6))
    rng.shuffle(rows)
    rows.sort(key=lambda r: (len(r[0]) + len(r[1])) // 16)
    groups = []
    while rows:
        size = max(8, TOKENS // (len(rows[-1][0]) + len(rows[-1][1]) + 15))
        groups.append(rows[-size:])
        del rows[-size:]
    rng.shuffle(groups)
    for group in groups:
        width = max(len(p) + len(a) for p, a, _ in group)
        ids, labels = torch.full((len(group), width), -1), torch.full((len(group), width), -1)
        weights = torch.zeros(len(group), width)
        for i, (prompt, answer, weight) in enumerate(group):
            end = len(prompt) + len(answer)
            ids[i, :end] = torch.tensor(prompt + answer)
            labels[i, len(prompt) : end] = torch.tensor(answer)
            weights[i, len(prompt) : end] = weight
        yield ids, labels, weights


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross entropy at positions with a label >= 0; the vocabulary is scored there only."""
    with torch.autocast("cpu", torch.bfloat16):
        states = model.model(input_ids=ids.clamp_min(0), attention_mask=(ids >= 0).long()).last_hidden_state
        wanted = labels[:, 1:] >= 0
        logits = model.lm_head(states[:, :-1][wanted])
    each = functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none")
    weight = weights[:, 1:][wanted]
    return (each * weight).sum() / weight.sum()


def step(model: Qwen3ForCausalLM, optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    """Take one step at the given rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def read(model: Qwen3ForCausalLM, texts: list[str], processor: NanoEmoXProcessor, rng: random.Random) -> None:
    """First part: plain language modelling, every text once."""
    optimiser = torch.optim.AdamW(decay_groups(model, 0.1), lr=0.0, betas=(0.9, 0.95))
    rng.shuffle(texts)
    stream = [i for text in texts for i in [*processor._ids(text), processor.tokenizer.pad_token_id]]
    rows = torch.tensor(stream[: len(stream) // PACKED * PACKED]).view(-1, PACKED)
    size, started, total = 16, time.time(), 0.0
    steps = len(rows) // size
    say(f"reading {rows.numel()} tokens, {steps} steps")
    for done in range(steps):
        ids = rows[done * size : (done + 1) * size]
        loss = loss_of(model, ids, ids, torch.ones_like(ids, dtype=torch.float32))
        total += step(model, optimiser, loss, 2e-3 * schedule(done, steps, 30))
        if done % 25 == 24:
            say(f"read {done + 1}/{steps} loss {total / 25:.3f} {time.time() - started:.0f} s")
            total = 0.0


def echo(model: Qwen3ForCausalLM, vocabulary: int) -> int:
    """Second part: random tokens, then the same again; only the second half counts. Returns the steps it took."""
    optimiser = torch.optim.AdamW(decay_groups(model, 0.01), lr=0.0, betas=(0.9, 0.95))
    started, mean = time.time(), float("inf")
    for done in range(ECHO_STEPS):
        length = int(torch.randint(ECHOED // 2, ECHOED + 1, ()))
        once = torch.stack([torch.randperm(vocabulary)[:length] for _ in range(ECHOES)])
        ids = torch.cat([once, once], 1)
        labels = torch.cat([torch.full_like(once, -1), once], 1)
        labels[:, length] = -1  # the first token of an echo cannot be known
        loss = step(model, optimiser, loss_of(model, ids, labels, (labels >= 0).float()), 1e-3 * min(1, done / 50))
        mean = loss if done == 0 else 0.95 * mean + 0.05 * loss
        if done % 100 == 99:
            say(f"echoed {done + 1} loss {mean:.3f} {time.time() - started:.0f} s")
        if mean < ECHO_LOSS:
            return done + 1
    return ECHO_STEPS


def practise(
    model: Qwen3ForCausalLM, samples: list[Sample], processor: NanoEmoXProcessor, epochs: int, rng: random.Random
) -> Counter[str]:
    """Third part: the tasks. Returns how many samples of each corpus and task were drawn."""
    optimiser = torch.optim.AdamW(decay_groups(model, 0.1), lr=0.0, betas=(0.9, 0.98))
    started, done, total, drawn = time.time(), 0, 0.0, Counter[str]()
    for epoch in range(epochs):
        picked = epoch_of(samples, rng)
        drawn.update(f"{s.corpus}/{s.task}" for s in picked)
        groups = list(instruction_batches(picked, processor, rng))
        steps = epochs * len(groups)
        say(f"epoch {epoch}: {sum(int((g[0] >= 0).sum()) for g in groups)} tokens, {len(groups)} steps")
        for ids, labels, weights in groups:
            loss = loss_of(model, ids, labels, weights)
            total += step(model, optimiser, loss, 1.5e-3 * schedule(min(done, steps - 1), steps, 50))
            done += 1
            if done % 100 == 0:
                say(f"practised {done}/{steps} loss {total / 100:.3f} {time.time() - started:.0f} s")
                total = 0.0
    return drawn


def main() -> None:
    """Train, measure and save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--tokenizer", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng, started = random.Random(args.seed), time.time()
    processor = NanoEmoXProcessor(tokenizer=AutoTokenizer.from_pretrained(args.tokenizer))
    config = Qwen3Config(
        vocab_size=-(-len(processor.tokenizer) // 64) * 64, hidden_size=256, intermediate_size=768,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=1024,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id, initializer_range=0.04, attn_implementation="eager",
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    samples, dropped, held = samples_of(args.data_root)
    training = [s for s in samples if s.split == "train"]
    corpora = documents(samples, held)
    corpora["goemotions"] = rng.sample(corpora["goemotions"], COMMENTS)
    say(f"{len(training)} training samples, {time.time() - started:.0f} s")
    model.train()
    read(model, [t for of in corpora.values() for t in of], processor, rng)
    echoes, drawn = [], Counter[str]()
    for epochs in PRACTICE if args.epochs is None else (args.epochs,):
        echoes.append(echo(model, len(processor.tokenizer)))
        drawn += practise(model, training, processor, epochs, rng)
    trained = time.time() - started
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    processor.tokenizer.save_pretrained(args.out)
    metrics = {
        "seed": args.seed,
        "read": {name: len(of) for name, of in corpora.items()},
        "echo_steps": echoes,
        "dropped": dropped,
        "samples_drawn": dict(drawn),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(trained),
    }
    write_metrics(args.out, metrics)
    write_metrics(args.out, {**metrics, **measure(model, processor, samples)})


if __name__ == "__main__":
    main()
