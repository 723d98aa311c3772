"""What has changed: against torch's own comparing and counting."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurosim.tensors import changes

SHAPES = [(1, 1), (3, 7), (100, 8), (300, 16), (2, 3, 4, 4), (260, 8, 2, 2), (5, 3, 5, 5)]


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("shape", SHAPES)
def test_as_torch_has_it(shape: tuple[int, ...]) -> None:
    new, old = drawn(shape, 0), drawn(shape, 1)
    for known in (old, None):
        mask = changes.unequal(new, known)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, new != (torch.zeros_like(new) if known is None else known))
        assert changes.count(mask) == mask.sum()
        by_dyad = changes.per_dyad(mask)
        assert by_dyad.dtype == torch.int64
        assert torch.equal(by_dyad, mask.sum(0))


@pytest.mark.parametrize("batch", [1, 254, 255, 256, 511, 1021])
def test_every_sample_is_counted(batch: int) -> None:
    mask = torch.ones(batch, 4, 2, dtype=torch.bool)
    assert torch.equal(changes.per_dyad(mask), torch.full((4, 2), batch))


def test_arrays_that_are_not_contiguous() -> None:
    new, old = drawn((6, 16), 0), drawn((16, 6), 1).T
    mask = changes.unequal(new, old)
    assert torch.equal(changes.per_dyad(mask.T), mask.sum(1))
    row = drawn((1, 16), 0).expand(6, -1)
    assert torch.equal(changes.unequal(row, new), row != new)


def test_zeros_infinities_and_nothing() -> None:
    values = torch.tensor([[0.0, -0.0], [math.nan, math.inf]])
    assert changes.unequal(values, None).tolist() == [[False, False], [True, True]]
    assert changes.unequal(values, values).tolist() == [[False, False], [True, False]]
    assert not changes.any_nonzero(values[:1])
    assert changes.any_nonzero(values)  # the first sample alone has none
    assert changes.any_nonzero(values.flip(0))
    assert changes.any_nonzero(torch.full((2, 2), 5e-324, dtype=torch.float64))
    assert not changes.any_nonzero(torch.zeros(3, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_elsewhere_answers_stay_tensors(dtype: torch.dtype) -> None:
    values = torch.zeros(4, 8, dtype=dtype, device="meta")
    mask = changes.unequal(values, values)
    found = (mask, changes.count(mask), changes.per_dyad(mask), changes.any_nonzero(values))
    assert all(isinstance(one, Tensor) and one.is_meta for one in found)
