"""Windows over a plane, against convolution of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.windows import EDGES, Windows, correlate, correlate_at

sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)


@settings(max_examples=150)
@given(st.data())
def test_the_same_for_every_edge(data: st.DataObject) -> None:
    plane = data.draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    windows = Windows(plane, data.draw(pairs), data.draw(pairs), padding)
    height, width = windows.output
    some = data.draw(st.sets(st.integers(0, height * width - 1), min_size=1))
    positions = np.array(sorted(some), dtype=np.int64)
    draws = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    values = torch.randn(2, 3, *plane, dtype=torch.float64, generator=draws)
    weight = torch.randn(4, 3, *windows.kernel, dtype=torch.float64, generator=draws)
    whole = F.conv2d(values, weight, None, windows.stride, padding)
    expected = whole.flatten(2)[:, :, torch.from_numpy(positions)]
    for edge in EDGES:
        found = correlate(weight, values.flatten(2), windows, positions, edge)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    found = correlate_at(weight, values.flatten(2), windows.covered(positions))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_squares_count_row_by_row() -> None:
    windows = Windows((6, 5), (3, 3), (1, 1), (1, 1))
    squares, places = windows.squares(np.array([0, 6, 24, 29]), 2)  # (0,0) (1,1) (4,4) (5,4)
    assert squares.tolist() == [0, 8]  # three squares in a row, the last one wider than the plane
    assert places.tolist() == [0, 3, 4, 6]
    assert windows.patch(2) == (4, 4)
    assert windows.under(squares, 2)[0].tolist() == [
        *(-1, -1, -1, -1),
        *(-1, 0, 1, 2),
        *(-1, 5, 6, 7),
        *(-1, 10, 11, 12),
    ]


@pytest.mark.parametrize(
    ("positions", "edge"),
    [
        ([0], 1),
        (list(range(0, 64, 9)), 1),  # far apart: a square of them would be mostly unasked for
        ([0, 1, 8, 9], 2),
        ([y * 8 + x for y in range(4) for x in range(4, 8)], 4),
        (list(range(64)), 8),
    ],
)
def test_the_cheapest_edge_fits_what_is_asked_for(positions: list[int], edge: int) -> None:
    windows = Windows((8, 8), (3, 3), (1, 1), (1, 1))
    assert windows.cheapest_edge(np.array(positions), 64, 64) == edge
