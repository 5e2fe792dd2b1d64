"""One prefill, many questions: scoring and generation on branches of a shared cache.

The prompt of a clip is the same for every task up to the question, so it runs through the language model once. The
questions of the closed tasks and all their candidates form one token tree that is scored in a single forward pass;
the open questions are decoded together as one batch. Masks and positions are always explicit: a branch that leaves
them to the library is silently wrong. Pure functions over any causal language model that takes additive masks in
four dimensions; the prefix's cache is never changed.

Letters: ``B`` prompts, ``P`` tokens of a padded prefix, ``N`` nodes of the tree, ``K`` questions, ``R = B * K`` rows,
``Q`` tokens of a padded question, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from nanoemox.inference.sampling import Sampler, TokenBuffer
from nanoemox.inference.steps import FixedStep, GrowingStep, additive
from nanoemox.model.cache import cache_argument, reserved_branch, shared_branch
from nanoemox.types import NanoEmoXError

MAX_NEW_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Settings of open answers, named as in ``generate`` of transformers.

    Attributes:
        max_new_tokens: Upper bound of an answer's length, at most 1024.
        temperature: 0 is greedy; above 0 tokens are sampled.
        top_p: Smallest set of tokens with this share of probability; 1 keeps all. For sampling only.
        top_k: Number of most probable tokens to sample from; 0 keeps all. For sampling only.
        seed: Seed of every answer's own random stream, so that an answer does not depend on its neighbours.
    """

    max_new_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds."""
        limits = (
            ("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS),
            ("temperature", self.temperature, 0, 10),
            ("top_p", self.top_p, 1e-6, 1),
            ("top_k", self.top_k, 0, 1_000_000),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise NanoEmoXError(f"{name}={value}: must lie between {low} and {high}")


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The language model's cache of the shared start of B prompts.

    Attributes:
        cache: Keys and values, padded on the right.
        keep: bool[B, P], which of them are real.
        seen: The model's whole output of the prefill (gate, attention of the branches).
    """

    cache: DynamicCache
    keep: Tensor
    seen: Any

    @property
    def lengths(self) -> Tensor:
        """int64[B], real tokens of each prompt."""
        return self.keep.sum(dim=1)

    def rows(self, rows: Sequence[int]) -> Prefix:
        """Return the cache of some of the prompts, in this order."""
        if list(rows) == list(range(len(self.keep))):
            return self
        cache = shared_branch(self.cache)
        index = torch.tensor(list(rows), device=self.keep.device)
        cache.batch_select_indices(index)
        return Prefix(cache, self.keep[index], self.seen)


@torch.no_grad()
def prefill(model: Any, input_ids: Tensor, attention_mask: Tensor, media: Mapping[str, Tensor] | None = None) -> Prefix:
    """Run the shared start of B prompts, padded on the right, through the model.

    Args:
        model: The model; ``media`` go to its ``forward`` by name.
        input_ids: int64[B, P].
        attention_mask: int64[B, P].
        media: Media of the prompts that have them.
    """
    cache = DynamicCache()
    seen = model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        **cache_argument(cache),
        use_cache=True,
        # No logits are needed yet, and the head is as wide as the vocabulary.
        logits_to_keep=torch.empty(0, dtype=torch.int64, device=input_ids.device),
        **(media or {}),
    )
    return Prefix(cache, attention_mask.bool(), seen)


# ---------------------------------------------------------------- closed tasks


@dataclass(slots=True)
class TokenTree:
    """Sequences merged at their shared starts.

    Attributes:
        tokens: Token id of each node, parents before children.
        parents: Index of each node's parent, -1 at a root.
        depths: Distance of each node from its root.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, sequence: Sequence[int]) -> list[int]:
        """Merge a sequence in and return the nodes along it."""
        node, path = -1, []
        for depth, token in enumerate(sequence):
            key = (node, token)
            if key not in self._children:
                self._children[key] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            node = self._children[key]
            path.append(node)
        return path

    def ancestors(self) -> Tensor:
        """bool[N, N]: row i marks node i and all nodes above it."""
        seen = np.eye(len(self.tokens), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return torch.from_numpy(seen)


@dataclass(frozen=True, slots=True)
class Choice:
    """A closed question: token ids of the question, and of each candidate with its terminator."""

    question: Sequence[int]
    candidates: Sequence[Sequence[int]]


@torch.no_grad()
def score(model: Any, prefix: Prefix, choices: Sequence[Choice]) -> list[Tensor]:
    """Return the log-probability of every candidate of every question, from one forward pass.

    All questions and candidates form one tree after the prefix; a node sees the prefix and its ancestors only, at
    the position it would have in a separate prompt. So the scores are those of separate sequences, and the order of
    the candidates does not matter.

    Returns:
        One float32[B, candidates] per question, on the CPU: the sum over the candidate's tokens, terminator included.
    """
    tree = TokenTree()
    # The last token of a sequence is predicted but predicts nothing, so it needs no node.
    paths = [[tree.add([*c.question, *ids][:-1]) for ids in c.candidates] for c in choices]
    # An edge is a node and the token that is to follow it.
    edges = [
        [list(zip(p[len(c.question) - 1 :], ids, strict=True)) for p, ids in zip(nodes, c.candidates, strict=True)]
        for c, nodes in zip(choices, paths, strict=True)
    ]
    sources = sorted({node for choice in edges for path in choice for node, _ in path})
    logits = _forward_tree(model, prefix, tree, sources)
    row = {node: i for i, node in enumerate(sources)}
    candidates = [path for choice in edges for path in choice]
    steps = [(row[node], token, i) for i, path in enumerate(candidates) for node, token in path]
    at, tokens, of = torch.tensor(steps, device=logits.device).unbind(dim=1)
    sums = logits.new_zeros(len(logits), len(candidates)).index_add_(1, of, logits[:, at, tokens])
    return list(sums.cpu().split([len(c.candidates) for c in choices], dim=1))


def _forward_tree(model: Any, prefix: Prefix, tree: TokenTree, sources: Sequence[int]) -> Tensor:
    """Return the log-probabilities that follow the nodes ``sources``: float32[B, len(sources), V]."""
    device, batch = prefix.keep.device, len(prefix.keep)
    tokens = torch.tensor(tree.tokens, device=device).expand(batch, -1)
    depths = torch.tensor(tree.depths, device=device)
    behind = tree.ancestors().to(device).expand(batch, -1, -1)
    before = prefix.keep[:, None].expand(-1, len(tree.tokens), -1)
    out = model(
        input_ids=tokens,
        attention_mask=additive(torch.cat([before, behind], dim=2), model.dtype),
        position_ids=prefix.lengths[:, None] + depths,
        **cache_argument(shared_branch(prefix.cache)),
        use_cache=True,
        logits_to_keep=torch.tensor(sources, device=device),
    )
    return torch.log_softmax(out.logits.float(), dim=-1)


# ---------------------------------------------------------------- open tasks


class Decoder:
    """Generate the answers to K open questions about each of B prompts as one batch.

    :meth:`finish` generates everything. Iterating instead yields after each step the new ids, ``None`` in a
    row that has ended, and so synchronises at every step. ``answers`` holds the ids so far without the
    terminator, ``ended`` the rows with a terminator.

    Args:
        model: The model.
        prefix: The prompts.
        questions: K lists of token ids, the same for every prompt; row ``b * K + k`` is question k of prompt b.
        terminator: Ids that end an answer.
        options: Length, temperature and so on.
    """

    def __init__(
        self,
        model: Any,
        prefix: Prefix,
        questions: Sequence[Sequence[int]],
        terminator: Sequence[int],
        options: GenerationOptions | None = None,
    ) -> None:
        self.model, self.prefix, self.terminator = model, prefix, list(terminator)
        self.options = options or GenerationOptions()
        self.questions = [list(q) for _ in prefix.keep for q in questions]
        self.answers: list[list[int]] = [[] for _ in self.questions]
        self.ended = [False] * len(self.questions)

    def __iter__(self) -> Iterator[list[int | None]]:
        """Decode until every row has ended or is as long as allowed."""
        for written in self._steps():
            news = torch.stack([written.ids[:, written.steps - 1], written.lengths, written.ended])
            yield self._read(*news.tolist())
            if all(self.ended):
                return

    def finish(self) -> list[list[int]]:
        """Decode to the end and return ``answers``; the end is checked rarely, since each check synchronises."""
        every = steps_between_checks(self.prefix.keep.device)
        for written in self._steps():
            last = written
            if written.steps % every == 0 and bool(written.ended.all()):
                break
        self.answers = [row[:n] for row, n in zip(last.ids.tolist(), last.lengths.tolist(), strict=True)]
        self.ended = last.ended.tolist()
        return self.answers

    def _read(self, tokens: list[int], lengths: list[int], ended: list[int]) -> list[int | None]:
        """Copy one step from the device."""
        added = [None if over else token for token, over in zip(tokens, self.ended, strict=True)]
        for answer, token, length in zip(self.answers, added, lengths, strict=True):
            if token is not None:
                answer.append(token)
                del answer[length:]
        self.ended = [bool(e) for e in ended]
        return added

    @torch.no_grad()
    def _steps(self) -> Iterator[TokenBuffer]:
        """Generate one id per row and step, up to the allowed length, without synchronising."""
        options, device = self.options, self.prefix.keep.device
        repeats = len(self.questions) // len(self.prefix.keep)
        longest = max(map(len, self.questions))
        cache = reserved_branch(self.prefix.cache, repeats, longest + options.max_new_tokens)
        logits, keep, positions = self._ask(cache, repeats, longest)
        choose = Sampler(options.temperature, options.top_p, options.top_k, options.seed, device)
        written = TokenBuffer(len(self.questions), options.max_new_tokens, self.terminator, device)
        forward = step_of(device)(self.model, cache, keep, positions, options.max_new_tokens)
        del cache  # which a step in fixed memory has copied
        for step in range(options.max_new_tokens):
            chosen = choose(logits)
            written.append(chosen)
            yield written
            if step + 1 == options.max_new_tokens:
                return
            logits = forward(chosen)

    def _ask(self, cache: DynamicCache, repeats: int, longest: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run the questions, padded on the right.

        Returns:
            float[R, V] logits after each question, bool[R, P + Q] real tokens, int64[R] next positions.
        """
        device = self.prefix.keep.device
        ids = torch.tensor([q + q[-1:] * (longest - len(q)) for q in self.questions], device=device)
        lengths = torch.tensor([len(q) for q in self.questions], device=device)
        before = self.prefix.keep.repeat_interleave(repeats, dim=0)
        real = torch.arange(longest, device=device) < lengths[:, None]
        causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        allowed = torch.cat([before[:, None].expand(-1, longest, -1), real[:, None] & causal], dim=2)
        starts = before.sum(dim=1)
        # The head is as wide as the vocabulary, so it is computed only at the ends of questions.
        ends = sorted({len(q) - 1 for q in self.questions})
        out = self.model(
            input_ids=ids,
            attention_mask=additive(allowed, self.model.dtype),
            position_ids=starts[:, None] + torch.arange(longest, device=device),
            **cache_argument(cache),
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=device),
        )
        at = torch.tensor([ends.index(len(q) - 1) for q in self.questions], device=device)
        last = out.logits[torch.arange(len(ids), device=device), at]
        return last, torch.cat([before, real], dim=1), starts + lengths


def steps_between_checks(device: torch.device) -> int:
    """Steps between two checks whether all answers have ended: free on a CPU, a synchronisation elsewhere."""
    return 1 if device.type == "cpu" else 16


def step_of(device: torch.device) -> type[FixedStep] | type[GrowingStep]:
    """Return the kind of step for a device."""
    return FixedStep if device.type == "cuda" else GrowingStep
