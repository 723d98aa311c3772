"""Small files in the form of the official ones of colour images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurosim.data import CIFAR10, CIFAR100, Dataset, ImageNet32

Bytes = npt.NDArray[np.uint8]

TRAIN, TEST = [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"


def pixels(count: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def rows(*labels: list[int], seed: int = 0) -> bytes:
    """Binary rows: the label bytes, then the pixels."""
    values = np.array(labels, np.uint8).T
    return np.concatenate([values, pixels(len(values), seed)], axis=1).tobytes()


def write_cifar10(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([*TRAIN, TEST]):
        (folder / name).write_bytes(rows([number, 9, 0, 5], seed=number))


def write_cifar100(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.bin").write_bytes(rows([19, 0, 1, 2, 3, 4], [99, 0, 1, 2, 3, 50]))
    (folder / "test.bin").write_bytes(rows([0] * 5, [7] * 5, seed=1))


def write_imagenet(folder: Path, **changed: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 11):
        count = 2 if number < 10 else 5
        labels = np.full(count, 100 * number)
        np.savez(folder / f"train_data_batch_{number}.npz", data=pixels(count), labels=labels)
    content = {"data": pixels(3), "labels": np.array([1, 1000, 7]), "mean": np.zeros(3072)}
    np.savez(folder / "val_data.npz", **(content | changed))  # type: ignore[arg-type]


def cifar10(root: Path | str) -> Dataset:
    return CIFAR10(str(root)).read(Path())


def cifar100(root: Path | str) -> Dataset:
    return CIFAR100(str(root)).read(Path())


def imagenet32(root: Path | str) -> Dataset:
    return ImageNet32(str(root)).read(Path())


def small_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file has 4 images."""
    (remote,) = CIFAR10.remotes
    members = tuple((name, 4 * 3073) for name, _ in remote.members)
    monkeypatch.setattr(CIFAR10, "remotes", (replace(remote, members=members),))


def small_cifar100(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 images for training, 5 for the test."""
    (remote,) = CIFAR100.remotes
    sizes = zip(remote.members, (6 * 3074, 5 * 3074), strict=True)
    members = tuple((name, size) for (name, _), size in sizes)
    monkeypatch.setattr(CIFAR100, "remotes", (replace(remote, members=members),))
