"""Make ``import nanoemox`` enough for the Auto classes of transformers, without importing transformers.

Stand-ins are registered as soon as the Auto modules are loaded: at once, or after their import by a finder on
``sys.meta_path``. The first use of a stand-in imports :mod:`nanoemox.model.auto`, which registers the real classes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODEL_TYPE = "nanoemox"


def _real(name: str) -> Any:
    """Register the real classes; return the one of that name."""
    from nanoemox.model import auto

    return getattr(auto, name)


class DeferredConfig:
    """Stands for the configuration until ``AutoConfig`` builds one."""

    model_type = MODEL_TYPE

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Build the real configuration."""
        return _real("NanoEmoXConfig")(*args, **kwargs)

    @classmethod
    def from_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """Read the real configuration."""
        return _real("NanoEmoXConfig").from_dict(*args, **kwargs)


class DeferredProcessor:
    """Stands for the processor until ``AutoProcessor`` loads one."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load the real processor."""
        return _real("NanoEmoXProcessor").from_pretrained(*args, **kwargs)


DeferredProcessor.__name__ = "NanoEmoXProcessor"  # transformers finds a processor by the name in its file


def _configuration(module: ModuleType) -> None:
    """Register the stand-in of the configuration, unless the real one is there."""
    if MODEL_TYPE not in module.CONFIG_MAPPING:
        module.AutoConfig.register(MODEL_TYPE, DeferredConfig)


def _processing(module: ModuleType) -> None:
    """Register the stand-in of the processor."""
    module.AutoProcessor.register(DeferredConfig, DeferredProcessor)


_WAITING: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _configuration,
    "transformers.models.auto.processing_auto": _processing,
}


class _AfterImport:
    """Finder that calls the functions of ``_WAITING`` after the import of their modules; leaves when all are called."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the other finders find the module, and extend its loader."""
        if name not in _WAITING:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.called(module)

            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010 - of this loader alone
        return spec

    def called(self, module: ModuleType) -> None:
        """Call the function that waits for a module."""
        then = _WAITING.pop(module.__name__, None)
        if then is not None:
            then(module)
        if not _WAITING and self in sys.meta_path:
            sys.meta_path.remove(self)


def install() -> None:
    """Register the stand-ins now where transformers is loaded that far, else after it is."""
    finder = _AfterImport()
    sys.meta_path.insert(0, finder)
    for name in list(_WAITING):
        if name in sys.modules and not getattr(sys.modules[name].__spec__, "_initializing", False):
            finder.called(sys.modules[name])
