"""The key-value cache: its argument name in the installed transformers, and branches with shared or own memory.

From 5.24 the argument ``past_key_values`` is called ``cache``, with a warning for the old name. This is
the only place that depends on it, to be removed with support for 5.23.

Letters: ``R`` rows, ``G`` heads of keys and values, ``P`` tokens in the cache, ``D`` width of a head.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Final

from torch import Tensor
from transformers import Cache, DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer, StaticLayer

_ASKED = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE_NAME: Final = "cache" if "cache" in _ASKED else "past_key_values"


def cache_argument(cache: Cache | None) -> dict[str, Any]:
    """Return the cache as a keyword argument for a model of the library."""
    return {CACHE_NAME: cache}


class ReservedLayer(DynamicLayer):
    """A layer with preallocated memory: new tokens are written after the old ones, and nothing is copied.

    The library's ``StaticLayer`` returns all of its memory, used or not, and so needs a mask at every step; this one
    returns the used part, like the growing layer, so a step without padding needs none.

    Args:
        layer: Keys and values float[R, G, P, D] to start from; they are copied.
        repeats: Consecutive copies of each row.
        room: Number of further tokens.
    """

    def __init__(self, layer: DynamicLayer, repeats: int, room: int) -> None:
        super().__init__()
        self._all_keys = _with_room(layer.keys, repeats, room)
        self._all_values = _with_room(layer.values, repeats, room)
        self.device = layer.keys.device
        self._show(layer.keys.shape[-2])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append float[R, G, Q, D]; return views of all used memory."""
        begin = self.keys.shape[-2]
        end = begin + key_states.shape[-2]
        if end > self._all_keys.shape[-2]:
            raise ValueError(f"{end} tokens do not fit into a cache reserved for {self._all_keys.shape[-2]}")
        self._all_keys[:, :, begin:end] = key_states
        self._all_values[:, :, begin:end] = value_states
        self._show(end)
        return self.keys, self.values

    def _show(self, end: int) -> None:
        self.keys = self._all_keys[:, :, :end]
        self.values = self._all_values[:, :, :end]


def _with_room(states: Tensor, repeats: int, room: int) -> Tensor:
    """Copy float[R, G, P, D] into float[R * repeats, G, P + room, D]."""
    rows, heads, length, width = states.shape
    out = states.new_empty(rows * repeats, heads, length + room, width)
    out[:, :, :length] = states.repeat_interleave(repeats, dim=0) if repeats > 1 else states
    return out


def shared_branch(cache: DynamicCache) -> DynamicCache:
    """Return a cache that continues this one on its own; the tensors are shared and never written to."""
    branch = DynamicCache()
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    return branch


def reserved_branch(cache: DynamicCache, repeats: int, room: int) -> DynamicCache:
    """Return a copy of a cache with ``repeats`` consecutive copies of each row and memory for ``room`` more tokens."""
    branch = DynamicCache()
    branch.layers = [ReservedLayer(layer, repeats, room) for layer in cache.layers]
    return branch


def fixed_branch(cache: DynamicCache, room: int) -> Cache:
    """Return a copy of a cache whose memory and shapes stay as ``room`` tokens are added; it needs a mask."""
    layers = []
    for layer in cache.layers:
        fixed = StaticLayer(layer.keys.shape[-2] + room)
        fixed.lazy_initialization(layer.keys, layer.values)
        fixed.update(layer.keys, layer.values)
        layers.append(fixed)
    return Cache(layers=layers)
