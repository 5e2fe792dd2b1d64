"""One step of decoding: the newest token of every row in, the logits of the next one out.

On a CPU the cache grows inside reserved memory, so that attention reads only what is used. On CUDA every step has the
same shapes and memory, is captured as a graph and replayed: launching the kernels of all layers one by one takes
longer than running them for a few rows.

Letters: ``R`` rows, ``K`` keys before the first step, ``V`` vocabulary.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any, Final
from weakref import WeakSet

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from nanoemox.model.cache import cache_argument, fixed_branch

_logger = logging.getLogger(__name__)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn bool[R, Q, keys] into the additive mask float[R, 1, Q, keys]."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


class GrowingStep:
    """A step whose cache grows.

    Args:
        model: The model.
        cache: Keys and values of R rows, with room for the new ones; written to.
        keep: bool[R, K], which keys are real.
        positions: int64[R] of the first new tokens.
        room: Maximum number of steps.
    """

    def __init__(self, model: Any, cache: DynamicCache, keep: Tensor, positions: Tensor, room: int) -> None:
        self._model, self._cache = model, cache
        self._positions, self._keys = positions[:, None], keep.shape[1]
        # Where nothing is padding no mask is needed, and attention without one takes the fastest kernel.
        seen = functional.pad(keep, (0, room), value=True)
        self._mask = None if keep.all() else additive(seen[:, None], model.dtype)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Run int64[R]; returns float[R, V]."""
        self._keys += 1
        out = self._model(
            input_ids=tokens[:, None],
            attention_mask=None if self._mask is None else self._mask[..., : self._keys],
            position_ids=self._positions,
            **cache_argument(self._cache),
            use_cache=True,
        )
        self._positions = self._positions + 1
        return out.logits[:, -1]


class FixedStep:
    """A step in fixed memory. On CUDA the first one runs as it is, the second is captured as a graph.

    Args:
        model: The model.
        cache: Keys and values of R rows; copied.
        keep: bool[R, K], which keys are real.
        positions: int64[R] of the first new tokens.
        room: Maximum number of steps.
    """

    def __init__(self, model: Any, cache: DynamicCache, keep: Tensor, positions: Tensor, room: int) -> None:
        self._model, self._first, self._keys = model, keep.shape[1], keep.shape[1]
        self._cache = fixed_branch(cache, room)
        self._mask = additive(functional.pad(keep, (0, room), value=False)[:, None], model.dtype)
        self._positions = positions[:, None].clone()
        self._tokens = torch.zeros_like(self._positions)
        self._graph: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Run int64[R]; returns float[R, V], valid until the next call."""
        self._tokens.copy_(tokens[:, None])
        self._mask[..., self._keys] = 0
        # Libraries allocate at their first call, which a graph does not allow.
        if self._keys == self._first + 1 and self._tokens.is_cuda and self._model not in _CANNOT_BE_CAPTURED:
            self._graph = self._captured()
        if self._graph is None:
            logits = self._run()
        else:
            graph, logits = self._graph
            graph.replay()
        self._keys += 1
        self._positions += 1
        return logits

    def _run(self) -> Tensor:
        out = self._model(
            input_ids=self._tokens,
            attention_mask=self._mask,
            position_ids=self._positions,
            **cache_argument(self._cache),
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _captured(self) -> tuple[torch.cuda.CUDAGraph, Tensor] | None:
        """Capture ``_run`` as a graph; None for a language model that waits for the device within a step."""
        here, graph = self._tokens.device, torch.cuda.CUDAGraph()
        side = _side_stream(here)
        side.wait_stream(torch.cuda.current_stream(here))
        try:
            with _CAPTURING, torch.cuda.stream(side):
                # Other threads of a server may allocate while this one captures.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    logits = self._run()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            _CANNOT_BE_CAPTURED.add(self._model)
            _logger.warning("decoding without a CUDA graph, slower: %s", str(error).partition("\n")[0])
            return None
        return graph, logits


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which the steps of a device are captured: each stream keeps memory of cuBLAS."""
    return torch.cuda.Stream(device)


_CAPTURING: Final = threading.Lock()
_CANNOT_BE_CAPTURED: Final[WeakSet[Any]] = WeakSet()
"""Models whose capture failed: each attempt costs memory."""
