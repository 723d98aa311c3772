"""Pooling: of what a projection makes, or as a projection of its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Described, Written, register
from neurosim.maths.operators.base import (
    POOL_GATHER_COST,
    Basal,
    Maybe,
    Part,
    SelectiveOperator,
    add_bias,
    gather_pays,
)
from neurosim.maths.operators.sliding import (
    NOWHERE,
    Margins,
    OnePerAxis,
    Sizes,
    Sliding,
    at,
    packed,
)
from neurosim.tensors import Ints, Shape, blank, for_library, rows, upload

# From so many channels on torch's max-pooling on the CPU is faster with the channels last, although
# what is pooled has to be reordered before and after; gradients would stay reordered.
WIDE = 8

PoolKind = Literal["max", "avg"]
_KERNEL: Any = None  # a stride that is the kernel


@dataclass(frozen=True)
class Pool(Sliding, Described):
    """Pooling of ``kind`` "max" or "avg" over windows; sizes are (height, width) in positions.

    ``stride`` defaults to the kernel, so that windows do not overlap.
    """

    kind: PoolKind
    kernel: Sizes = (2, 2)
    stride: Annotated[Sizes, Written(OnePerAxis | None)] = _KERNEL
    padding: Margins = (0, 0)

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        super().__post_init__()

    @classmethod
    def of(cls, choice: Pool | PoolKind | None) -> Any:
        """Returns a pooling as it is, or that of a kind with the defaults."""
        return cls(choice) if isinstance(choice, str) else choice

    def output(self, shape: Shape) -> Shape:
        """Returns the shape (C, H', W') that pooling makes of (C, H, W).

        Raises:
            NetworkError: where no window fits, or padding makes up most of one.
        """
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel, strict=True)):
            raise NetworkError(
                f"pool padding {list(self.padding)} is over half of the kernel {list(self.kernel)}"
            )
        return (shape[0], *self.plane(shape, "pool"))

    def forward(self, array: Tensor) -> Basal:
        """Returns the pooled array, and for max the winners: indices into the plane before it."""
        array = for_library(array)
        if self.kind == "max":
            swift = array.is_cpu and array.shape[1] >= WIDE and not array.requires_grad
            if swift:
                array = array.contiguous(memory_format=torch.channels_last)
            pooled, winners = F.max_pool2d(
                array, self.kernel, self.stride, self.padding, return_indices=True
            )
            return pooled.contiguous(), winners.contiguous()
        return F.avg_pool2d(array, self.kernel, self.stride, self.padding), None

    def adjoint(self, array: Tensor, shape: Shape, winners: Maybe) -> Tensor:
        """Sends (B, C, H', W') back to (B, *shape): to the winners, or evenly over the window."""
        array = for_library(array)
        like = blank((len(array), *shape), array)
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

    def gathers(self, positions: int, shape: Shape) -> bool:
        """Says if it pays to look up so many positions of (C, H, W), and not pool it as a whole."""
        return gather_pays(positions, prod(shape[1:]), 1, POOL_GATHER_COST)

    def some_forward(self, known: Tensor, where: Ints, taps: Ints) -> Basal:
        """`forward` for n windows: (B, C, n) and winners, from values (B, C, m) of the plane.

        ``taps`` (n, kh·kw) are the positions under the windows, ``where`` these in ``known``.
        """
        if self.kind == "avg":
            return at(known, where).sum(-1) / prod(self.kernel), None
        # The padding never wins: in its stead is the window's first position once more, which as
        # the first of equals wins whenever one of them does.
        outside = taps == NOWHERE
        first = (~outside).argmax(1)[:, None]
        where, taps = (
            np.where(outside, np.take_along_axis(index, first, 1), index) for index in (where, taps)
        )
        # torch's own pooling, so that ties are decided as it does.
        best, won = F.max_pool2d(at(known, where), (1, taps.shape[1]), return_indices=True)
        positions = upload(taps.reshape(-1), known.device)
        return best.squeeze(-1), positions[won.squeeze(-1)]

    def some_adjoint(self, array: Tensor, shape: Shape, winners: Maybe, positions: Ints) -> Tensor:
        """`adjoint` at n positions of the plane: (B, C, n)."""
        holders = packed(self.windows(shape).covering(positions))
        back = at(array.flatten(2), holders)
        if self.kind == "avg":
            return back.sum(-1) / prod(self.kernel)
        assert winners is not None
        own = upload(positions, array.device)
        lost = at(winners.flatten(2), holders) != own[:, None]
        return back.masked_fill_(lost, 0).sum(-1)


PoolChoice = PoolKind | Pool


@register("pool")
@dataclass(frozen=True)
class Pool2d(SelectiveOperator):
    """Pooling as a projection of its own; it has no weight."""

    bounded: ClassVar[bool] = True

    pool: Annotated[Pool, Written(PoolChoice)]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", Pool.of(self.pool))
        super().__post_init__()

    @property
    def output_shape(self) -> Shape:
        return self.pool.output(self.pre)

    @property
    def has_winners(self) -> bool:
        return self.pool.kind == "max"

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        if selection is None:
            pooled, winners = self.pool.forward(mean)
            return add_bias(pooled, bias, None), winners
        channels, positions = selection.box
        mean = rows(mean, channels, 1)
        taps = self.pool.windows(self.pre).covered(positions)
        if self.pool.gathers(taps.size, self.pre):
            pooled, winners = self.pool.some_forward(mean.flatten(2), taps, taps)
        else:
            pooled, winners = self.pool.forward(mean)
        won = None if winners is None else selection.cut(winners)
        return add_bias(selection.cut(pooled), bias, selection), won

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        if selection is None:
            return self.pool.adjoint(difference, self.pre, winners)
        channels, positions = selection.box
        difference = rows(difference, channels, 1)
        winners = None if winners is None else rows(winners, channels, 1)
        if self.pool.gathers(len(positions), self.pre):
            some = self.pool.some_adjoint(difference, self.pre, winners, positions)
            return selection.cut(some)
        back = self.pool.adjoint(difference, (len(channels), *self.pre[1:]), winners)
        return selection.cut(back)

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
