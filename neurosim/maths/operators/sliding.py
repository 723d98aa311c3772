"""Windows that slide over a plane: which positions they cover, and which of them cover a position.

This is what computes some positions of a convolution or a pooling instead of all of them: indices
of what is needed are made on the host, and one gather brings the values together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import BeforeValidator, Field
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Written
from neurosim.maths.operators.base import MAX_DYADS
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
KernelSizes = Annotated[Sizes, Field(description="edge of the kernel in dyads, or [height, width]")]
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
