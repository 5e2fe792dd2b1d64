"""The default floating-point format."""

from __future__ import annotations

import pytest
import torch

from nanoemox.inference.checkpoints import default_dtype


@pytest.mark.parametrize(
    ("device", "stored", "native", "wanted"),
    [
        ("cuda", torch.float32, True, torch.bfloat16),
        ("cuda", torch.bfloat16, False, torch.float16),
        ("cpu", torch.bfloat16, True, torch.bfloat16),
        ("cpu", torch.bfloat16, False, torch.float32),
        ("cpu", torch.float16, True, torch.float32),
        ("cpu", None, True, torch.float32),
        ("mps", torch.bfloat16, False, torch.float32),
    ],
)
def test_format_by_device_and_processor(
    device: str, stored: torch.dtype | None, native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoemox.inference.checkpoints.has_bfloat16", lambda device: native)
    assert default_dtype(torch.device(device), stored) == wanted
