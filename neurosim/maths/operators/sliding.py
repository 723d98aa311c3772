"""Windows that slide over a plane: which positions they cover, which of them cover a position, and
pooling.

This is what computes some positions of a convolution or a pooling instead of all of them: indices
of what is needed are made on the host, and one gather brings the values together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import BeforeValidator, Field
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Described, Written
from neurosim.maths.operators.base import MAX_DYADS, POOL_GATHER_COST, Basal, Maybe, gather_pays
from neurosim.tensors import (
    Ints,
    Pair,
    Shape,
    as_stored,
    blank,
    for_library,
    lies_by_position,
    positions_of,
    unwritten,
    upload,
)

NOWHERE = -1  # in place of a position: in the padding, or in no window
# A matrix product with fewer columns than this is worth a copy that merges those of the batch.
MERGED_BELOW = 32
FEW_CHANNELS = 8

# From so many channels on torch's max-pooling on the CPU is faster with the channels last, although
# what is pooled has to be reordered before and after; gradients would stay reordered.
WIDE = 8

PoolKind = Literal["max", "avg"]
Winners = Literal["mean", "plus"]
_KERNEL: Any = None  # a stride that is the kernel

Size = Annotated[int, Field(ge=1, le=MAX_DYADS)]
Margin = Annotated[int, Field(ge=0, le=1_000_000)]
OnePerAxis = Size | Annotated[list[Size], Field(min_length=2, max_length=2)]
MarginPerAxis = Margin | Annotated[list[Margin], Field(min_length=2, max_length=2)]


def both(value: Any) -> Any:
    """Returns one number for height and width as a pair, and anything else as it is."""
    return (value, value) if isinstance(value, int) else value


# What a document or a call says as one number or two.
Sizes = Annotated[tuple[Size, Size], BeforeValidator(both), Written(OnePerAxis)]
Margins = Annotated[tuple[Margin, Margin], BeforeValidator(both), Written(MarginPerAxis)]
KernelSizes = Annotated[Sizes, Field(description="edge of the kernel, or [height, width]")]
Strides = Annotated[Sizes, Field(description="its step, or [vertical, horizontal]")]


class Sliding:
    """What has a ``kernel``, a ``stride`` and a ``padding`` (zeros), each (height, width)."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def windows(self, shape: Shape) -> Windows:
        """Returns the windows over the plane of an array (C, H, W)."""
        return Windows((shape[1], shape[2]), self.kernel, self.stride, self.padding)

    def plane(self, shape: Shape, what: str) -> Pair:
        """Returns how many windows (C, H, W) has, (H', W').

        Raises:
            NetworkError: where it has none.
        """
        if len(shape) != 3:
            raise NetworkError(f"{what} needs an input of shape [C, H, W], not {list(shape)}")
        output = self.windows(shape).output
        if min(output) < 1:
            raise NetworkError(
                f"{what} kernel {list(self.kernel)} does not fit the input {list(shape)} with "
                f"padding {list(self.padding)}"
            )
        return output

    def gather(self, reach: Tensor) -> Tensor:
        """Returns the sums over windows of (C, H, W): how much of each window is set."""
        kernel = reach.new_ones(1, 1, *self.kernel)
        return F.conv2d(reach[:, None], kernel, None, self.stride, self.padding)[:, 0]

    def spread(self, reach: Tensor, shape: Shape) -> Tensor:
        """The transpose of `gather`: (C, H', W') to (C, H, W)."""
        ones = reach.new_ones(1, 1, *self.kernel)
        size = (len(reach), 1, *shape[1:])
        return self.input_gradient(size, ones, reach[:, None])[:, 0]

    def input_gradient(self, size: Shape, weight: Tensor, output: Tensor) -> Tensor:
        """The adjoint of a convolution: from (B, C', H', W') to ``size`` = (B, C, H, W)."""
        output = for_library(output)
        return self._backward(output, blank(size, output), weight, of_input=True)

    def kernel_gradient(self, values: Tensor, size: Shape, output: Tensor) -> Tensor:
        """The gradient of a kernel of this ``size``, from what it sees and that of its output."""
        return self._backward(output, values, unwritten(size, values), of_input=False)

    def _backward(
        self, output: Tensor, values: Tensor, weight: Tensor, *, of_input: bool
    ) -> Tensor:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            *(output, values, weight, None, self.stride, self.padding, (1, 1), False, (0, 0), 1),
            (of_input, not of_input, False),
        )
        return found[0 if of_input else 1]


@dataclass(frozen=True)
class Windows:
    """Windows over a ``plane`` (H, W) of positions, numbered row by row like the windows' outputs
    (H', W'); sizes are (height, width).
    """

    plane: Pair
    kernel: Pair
    stride: Pair
    padding: Pair

    @property
    def output(self) -> Pair:
        """(H', W'), which is below 1 where the kernel does not fit."""
        height, width = ((size + 2 * p - k) // s + 1 for size, k, s, p in self._axes(*self.plane))
        return height, width

    def covered(self, windows: Ints) -> Ints:
        """(windows, kh·kw): the position under each tap, NOWHERE in the padding."""
        axes = self._axes(*np.divmod(windows, self.output[1]))
        y, x = (window[:, None] * s - p + np.arange(k) for window, k, s, p in axes)
        return _flat(y, x, self.plane)

    def covering(self, positions: Ints) -> Ints:
        """(positions, kh·kw): the window that has the position under each tap, or NOWHERE."""
        axes = self._axes(*np.divmod(positions, self.plane[1]))
        found = [np.divmod(at[:, None] + p - np.arange(k), s) for at, k, s, p in axes]
        y, x = (np.where(rest == 0, window, NOWHERE) for window, rest in found)
        return _flat(y, x, self.output)

    def _axes(self, high: Any, wide: Any) -> Iterable[tuple[Any, int, int, int]]:
        """Something of height and width, with kernel, stride and padding there."""
        return zip((high, wide), self.kernel, self.stride, self.padding, strict=True)


def _flat(y: Ints, x: Ints, plane: Pair) -> Ints:
    """(n, kh) and (n, kw) as (n, kh·kw) flat positions; NOWHERE outside of the plane."""
    height, width = plane
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    flat: Ints = np.where(inside, y[:, :, None] * width + x[:, None, :], NOWHERE)
    return flat.reshape(len(y), -1)


def needed(index: Ints) -> tuple[Ints, Ints]:
    """The distinct positions in ``index``, ascending, and ``index`` into these; at least one."""
    distinct: Ints = np.unique(index)
    distinct = distinct[distinct != NOWHERE]
    if not len(distinct):
        distinct = np.zeros(1, dtype=np.int64)  # so that there is something to gather from
    return distinct, np.where(index == NOWHERE, NOWHERE, np.searchsorted(distinct, index))


def packed(index: Ints) -> Ints:
    """(n, t) with as few columns as its rows allow: what is NOWHERE comes last, and goes."""
    columns = max(1, int((index != NOWHERE).sum(1).max(initial=0)))
    descending: Ints = -np.sort(-index, axis=1)
    return descending[:, :columns]


def at(values: Tensor, index: Ints) -> Tensor:
    """(B, C, P) → (B, C, *index): the values there, zeros at NOWHERE."""
    flat = index.reshape(-1)
    found = positions_of(values, flat.clip(min=0))
    outside = np.flatnonzero(flat == NOWHERE)
    if len(outside):
        found.index_fill_(2, upload(outside, values.device), 0)
    return found.view(*values.shape[:2], *index.shape)


@dataclass(frozen=True)
class Pool(Sliding, Described):
    """Pooling of ``kind`` "max" or "avg" over windows; sizes are (height, width) in positions.

    ``stride`` defaults to the kernel, so that windows do not overlap. Through a max-pool
    differences go back to its ``winners`` among the means below, or among the states s⁺ (DP24's
    code).
    """

    kind: Annotated[PoolKind, Field(description="the largest value of a window, or the mean")]
    kernel: Annotated[Sizes, Field(description="edge of a window, or [height, width]")] = (2, 2)
    stride: Annotated[
        Sizes, Written(OnePerAxis | None), Field(description="as kernel; default: the kernel")
    ] = _KERNEL
    padding: Annotated[
        Margins, Field(description="zeros on each side, or [vertical, horizontal]")
    ] = (0, 0)
    winners: Annotated[Winners, Field(description="among which states below")] = "mean"

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        super().__post_init__()
        if self.kind != "max" and self.winners != "mean":
            raise NetworkError(
                f"winners is {self.winners!r}, but a pooling of kind {self.kind!r} has no winners: "
                "leave it out, or pool by max"
            )

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
        sizes = self.kernel, self.stride, self.padding
        if self.kind == "avg":
            return F.avg_pool2d(array, *sizes), None
        if array.is_cpu and array.shape[1] >= WIDE and not array.requires_grad:
            array = array.contiguous(memory_format=torch.channels_last)
        pooled, winners = F.max_pool2d(array, *sizes, return_indices=True)
        return pooled.contiguous(), winners.contiguous()

    def adjoint(self, array: Tensor, shape: Shape, winners: Maybe) -> Tensor:
        """Sends (B, C, H', W') back to (B, C, H, W) of a ``shape``: to the winners, or evenly."""
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
        lost = at(winners.flatten(2), holders) != upload(positions, array.device)[:, None]
        return back.masked_fill_(lost, 0).sum(-1)


PoolChoice = PoolKind | Pool


def correlate(weight: Tensor, values: Tensor, index: Ints) -> Tensor:
    """(C', C, kh, kw) and (B, C, P) → (B, C', n): a kernel at each row of the index (n, kh·kw)."""
    if lies_by_position(values):
        # In bfloat16 every sum of taps would be rounded, and not just the last.
        whole = values.dtype == torch.bfloat16
        return (_correlate_rows if whole else _correlate_taps)(weight, values, index)
    seen, flat = at(values, index.T).flatten(1, 2), weight.flatten(1)  # (B, C·t, n) and (C', C·t)
    if len(index) >= MERGED_BELOW:
        # Expanded here: torch would merge the batch on its own for a weight that needs gradients.
        return flat.expand(len(values), -1, -1) @ seen
    merged = seen.transpose(1, 2).flatten(0, 1) @ flat.T  # (B·n, C')
    return merged.view(len(values), len(index), -1).transpose(1, 2)


def _correlate_rows(weight: Tensor, values: Tensor, index: Ints) -> Tensor:
    """The same, one product of all that the kernels see, tap by tap."""
    seen = at(values, index).permute(2, 0, 3, 1)  # (n, B, t, C)
    found = seen.flatten(2) @ weight.flatten(2).transpose(1, 2).flatten(1).T
    return found.permute(1, 2, 0)


def _correlate_taps(weight: Tensor, values: Tensor, index: Ints) -> Tensor:
    """The same, a product for every tap: all that it sees is then gathered in large pieces, and
    used before it has left the processor's cache."""
    stored = as_stored(values)  # (P, B, C)
    taps = weight.flatten(2).movedim(-1, 0)  # (t, C', C)
    places = upload(index.T.clip(min=0), values.device)
    total = stored.new_zeros(len(index) * len(values), len(weight))
    for tap, place, outside in zip(taps, places, index.T == NOWHERE, strict=True):
        seen = stored.index_select(0, place)
        if outside.any():
            seen.index_fill_(0, upload(np.flatnonzero(outside), values.device), 0)
        total.addmm_(seen.flatten(0, 1), tap.T)
    return total.view(len(index), len(values), -1).movedim(0, -1)


def few_pay(weight: Tensor, values: Tensor) -> bool:
    """Says if `correlate_few` beats the library, whose kernels compute 16 channels at a time.

    It adds in the dtype of the values, which the library does not do in bfloat16.
    """
    channels, taps = len(weight), prod(weight.shape[2:])
    pays = channels <= FEW_CHANNELS and taps * channels <= weight.shape[1]
    return pays and values.is_cpu and values.dtype != torch.bfloat16


def correlate_few(
    weight: Tensor, values: Tensor, windows: Windows, *, kept: bool = False
) -> Tensor:
    """(C', C, kh, kw) and (B, C, H, W) → (B, C', H', W'), where windows move by one.

    All that a tap is multiplied by are whole planes, which are shifted when they are added. What is
    not to be ``kept`` may be a part of the array of all these.
    """
    flat = weight.permute(2, 3, 0, 1).flatten(0, 2)  # (t·C', C)
    products = flat.expand(len(values), -1, -1) @ values.flatten(2)
    planes = products.view(len(values), -1, len(weight), *windows.plane)
    parts = []
    for number, tap in enumerate(np.ndindex(*windows.kernel)):
        axes = zip(tap, windows.padding, windows.plane, windows.output, strict=True)
        (y, from_y), (x, from_x) = (_overlap(*axis) for axis in axes)
        parts.append(((y, x), planes[:, number, :, from_y, from_x]))
    everywhere = tuple(slice(0, size) for size in windows.output)
    begin = next((i for i, (where, _) in enumerate(parts) if where == everywhere), None)
    if begin is None:
        total = values.new_zeros(len(values), len(weight), *windows.output)
    else:
        total = parts.pop(begin)[1]
        total = total.contiguous() if kept else total
    for (y, x), part in parts:
        total[:, :, y, x] += part
    return total


def _overlap(tap: int, padding: int, size: int, output: int) -> tuple[slice, slice]:
    """Which windows of a row have this tap inside it, and where in the row that is."""
    first = max(0, padding - tap)
    last = max(first, min(output, size + padding - tap))
    shift = tap - padding
    return slice(first, last), slice(first + shift, last + shift)
