"""The readers of colour images against files that are as they should be, and against others."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cifar import (
    Bytes,
    cifar10,
    cifar100,
    imagenet32,
    pixels,
    rows,
    small_cifar10,
    small_cifar100,
    write_cifar10,
    write_cifar100,
    write_imagenet,
)

from neurosim.base.errors import DataError
from neurosim.data import CIFAR10, CIFAR100, ImageNet32
from neurosim.data import colour as cifar
from neurosim.data.dataset import Split
from neurosim.data.standardization import PerChannel, Standard


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official sizes are read once below; elsewhere files are small."""
    small_cifar10(monkeypatch)
    small_cifar100(monkeypatch)
    monkeypatch.setattr(cifar, "IMAGENET_IMAGES", {"train": 23, "val": 3})


def papers(source: type[CIFAR10 | CIFAR100 | ImageNet32]) -> Standard:
    standardize = source("").standardize
    assert isinstance(standardize, PerChannel)
    return Standard(standardize.mean, standardize.std)


def standardized(values: Bytes, standard: Standard) -> torch.Tensor:
    """One pixel after the other, in float64."""
    images = values.reshape(-1, 3, 32, 32) / 255.0
    mean, std = np.array(standard.mean), np.array(standard.std)
    return torch.from_numpy((images - mean[:, None, None]) / std[:, None, None])


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path: Path, inner: str) -> None:
    write_cifar10(tmp_path / inner)
    data = cifar10(tmp_path)
    assert (data.name, data.classes, data.shape) == ("cifar10", 10, (3, 32, 32))
    assert (len(data.train), len(data.test)) == (20, 4)
    assert data.train.images.dtype == torch.uint8  # a quarter of what numbers take
    assert data.train.labels.tolist() == [n for i in range(5) for n in (i, 9, 0, 5)]
    expected = standardized(np.concatenate([pixels(4, seed) for seed in range(5)]), papers(CIFAR10))
    taken = data.train.take(slice(None))
    assert taken.dtype == torch.float32
    torch.testing.assert_close(taken.double(), expected, rtol=1e-5, atol=1e-6)
    assert data.test.take(torch.tensor([2])).equal(data.test.take(slice(2, 3)))


def test_the_constants_of_the_papers() -> None:
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    for standard, expected in (
        (papers(CIFAR10), [2.51409, 2.59679, 2.75373]),
        (papers(CIFAR100), [2.44953, 2.58329, 2.76]),
        (papers(ImageNet32), [2.24891, 2.42857, 2.64]),
    ):
        assert standard.of(white).flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("inner", ["", "cifar-100-binary"])
def test_cifar100_has_fine_labels(tmp_path: Path, inner: str) -> None:
    write_cifar100(tmp_path / inner)
    data = cifar100(str(tmp_path))
    assert (data.classes, len(data.train), len(data.test)) == (100, 6, 5)
    assert data.train.labels.tolist() == [99, 0, 1, 2, 3, 50]
    assert data.train.images.flatten(1).numpy().tolist() == pixels(6).tolist()


def test_imagenet(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    data = imagenet32(tmp_path)
    assert (data.classes, len(data.train), len(data.test)) == (1000, 23, 3)
    assert data.test.labels.tolist() == [0, 999, 6]  # the files count from 1
    assert data.train.labels.tolist()[-6:] == [899] + [999] * 5
    expected = standardized(pixels(3), papers(ImageNet32))
    torch.testing.assert_close(data.test.take(slice(3)).double(), expected, rtol=1e-5, atol=1e-6)


def test_parts_of_bytes_stay_bytes(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    data = cifar10(tmp_path)
    flat = data.train.reshaped([3072])
    assert flat.shape == (3072,)
    assert flat.take(slice(2)).equal(data.train.take(slice(2)).flatten(1))
    train, held = data.validation(5)
    assert (len(train), len(held)) == (15, 5)
    assert torch.cat([train.images, held.images]).equal(data.train.images)
    assert data.limit(3, 2).test.images.dtype == torch.uint8
    with pytest.raises(DataError, match="3072 values"):
        data.train.reshaped([3071])
    for images in (torch.zeros(2, 3072, dtype=torch.uint8), torch.zeros(2, 3, 4, 4).int()):
        with pytest.raises(DataError, match=r"uint8 images \(N, C, H, W\)"):
            Split(images, torch.zeros(2, dtype=torch.int64), papers(CIFAR10))


# ---- what is refused ---------------------------------------------------------------------------

GOOD = rows([0, 1, 2, 3])


@pytest.mark.parametrize("name", ["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "put CIFAR-10's binary files there, or give the folder that has them"),
        (b"", "has 0 bytes, not the 12292 of 4 images; unpack the binary version"),
        (GOOD[:-1], "has 12291 bytes"),
        (GOOD + b"12", "has 12294 bytes"),
        (rows([0, 1, 10, 3]), "label 10 at index 2"),
        (pickle.dumps({b"data": [1]}), "bytes, not the 12292"),
    ],
)
def test_malformed_cifar10(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    write_cifar10(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        cifar10(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert name in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("coarse", "fine", "said"), [(20, 0, "label 20 at index 3"), (0, 100, "label 100 at index 3")]
)
def test_labels_of_cifar100(tmp_path: Path, coarse: int, fine: int, said: str) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "test.bin").write_bytes(rows([0, 0, 0, coarse, 0], [0, 0, 0, fine, 0]))
    with pytest.raises(DataError, match=rf"test\.bin: {said}"):
        cifar100(tmp_path)


@pytest.mark.parametrize("read", [cifar10, cifar100, imagenet32])
def test_no_folder(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(DataError, match=r"absent: no such folder; give the one that has "):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match=r": no .* put .* there, or give the folder"):
        read(tmp_path)


OBJECTS = np.array([{}, [], None], dtype=object)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": np.array([0, 1, 2])}, "labels 0 … 2, not in 1 … 1000"),
        ({"labels": np.array([1, 1001, 2])}, "labels 1 … 1001"),
        ({"labels": np.array([1.0, 2.0, 3.0])}, "'labels' is float64"),
        ({"labels": np.zeros(10**6, np.uint8)}, "uint8 (1000000,), not whole numbers (n,), n ≤ 23"),
        ({"labels": OBJECTS}, "array 'labels': holds object, not numbers or words, and nothing"),
        ({"data": OBJECTS}, "array 'data': holds object, not numbers or words, and nothing is"),
        ({"data": pixels(3)[:, :-1]}, "'data' is uint8 (3, 3071), not uint8 (3, 3072)"),
        ({"data": pixels(3) / 255}, "'data' is float64"),
        ({"data": pixels(2)}, "'data' is uint8 (2, 3072)"),
    ],
)
def test_malformed_imagenet(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    write_imagenet(tmp_path, **changed)
    with pytest.raises(DataError) as caught:
        imagenet32(tmp_path)
    assert said in str(caught.value)
    assert "val_data.npz" in str(caught.value)


def test_archives_that_are_none(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    path = tmp_path / "val_data.npz"
    content = path.read_bytes()
    array = io.BytesIO()
    np.save(array, pixels(3))
    damaged = bytearray(content)
    damaged[3000] ^= 1  # a pixel: only the checksum knows
    for wrong in (b"", b"<html>", content[:-100], array.getvalue(), bytes(damaged)):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"val_data\.npz: not an intact file of arrays"):
            imagenet32(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.txt", "1 2 3")
    with pytest.raises(DataError, match=r"val_data\.npz: unknown array 'labels'"):
        imagenet32(tmp_path)


def test_too_few_images_of_imagenet(tmp_path: Path) -> None:
    write_imagenet(tmp_path, data=pixels(2), labels=np.array([1, 2]))
    with pytest.raises(DataError, match=r"2 images in val_data\.npz, .*not 3; download"):
        imagenet32(tmp_path)


def test_the_official_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    write_cifar10(tmp_path)
    with pytest.raises(DataError, match="12292 bytes, not the 30730000 of 10000 images"):
        cifar10(tmp_path)
    write_cifar100(tmp_path)
    with pytest.raises(DataError, match="18444 bytes, not the 153700000 of 50000 images"):
        cifar100(tmp_path)
    write_imagenet(tmp_path)
    with pytest.raises(DataError, match=r"23 images in .*, not 1281167"):
        imagenet32(tmp_path)
