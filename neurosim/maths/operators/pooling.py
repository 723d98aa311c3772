"""Pooling over windows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Described, Positive, Written
from neurosim.maths.operators.base import POOL_GATHER_COST, Basal, Maybe, gather_pays
from neurosim.maths.operators.sliding import (
    NOWHERE,
    Margins,
    OnePerAxis,
    Sizes,
    Sliding,
    at,
    packed,
)
from neurosim.tensors import Ints, Shape, blank, for_library, upload

# From so many channels on torch's max-pooling on the CPU is faster with the channels last, although
# what is pooled has to be reordered before and after; gradients would stay reordered.
WIDE = 8
MANY = 6_000  # values; of fewer the reordering takes longer

PoolKind = Literal["max", "avg", "softmax"]
Winners = Literal["mean", "plus"]
_KERNEL: Any = None  # a stride that is the kernel


@dataclass(frozen=True)
class Pool(Sliding, Described):
    """Pooling over windows; sizes are (height, width) in positions.

    ``stride`` defaults to the kernel, so that windows do not overlap. Through a max-pool
    differences go back to its ``winners`` among the means below, or among the states s⁺ (DP24's
    code). A softmax pools to y = Σ p_i x_i with p = softmax(``gain``·x), without the padding
    (Laborieux & Zenke 2022). In place of winners it has the slopes ∂y/∂x_i, for each tap of its
    kernel as one more sample: (B·kh·kw, C, H', W').
    """

    kind: Annotated[
        PoolKind, Field(description="the largest value of a window, the mean, or a weighted mean")
    ]
    kernel: Annotated[Sizes, Field(description="edge of a window in dyads, or [height, width]")] = (
        2,
        2,
    )
    stride: Annotated[
        Sizes, Written(OnePerAxis | None), Field(description="as kernel; default: the kernel")
    ] = _KERNEL
    padding: Annotated[
        Margins, Field(description="zeros on each side, or [vertical, horizontal]")
    ] = (0, 0)
    winners: Annotated[
        Winners, Field(description="by which states below the winners are chosen")
    ] = "mean"
    gain: Annotated[Positive, Field(description="of softmax: how steep it is")] = 1.0

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        super().__post_init__()
        if self.kind != "max" and self.winners != "mean":
            raise NetworkError(
                f"winners is {self.winners!r}, but a pooling of kind {self.kind!r} has no winners: "
                "leave it out, or pool by max"
            )
        if self.kind != "softmax" and self.gain != 1:
            raise NetworkError(
                f"gain is {self.gain}, but a pooling of kind {self.kind!r} has none: leave it out, "
                "or pool by softmax"
            )

    @classmethod
    def of(cls, choice: Pool | PoolKind | None) -> Any:
        """Returns a pooling as it is, or that of a kind with the defaults."""
        return cls(choice) if isinstance(choice, str) else choice

    @property
    def slopes(self) -> int:
        """How many it keeps for the way back of one pooled value; 0 where that is the winner."""
        return prod(self.kernel) if self.kind == "softmax" else 0

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
        if self.kind == "softmax":
            windows = self.windows(array.shape[1:])
            taps = windows.covered(np.arange(prod(windows.output)))
            pooled, slopes = self.some_forward(array.flatten(2), taps, taps)
            assert slopes is not None
            return _on_planes(pooled, windows.output), _on_planes(slopes, windows.output)
        array = for_library(array)
        sizes = self.kernel, self.stride, self.padding
        if self.kind == "avg":
            return F.avg_pool2d(array, *sizes), None
        wide = array.shape[1] >= WIDE and array.numel() >= MANY
        if array.is_cpu and wide and not array.requires_grad:
            array = array.contiguous(memory_format=torch.channels_last)
        pooled, winners = F.max_pool2d(array, *sizes, return_indices=True)
        return pooled.contiguous(), winners.contiguous()

    def adjoint(self, array: Tensor, shape: Shape, winners: Maybe) -> Tensor:
        """Sends (B, C, H', W') back to (B, C, H, W) of a ``shape``: to the winners, or evenly."""
        if self.kind == "softmax":
            everywhere = np.arange(prod(shape[1:]))
            return _on_planes(self.some_adjoint(array, shape, winners, everywhere), shape[1:])
        array = for_library(array)
        like = blank((*array.shape[:2], *shape[1:]), array)
        sizes = self.kernel, self.stride, self.padding
        back: Tensor
        if self.kind == "avg":
            back = torch.ops.aten.avg_pool2d_backward(array, like, *sizes, False, True, None)
        else:
            assert winners is not None
            back = torch.ops.aten.max_pool2d_with_indices_backward(
                array, like, *sizes, (1, 1), False, winners
            )
        return back

    def gathers(self, positions: int, shape: Shape) -> bool:
        """Says if it pays to look up so many positions of (C, H, W)."""
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
        if self.kind == "softmax":
            return _pool_softly(at(known, where), self.gain, outside)
        # torch's own pooling, so that ties are decided as it does.
        best, won = F.max_pool2d(at(known, where), (1, taps.shape[1]), return_indices=True)
        positions = upload(taps.reshape(-1), known.device)
        return best.squeeze(-1), positions[won.squeeze(-1)]

    def some_adjoint(self, array: Tensor, shape: Shape, winners: Maybe, positions: Ints) -> Tensor:
        """`adjoint` at n positions of the plane: (B, C, n)."""
        holders = self.windows(shape).covering(positions)
        if self.kind == "softmax":
            assert winners is not None
            return _spread_softly(array, winners, holders)
        holders = packed(holders)
        back = at(array.flatten(2), holders)
        if self.kind == "avg":
            return back.sum(-1) / prod(self.kernel)
        assert winners is not None
        lost = at(winners.flatten(2), holders) != upload(positions, array.device)[:, None]
        return back.masked_fill_(lost, 0).sum(-1)


def _on_planes(values: Tensor, plane: Shape) -> Tensor:
    """(B, C, P) → (B, C, H, W)."""
    return values.reshape(*values.shape[:2], *plane)


def _pool_softly(seen: Tensor, gain: float, outside: npt.NDArray[np.bool_]) -> Basal:
    """(B, C, n, t) → y = Σ p x (B, C, n) and ∂y/∂x = p (1 + gain (x − y)), (B·t, C, n)."""
    top = seen.detach().real.amax(-1, keepdim=True)  # so that nothing overflows
    shares = (gain * (seen - top)).exp()
    if outside.any():
        shares = shares.masked_fill(upload(outside, seen.device), 0)
    shares = shares / shares.sum(-1, keepdim=True)
    pooled = (shares * seen).sum(-1)
    slopes = shares * (1 + gain * (seen - pooled[..., None]))
    return pooled, slopes.movedim(-1, 1).flatten(0, 1)


def _spread_softly(array: Tensor, slopes: Tensor, holders: Ints) -> Tensor:
    """(B, C, H', W') and slopes → (B, C, n): of each window what its slope at this tap passes."""
    size, taps = prod(array.shape[2:]), holders.shape[1]
    index = packed(np.where(holders == NOWHERE, NOWHERE, holders + size * np.arange(taps)))
    back = at(array.flatten(2), np.where(index == NOWHERE, NOWHERE, index % size))
    by_tap = slopes.reshape(-1, taps, len(slopes[0]), size).movedim(1, 2).flatten(2)  # (B, C, t·n)
    return (back * at(by_tap, index)).sum(-1).to(array.dtype)


PoolChoice = PoolKind | Pool
