"""Windows over a plane, against convolution of the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given, settings, strategies as st

from neurosim.maths.operators.sliding import Windows, correlate, correlate_few
from neurosim.tensors.order import by_position

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


@pytest.mark.parametrize("order", [torch.clone, by_position])
def test_correlate_rounds_once(order: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """In bfloat16 too, where half a unit in the last place is 2⁻⁸."""
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(4, 64, 6, 6, generator=draws).bfloat16()
    weight = torch.randn(8, 64, 3, 3, generator=draws).bfloat16()
    expected = F.conv2d(values.double(), weight.double(), None, 1, 1).flatten(2)
    windows = Windows((6, 6), (3, 3), (1, 1), (1, 1))
    found = correlate(weight, order(values).flatten(2), windows.covered(np.arange(36)))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2.0**-8, atol=1e-4)


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
    for kept in (False, True):
        found = correlate_few(weight, values, windows, kept=kept)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
        if kept:
            assert found.untyped_storage().nbytes() == found.nbytes
