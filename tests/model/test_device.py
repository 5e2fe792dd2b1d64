"""Placing a model on its device."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from nanoemox.model.device import place_on


@pytest.mark.parametrize(("device", "stays"), [("cuda", False), ("cpu", True)])
def test_only_on_cuda_the_attention_of_cudnn_is_switched_off(device: str, stays: bool) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        model = Mock()
        assert place_on(model, torch.device(device)) is model.to.return_value
        assert torch.backends.cuda.cudnn_sdp_enabled() is stays
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
