"""SVHN: as MATLAB keeps it, and only the official files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from mirror import Mirror, mirrored
from scipy.io import loadmat

from neurosim.base import DataError
from neurosim.data import SVHN


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with mirrored(monkeypatch) as server:
        for name in ("train_32x32.mat", "test_32x32.mat"):
            (tmp_path / name).write_bytes(server.files[name])
        yield server


def test_the_images_and_the_labels(mirror: Mirror, tmp_path: Path) -> None:
    data = SVHN(root=str(tmp_path)).read(Path())
    for split, name in ((data.train, "train"), (data.test, "test")):
        known = loadmat(io.BytesIO(mirror.files[f"{name}_32x32.mat"]))
        x = split.take(slice(None)).numpy()
        assert x.shape == (len(split), 3, 32, 32)
        for n, channel, row, column in np.ndindex(len(split), 3, 32, 32):
            pixel = known["X"][row, column, channel, n]
            assert x[n, channel, row, column] == np.float32(pixel / 255)
    assert data.train.labels.tolist() == [5, 6, 7, 8, 9, 0]  # MATLAB's 10 is the digit 0


@pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: old[:-1] + b"?"])
def test_another_file_is_refused(mirror: Mirror, tmp_path: Path, damage) -> None:
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(damage(mirror.files[path.name]))
    with pytest.raises(DataError, match=r"test_32x32.mat: is not the official file, .* SHA-256"):
        SVHN(root=str(tmp_path)).read(Path())


def test_without_scipy(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"needs scipy.*pip install 'neurosim\[svhn\]'"):
        SVHN(root=str(tmp_path)).read(Path())


def test_a_folder_without_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train_32x32.mat, test_32x32.mat; .*download svhn"):
        SVHN(root=str(tmp_path)).read(Path())
