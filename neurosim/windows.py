"""Windows that slide over a plane: which positions they cover, and which of them cover a position.

This is what computes some positions of a convolution or a pooling instead of all of them: indices
of what is needed are made on the host, and one gather brings the values together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.devices import upload

Pair = tuple[int, int]
Ints = npt.NDArray[np.int64]

NOWHERE = -1  # in place of a position: in the padding, or in no window
# A matrix product with fewer columns than this is worth a copy that merges those of the batch.
MERGED_BELOW = 32
EDGES = 1, 2, 4, 8  # of squares of windows


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
        height, width = (
            (size + 2 * p - k) // s + 1
            for size, k, s, p in zip(
                self.plane, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return height, width

    def covered(self, windows: Ints) -> Ints:
        """(windows, kh·kw): the position under each tap, NOWHERE in the padding."""
        rows, columns = np.divmod(windows, self.output[1])
        y = rows[:, None] * self.stride[0] - self.padding[0] + np.arange(self.kernel[0])
        x = columns[:, None] * self.stride[1] - self.padding[1] + np.arange(self.kernel[1])
        return _flat(y, x, self.plane)

    def patch(self, edge: int) -> Pair:
        """What a square of edge × edge windows covers."""
        height, width = ((edge - 1) * s + k for s, k in zip(self.stride, self.kernel, strict=True))
        return height, width

    def squares(self, positions: Ints, edge: int) -> tuple[Ints, Ints]:
        """The squares of edge × edge windows, numbered row by row, that hold any of these windows;
        and where in the squares, one after the other, these are."""
        rows, columns = np.divmod(positions, self.output[1])
        across = -(-self.output[1] // edge)
        square = rows // edge * across + columns // edge
        squares: Ints = np.flatnonzero(np.bincount(square))
        within = rows % edge * edge + columns % edge
        return squares, np.searchsorted(squares, square) * edge * edge + within

    def under(self, squares: Ints, edge: int) -> Ints:
        """(squares, patch): the positions that each square of windows covers, or NOWHERE."""
        corner = np.divmod(squares, -(-self.output[1] // edge))
        y, x = (
            at[:, None] * edge * s - p + np.arange(size)
            for at, s, p, size in zip(
                corner, self.stride, self.padding, self.patch(edge), strict=True
            )
        )
        return _flat(y, x, self.plane)

    def cheapest_edge(self, positions: Ints, uses: int, cost: int) -> int:
        """The edge of squares with which `correlate` costs least, if copying a value costs ``cost``
        multiply-adds and each copied value takes part in ``uses`` for every window that sees it."""
        work = uses * prod(self.kernel)

        def total(edge: int) -> int:
            squares = len(self.squares(positions, edge)[0])
            return squares * (prod(self.patch(edge)) * cost + edge * edge * work)

        return min(EDGES, key=total)

    def covering(self, positions: Ints) -> Ints:
        """(positions, kh·kw): the window that has the position under each tap, or NOWHERE."""
        outputs: list[Ints] = []
        for at, size, k, s, p in zip(
            np.divmod(positions, self.plane[1]),
            self.output,
            self.kernel,
            self.stride,
            self.padding,
            strict=True,
        ):
            window, rest = np.divmod(at[:, None] + p - np.arange(k), s)
            outputs.append(np.where((rest == 0) & (window < size), window, NOWHERE))
        return _flat(outputs[0], outputs[1], self.output)


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
    inside = flat.clip(min=0)
    if values.is_cpu:  # numpy gathers along the last dimension several times as fast as torch
        # It has no bfloat16, but numbers are not looked at here.
        bits = values.view(torch.int16) if values.dtype == torch.bfloat16 else values
        found = torch.from_numpy(np.take(bits.numpy(), inside, axis=2)).view(values.dtype)
    else:
        found = values.index_select(2, upload(inside, values.device))
    outside = np.flatnonzero(flat == NOWHERE)
    if len(outside):
        found.index_fill_(2, upload(outside, values.device), 0)
    return found.view(*values.shape[:2], *index.shape)


def correlate(
    weight: Tensor, values: Tensor, windows: Windows, positions: Ints, edge: int
) -> Tensor:
    """(C', C, kh, kw) and (B, C, P) → (B, C', n): the kernel in n of the windows over P positions.

    What kernels see is copied window by window with an ``edge`` of 1, else once for every square of
    edge × edge windows that holds any of them (see `Windows.squares`).
    """
    if edge == 1:
        return correlate_at(weight, values, windows.covered(positions))
    squares, places = windows.squares(positions, edge)
    batch, channels = values.shape[:2]
    seen = at(values, windows.under(squares, edge)).transpose(1, 2)
    patches = seen.reshape(batch * len(squares), channels, *windows.patch(edge))
    found = F.conv2d(patches, weight, None, windows.stride)
    found = found.view(batch, len(squares), len(weight), edge * edge).transpose(1, 2).flatten(2)
    return found.index_select(2, upload(places, values.device))


def correlate_at(weight: Tensor, values: Tensor, index: Ints) -> Tensor:
    """(C', C, kh, kw) and (B, C, P) → (B, C', n): a kernel at each row of the index (n, kh·kw)."""
    seen, flat = at(values, index.T).flatten(1, 2), weight.flatten(1)  # (B, C·t, n) and (C', C·t)
    if len(index) >= MERGED_BELOW:
        # Expanded here: torch would merge the batch on its own for a weight that needs gradients.
        return flat.expand(len(values), -1, -1) @ seen
    merged = seen.transpose(1, 2).flatten(0, 1) @ flat.T  # (B·n, C')
    return merged.view(len(values), len(index), -1).transpose(1, 2)
