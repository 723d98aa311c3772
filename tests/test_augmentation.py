"""Shift, cutout, noise and lists of augmentations, against loops over pixels and the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neurosim.base.errors import ConfigurationError, DataError
from neurosim.base.random import stream
from neurosim.data.augmentation import (
    Augmentation,
    Crop,
    CropFlip,
    Cutout,
    Flip,
    InTurn,
    Noise,
    Shift,
)
from neurosim.data.batches import Batches
from neurosim.data.dataset import Split
from neurosim.data.standardization import Standard

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (40, 2, 5, 7), np.uint8))


def draws() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("padding", ["black", "edge"])
def test_shift(padding: Any) -> None:
    found, generator = Shift(1, 3, padding)(IMAGES, draws()), draws()
    rows, columns = generator.integers(-1, 2, 40), generator.integers(-3, 4, 40)
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        for y in range(5):
            for x in range(7):
                inside = 0 <= y + row < 5 and 0 <= x + column < 7
                there = IMAGES[n, :, min(max(y + row, 0), 4), min(max(x + column, 0), 6)]
                expected = there if inside or padding == "edge" else torch.zeros(2)
                assert torch.equal(found[n, :, y, x], expected.to(torch.uint8))
    assert set(rows) == {-1, 0, 1}
    assert set(columns) == set(range(-3, 4))
    with pytest.raises(DataError, match="columns is 7; images of 5×7 pixels can be reflected by 6"):
        Shift(1, 7, "reflect").check((2, 5, 7))
    with pytest.raises(DataError, match="rows is 5; images of 5×7 pixels can be moved by 4 at"):
        Shift(5, 2, padding).check((2, 5, 7))


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout(size: int) -> None:
    found, generator = Cutout(size)(IMAGES, draws()), draws()
    centers = zip(generator.integers(0, 5, 40), generator.integers(0, 7, 40), strict=True)
    for n, (row, column) in enumerate(centers):
        expected = IMAGES[n].clone()
        top, left = row - size // 2, column - size // 2
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(found[n], expected)


def test_noise_is_of_the_precision_of_the_numbers() -> None:
    for dtype in (torch.float32, torch.float64):
        numbers = IMAGES.to(dtype)
        expected = numbers + 0.3 * torch.from_numpy(draws().normal(size=IMAGES.shape)).to(dtype)
        assert torch.equal(Noise(0.3)(numbers, draws()), expected)


def test_a_list_is_one_after_the_other() -> None:
    standard = Standard((0.5, 0.2), 0.25)
    split = Split(IMAGES, torch.arange(40), standard)
    how = Augmentation.of(["flip", Crop(1), Cutout(2, "zero"), Noise(0.1)])
    batches = Batches(split, 40, stream(0, "b"), augmentation=how, draws=draws())
    found, labels = batches.next()
    generator = draws()
    expected = Crop(1)(Flip()(IMAGES[labels], generator), generator)
    expected = Cutout(2)(standard.of(expected), generator)
    assert torch.equal(found, Noise(0.1)(expected, generator))
    alike = InTurn(("crop", "flip"))  # type: ignore[arg-type]
    assert torch.equal(alike(IMAGES, draws()), CropFlip()(IMAGES, draws()))
    with pytest.raises(ConfigurationError, match="flip before that; put flip first"):
        Augmentation.of([Noise(), Flip()])


def test_a_remainder_that_is_kept() -> None:
    split = Split(torch.arange(7.0).view(7, 1), torch.arange(7))
    batches = Batches(split, 3, stream(0, "b"), remainder="keep")
    assert len(batches) == 3
    for _ in range(2):
        parts = [batches.next()[1] for _ in range(3)]
        assert [len(part) for part in parts] == [3, 3, 1]
        assert torch.cat(parts).sort().values.tolist() == list(range(7))
    with pytest.raises(ValueError, match="saved batches are cut short at the end, these are not"):
        Batches(split, 3, stream(0, "b")).load_state_dict(batches.state_dict())
