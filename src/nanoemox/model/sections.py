"""Sections of the configuration: plain mappings become configuration objects, and mistakes in them sentences."""

from __future__ import annotations

import copy
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


def as_config(value: dict[str, Any] | PreTrainedConfig | None, default: dict[str, Any]) -> PreTrainedConfig:
    """Turn a plain mapping with a ``model_type`` into the configuration class of that type.

    The precision that a part was once saved in is forgotten: the part would be built in it whatever the whole model
    is loaded in, and no two parts would fit together.
    """
    if isinstance(value, PreTrainedConfig):
        config = copy.copy(value)
    else:
        fields = dict(default if value is None else value)
        model_type = fields.pop("model_type", default["model_type"])
        config = AutoConfig.for_model(model_type, **fields)
    config.dtype = None
    return config


def require(ok: bool, message: str) -> None:
    """Raise ``ValueError`` with the message unless ``ok``."""
    if not ok:
        raise ValueError(message)


def as_section(value: Any, kind: type[PreTrainedConfig]) -> Any:
    """Turn a mapping into its section; an unknown key is a user's mistake, so it raises."""
    if isinstance(value, kind):
        return value
    fields = dict(value or {})
    fields.pop("model_type", None)
    own = {name for base in kind.__mro__ if base not in PreTrainedConfig.__mro__ for name in base.__annotations__}
    library = set(PreTrainedConfig().to_dict()) | {"output_attentions", "attn_implementation"}
    unknown = sorted(k for k in set(fields) - own - library if not k.startswith("_"))
    require(not unknown, f"{kind.base_config_key}: unknown field(s) {unknown}; known: {sorted(own)}")
    return kind(**fields)
