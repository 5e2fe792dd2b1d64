"""Stage 0, words: a byte-level BPE tokenizer of 4096 entries, lossless for any text."""

from __future__ import annotations

from importlib.resources import files

import yaml
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nanoemox.tasks import CHAIN_FIELDS, LABEL_SETS
from tools.mini.data import arguments, say, write_metrics
from tools.mini.texts import answers, documents, samples_of

SIZE = 4096
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK = ["<think>", "</think>"]
SPECIAL = [PAD, START, END, "<|vision|>", "<|speech|>", "<|face|>", "<|fusion|>"]
WORDS = r"'(?i:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]|\s+(?!\S)|\s+"


def template_texts() -> list[str]:
    """Return what the package itself says, weighed so that its words become single entries."""
    out: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
        elif isinstance(node, str):
            out.append(node.replace("{labels}", ""))

    walk(yaml.safe_load((files("nanoemox") / "tasks" / "templates.yaml").read_text("utf-8")))
    out += [f"{label}, {label}." for labels in LABEL_SETS.values() for label in labels]
    out += [", ".join(labels) for labels in LABEL_SETS.values()]
    return out * 200 + [f"\n{name}:" for name in CHAIN_FIELDS] * 2000


def build(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train on ``texts``; the chain tags stay visible when special tokens are skipped in decoding."""
    core = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(THINK),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        bos_token=None,
        additional_special_tokens=[START, *SPECIAL[3:]],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def main() -> None:
    """Train, check the round trip, save."""
    args = arguments(__doc__ or "").parse_args()
    samples, dropped, held = samples_of(args.data_root)
    corpora = documents(samples, held)
    texts = [text for of in corpora.values() for text in of]
    tokenizer = build(texts + answers(samples) + template_texts())
    hard = ["\x00 é 😀\u2028 \t\n\n  x", "  two  spaces \r\n", "中文 ok.", *texts[:2000]]
    for text in hard:
        if tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) != text:
            raise SystemExit(f"not lossless: {text!r}")
    ids = sum(len(tokenizer(t)["input_ids"]) for t in texts[:2000])
    characters = sum(len(t) for t in texts[:2000])
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(args.out)
    metrics = {
        "entries": len(tokenizer),
        "documents": {name: len(of) for name, of in corpora.items()},
        "dropped": dropped,
        "characters_per_token": characters / ids,
    }
    write_metrics(args.out, metrics)
    say(str(metrics))


if __name__ == "__main__":
    main()
