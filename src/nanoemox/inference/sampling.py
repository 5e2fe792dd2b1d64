"""The tokens of answers being generated, and sampling of the next: on the device, without a synchronisation.

Letters: ``R`` rows, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from nanoemox.model.processing import ends_with


class TokenBuffer:
    """The token ids of R answers that are generated in step.

    Args:
        rows: R.
        room: Maximum number of ids of an answer.
        terminator: Ids that end an answer.
        device: Device of the buffers.

    Attributes:
        steps: Steps so far.
        ids: int64[R, room], the chosen ids; undefined after a row's end.
        lengths: int64[R], ids of each answer, its terminator not counted.
        ended: bool[R], rows whose terminator was generated.
    """

    def __init__(self, rows: int, room: int, terminator: Sequence[int], device: torch.device) -> None:
        self.steps = 0
        self.ids = torch.zeros(rows, room, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self._terminator = torch.tensor(list(terminator), device=device)

    def append(self, chosen: Tensor) -> None:
        """Append int64[R]; a row ends with the terminator, which is not part of its answer."""
        self.ids[:, self.steps] = chosen
        self.steps += 1
        self.lengths += ~self.ended
        stops = ends_with(self.ids[:, : self.steps], self._terminator) & ~self.ended
        self.lengths -= len(self._terminator) * stops
        self.ended |= stops


class Sampler:
    """Samples the next id of every row; each row as if it were sampled alone with the seed.

    All rows share one stream of random numbers: separate streams of this seed would give the same numbers.

    Args:
        temperature: 0 is greedy.
        top_p: Smallest set of ids with this share of probability; 1 keeps all.
        top_k: Most probable ids to draw from; 0 keeps all.
        seed: Seed of the stream.
        device: Device of the logits.
    """

    def __init__(self, temperature: float, top_p: float, top_k: int, seed: int, device: torch.device) -> None:
        self._greedy = not temperature
        self._random = torch.Generator(device).manual_seed(seed)
        # The library's own, in the library's order.
        self._warpers: list[Any] = []
        if temperature not in (0, 1):
            self._warpers.append(TemperatureLogitsWarper(float(temperature)))
        if top_k:
            self._warpers.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self._warpers.append(TopPLogitsWarper(top_p))

    def __call__(self, logits: Tensor) -> Tensor:
        """Pick from float[R, V]: int64[R]."""
        if self._greedy:
            return logits.argmax(dim=-1)
        # The three warpers used here ignore the ids.
        scores = logits.float()
        for warper in self._warpers:
            scores = warper(None, scores)
        # As in torch.multinomial for one sample, without its checks, which synchronise.
        noise = torch.empty_like(scores[0]).exponential_(generator=self._random)
        return (scores.softmax(dim=-1) / noise).argmax(dim=-1)
