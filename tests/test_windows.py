"""Windows over a plane, against convolution of the whole."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurosim.storage import by_position
from neurosim.windows import Windows, correlate, correlate_few

sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)


@settings(max_examples=150)
@given(st.data())
def test_correlate(data: st.DataObject) -> None:
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
    for order in (torch.clone, by_position):
        found = correlate(weight, order(values).flatten(2), windows.covered(positions))
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@settings(max_examples=150)
@given(plane=pairs, kernel=pairs, padding=pairs, seed=st.integers(0, 9))
def test_few_channels(
    plane: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int], seed: int
) -> None:
    """Paddings may exceed kernels, and kernels the plane."""
    windows = Windows(plane, kernel, (1, 1), padding)
    assume(min(windows.output) > 0)
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 3, *plane, dtype=torch.float64, generator=draws)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64, generator=draws)
    expected = F.conv2d(values, weight, None, 1, padding)
    found = correlate_few(weight, values, windows)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
