"""Convolution and pooling as operators of projections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn import grad

from neurosim.errors import NetworkError
from neurosim.operators import Operator, Pair, Selection, Shape, add_bias


@dataclass(frozen=True)
class Pool:
    """Pooling of ``kind`` "max" or "avg" over windows; sizes are (height, width) in positions."""

    kind: Literal["max", "avg"] = "max"
    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Pair = (0, 0)

    def output(self, shape: Shape) -> Shape:
        """The shape (C, H', W') that pooling makes of (C, H, W). Raises NetworkError."""
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel, strict=True)):
            raise NetworkError(
                f"pool padding {list(self.padding)} is over half of the kernel {list(self.kernel)}"
            )
        return (shape[0], *window_output(shape, self.kernel, self.stride, self.padding, "pool"))

    def forward(self, array: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pooled array, and for max the winners: indices into the H·W plane before pooling."""
        if self.kind == "max":
            pooled, winners = F.max_pool2d(
                array, self.kernel, self.stride, self.padding, return_indices=True
            )
            return pooled, winners
        return F.avg_pool2d(array, self.kernel, self.stride, self.padding), None

    def adjoint(self, array: Tensor, shape: Shape, winners: Tensor | None) -> Tensor:
        """Sends (B, C, H', W') back to (B, *shape): to the winners, or evenly over the window."""
        like = array.new_empty(1).expand(array.shape[0], *shape)  # the kernels read its shape only
        back: Tensor
        if self.kind == "max":
            assert winners is not None
            back = torch.ops.aten.max_pool2d_with_indices_backward(
                array, like, self.kernel, self.stride, self.padding, (1, 1), False, winners
            )
        else:
            back = torch.ops.aten.avg_pool2d_backward(
                array, like, self.kernel, self.stride, self.padding, False, True, None
            )
        return back

    def gather(self, reach: Tensor) -> Tensor:
        """Window sums of (C, H, W): how much of each window is set."""
        kernel = reach.new_ones(1, 1, *self.kernel)
        return F.conv2d(reach[:, None], kernel, None, self.stride, self.padding)[:, 0]

    def spread(self, reach: Tensor, shape: Shape) -> Tensor:
        """The transpose of `gather`: (C, H', W') to (C, H, W)."""
        return _window_transpose(reach, shape[1:], self.kernel, self.stride, self.padding)


def window_output(shape: Shape, kernel: Pair, stride: Pair, padding: Pair, what: str) -> Pair:
    """Positions that a sliding window has on (C, H, W). Raises NetworkError where there is none."""
    if len(shape) != 3:
        raise NetworkError(f"{what} needs an input of shape [C, H, W], not {list(shape)}")
    sizes = [
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True)
    ]
    if min(sizes) < 1:
        raise NetworkError(
            f"{what} kernel {list(kernel)} does not fit the input {list(shape)} with padding "
            f"{list(padding)}"
        )
    return sizes[0], sizes[1]


def _window_transpose(
    reach: Tensor, size: Shape, kernel: Pair, stride: Pair, padding: Pair
) -> Tensor:
    ones = reach.new_ones(1, 1, *kernel)
    batch = (reach.shape[0], 1, *size)
    return _input_gradient(batch, ones, reach[:, None], stride, padding)[:, 0]


def _input_gradient(
    size: Shape, weight: Tensor, output: Tensor, stride: Pair, padding: Pair
) -> Tensor:
    """The adjoint of a convolution: from (B, C', H', W') to ``size`` = (B, C, H, W)."""
    back: Tensor = grad.conv2d_input(size, weight, output, stride, padding)  # type: ignore[no-untyped-call]
    return back


@dataclass(frozen=True)
class Conv2d(Operator):
    """Convolution (cross-correlation, as torch has it), then pooling if ``pool`` is given.

    ``kernel``, ``stride`` and ``padding`` (zeros) are (height, width).
    """

    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    pool: Pool | None = None

    @property
    def output_shape(self) -> Shape:
        if len(self.post) != 3:
            raise NetworkError(f"conv needs a target of shape [C, H, W], not {list(self.post)}")
        return self.middle if self.pool is None else self.pool.output(self.middle)

    @property
    def unpooled(self) -> Conv2d:
        return replace(self, post=self.middle, pool=None)

    @property
    def middle(self) -> Shape:
        """(C, H, W) after the convolution, before pooling."""
        size = window_output(self.pre, self.kernel, self.stride, self.padding, "conv")
        return (self.post[0], *size)

    @property
    def weight_shape(self) -> Shape:
        return (self.post[0], self.pre[0], *self.kernel)

    @property
    def fans(self) -> Pair:
        return self.pre[0] * prod(self.kernel), self.post[0] * prod(self.kernel)

    @property
    def has_winners(self) -> bool:
        return self.pool is not None and self.pool.kind == "max"

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        del batch
        return selection.channels is not None

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        del batch
        return selection.channels is not None

    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        assert weight is not None
        if selection is not None:
            assert selection.channels is not None
            weight = weight.index_select(0, selection.channels)
            bias = None if bias is None else bias.index_select(0, selection.channels)
        # An average over padded windows would average the bias with padding zeros: add it after.
        late = self.pool is not None and self.pool.kind == "avg"
        middle = F.conv2d(mean, weight, None if late else bias, self.stride, self.padding)
        if self.pool is None:
            return middle, None
        pooled, winners = self.pool.forward(middle)
        if late and bias is not None:
            pooled = pooled + bias[:, None, None]
        return pooled, winners

    def _unpooled(self, difference: Tensor, winners: Tensor | None) -> Tensor:
        if self.pool is None:
            return difference
        return self.pool.adjoint(difference, self.middle, winners)

    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        assert weight is not None
        channels = self.pre[0]
        if selection is not None:
            assert selection.channels is not None
            weight = weight.index_select(1, selection.channels)
            channels = selection.channels.numel()
        size = (difference.shape[0], channels, *self.pre[1:])
        middle = self._unpooled(difference, winners)
        return _input_gradient(size, weight, middle, self.stride, self.padding)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Tensor | None) -> Tensor:
        middle = self._unpooled(difference, winners)
        back: Tensor = grad.conv2d_weight(  # type: ignore[no-untyped-call]
            mean, self.weight_shape, middle, self.stride, self.padding
        )
        return back

    def _positions(self) -> Tensor:
        ones = torch.ones(1, 1, *self.pre[1:], dtype=torch.float64)
        return F.conv2d(ones, ones.new_ones(1, 1, *self.kernel), None, self.stride, self.padding)[0]

    def forward_reach(self, sent: Tensor) -> Tensor:
        plane = sent.any(0, keepdim=True).float()
        ones = plane.new_ones(1, 1, *self.kernel)
        middle = F.conv2d(plane[None], ones, None, self.stride, self.padding)[0]
        reach = middle if self.pool is None else self.pool.gather(middle)
        return (reach > 0.5).expand(self.post)

    def backward_reach(self, sent: Tensor) -> Tensor:
        plane = sent.any(0, keepdim=True).float()
        middle = plane if self.pool is None else self.pool.spread(plane, self.middle).clamp(max=1)
        reach = _window_transpose(middle, self.pre[1:], self.kernel, self.stride, self.padding)
        return (reach > 0.5).expand(self.pre)

    def forward_fan_out(self) -> Tensor:
        middle = torch.ones(1, *self.middle[1:], dtype=torch.float64)
        synapses = _window_transpose(middle, self.pre[1:], self.kernel, self.stride, self.padding)
        return (synapses[0] * self.post[0]).round().long()

    def backward_fan_out(self) -> Tensor:
        taps = self._positions()
        if self.pool is not None:
            taps = self.pool.gather(taps)
        return (taps[0] * self.pre[0]).round().long()


@dataclass(frozen=True)
class Pool2d(Operator):
    """Pooling as a projection of its own; it has no weight."""

    pool: Pool = Pool()

    @property
    def output_shape(self) -> Shape:
        return self.pool.output(self.pre)

    @property
    def has_winners(self) -> bool:
        return self.pool.kind == "max"

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        del batch
        return selection.channels is not None

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        del batch
        return selection.channels is not None

    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        pooled, winners = self.pool.forward(mean if selection is None else selection.take(mean))
        return add_bias(pooled, bias, selection), winners

    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        if selection is None:
            return self.pool.adjoint(difference, self.pre, winners)
        assert selection.channels is not None
        some = difference.index_select(1, selection.channels)
        won = None if winners is None else winners.index_select(1, selection.channels)
        return self.pool.adjoint(some, (selection.channels.numel(), *self.pre[1:]), won)

    def forward_reach(self, sent: Tensor) -> Tensor:
        return self.pool.gather(sent.float()) > 0.5

    def backward_reach(self, sent: Tensor) -> Tensor:
        return self.pool.spread(sent.float(), self.pre) > 0.5

    def forward_fan_out(self) -> Tensor:
        windows = torch.ones(1, *self.post[1:], dtype=torch.float64)
        return self.pool.spread(windows, self.pre)[0].round().long()

    def backward_fan_out(self) -> Tensor:
        ones = torch.ones(1, *self.pre[1:], dtype=torch.float64)
        return self.pool.gather(ones)[0].round().long()
