"""The key-value cache under the name that the installed transformers gives it.

From 5.24 the library says ``cache`` where it said ``past_key_values``, and warns at every use of the old name. This is
the only place that knows; it goes when 5.23 is no longer supported.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from transformers import Cache, GenerationMixin

_ASKED = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE_NAME: Final = "cache" if "cache" in _ASKED else "past_key_values"


def cache_argument(cache: Cache | None) -> dict[str, Any]:
    """Return the cache as a keyword argument for a model of the library."""
    return {CACHE_NAME: cache}
