"""IDX files as people have them: packed whatever their names, or where torchvision puts them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from test_datasets import IMAGES, mnist, write_mnist

from neurosim.base.errors import DataError
from neurosim.data.formats import read_idx


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_content_says_if_it_is_packed(tmp_path: Path, name: str, packed: bool) -> None:
    """Browsers and servers pack and unpack files, and keep their names."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(IMAGES, mtime=0) if packed else IMAGES)
    assert read_idx(path, 3).tobytes() == IMAGES[16:]


@pytest.mark.parametrize(("root", "inside"), [("", "MNIST/raw"), ("MNIST", "raw")])
def test_the_folder_of_torchvision(tmp_path: Path, root: str, inside: str) -> None:
    folder = tmp_path / root
    (folder / inside).mkdir(parents=True)
    write_mnist(folder / inside)
    assert len(mnist(folder).train) > 0
    (folder / inside / "SHA256SUMS").write_text(f"{'0' * 64}  SHA256SUMS\n")  # written twice
    assert len(mnist(folder).train) > 0
    (folder / inside / "SHA256SUMS").write_text(f"{'0' * 64}  train-images-idx3-ubyte\n")
    with pytest.raises(DataError, match="is damaged"):
        mnist(folder)
