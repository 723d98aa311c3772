"""What a newcomer has: the programs of an installed wheel, an empty folder, data of their own."""

from __future__ import annotations

import csv
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wheels import Newcomer, install, programs

from neurosim.base import owned


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, made once for all processes of the tests."""
    for needed in ("pip", "setuptools"):
        if find_spec(needed) is None:  # to import setuptools would change distutils for other tests
            pytest.skip(f"{needed} is not installed")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with owned(folder, patience=300):
        if not (done := folder / "done").exists():
            install(folder)
            done.touch()
    return programs(folder)


@pytest.fixture
def newcomer(wheel: Path, tmp_path: Path) -> Newcomer:
    """Somebody in an empty folder."""
    return Newcomer(tmp_path, wheel)


@pytest.fixture
def researcher(newcomer: Newcomer) -> Newcomer:
    """Somebody who has arrays, a table and photos of two classes."""
    draws, labels, folder = np.random.default_rng(0), np.arange(80) % 2, newcomer.folder
    points = (draws.normal(size=(80, 4)) * 0.3 + labels[:, None]).astype(np.float32)
    np.savez(folder / "points.npz", x=points, y=labels)
    with (folder / "points.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "c", "d", "species"])
        rows.writerows(
            [*x, ("owl", "fox")[y]] for x, y in zip(points.tolist(), labels, strict=True)
        )
    for number, label in enumerate(labels):
        place = folder / "photos" / ("dark", "light")[label]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(100 * label, 100 * label + 100, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return newcomer
