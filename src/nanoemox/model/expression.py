"""A small network for facial expressions: four dense blocks of separable convolutions, one vector per image.

Architecture and first weights are those of the expression net of ``face-api`` (MIT, see the NOTICE of the weights).
Letters: ``N`` pictures, ``C`` channels, ``h`` and ``w`` sides in pixels, ``F`` width of the vector.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EXPRESSION_SIZE = 256
"""Width of the vector."""
COLOUR = (122.782 / 255, 117.001 / 255, 104.298 / 255)
"""Mean colour that the network was trained with."""
CHANNELS = (32, 64, 128, EXPRESSION_SIZE)


def _same(x: Float[Tensor, "N C h w"], stride: int) -> Float[Tensor, "N C _h _w"]:
    """Pad a 3x3 convolution's input as TensorFlow does: with stride 2 an even side is padded at its end only."""
    pads = []
    for side in (x.shape[-1], x.shape[-2]):
        whole = max((-(-side // stride) - 1) * stride + 3 - side, 0)
        pads += [whole // 2, whole - whole // 2]
    return functional.pad(x, pads)


class Separable(nn.Module):
    """Depthwise, then pointwise convolution."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inner, inner, 3, groups=inner, bias=False)
        self.pointwise = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Float[Tensor, "N _c h w"], stride: int) -> Float[Tensor, "N C _h _w"]:
        """Convolve."""
        spread = functional.conv2d(_same(x, stride), self.depthwise.weight, stride=stride, groups=x.shape[1])
        return self.pointwise(spread)


class DenseBlock(nn.Module):
    """Four convolutions, each fed the sum of all before it; the first halves the sides."""

    def __init__(self, inner: int, outer: int, *, first: bool) -> None:
        super().__init__()
        start: nn.Module = nn.Conv2d(inner, outer, 3) if first else Separable(inner, outer)
        self.convolutions = nn.ModuleList([start, *(Separable(outer, outer) for _ in range(3))])

    def forward(self, x: Float[Tensor, "N _c h w"]) -> Float[Tensor, "N C _h _w"]:
        """Return the rectified sum of all four."""
        start = self.convolutions[0]
        if isinstance(start, nn.Conv2d):
            x = functional.conv2d(_same(x, 2), start.weight, start.bias, stride=2)
        else:
            x = start(x, 2)
        summed = total = functional.relu(x)
        for convolution in self.convolutions[1:]:
            total = total + convolution(summed, 1)
            summed = functional.relu(total)
        return summed


class ExpressionNet(nn.Module):
    """Images in 0..1 minus the mean colour -> one vector each."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *CHANNELS)
        pairs = zip(widths, CHANNELS, strict=False)
        self.blocks = nn.ModuleList(DenseBlock(a, b, first=i == 0) for i, (a, b) in enumerate(pairs))

    def forward(self, pixels: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N F"]:
        """Return the mean over the last map."""
        for block in self.blocks:
            pixels = block(pixels)
        return pixels.mean(dim=(2, 3))
