"""Data of one's own: an epoch, reading included, against the built-in reader of the same images."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from neurosim.base import stream
from neurosim.bench.timing import Benchmark, Result, Sizes, ratio
from neurosim.data import DataSource, TorchData
from neurosim.learning import Trainer
from neurosim.network import Model, Network
from neurosim.schedules import Sweep
from neurosim.simulation import Simulation

NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
OPTIONS: dict[str, Any] = {"classes": 10, "split": "ordered"}


def _arrays(images: int) -> list[Any]:
    """Images of 28×28 bytes and their labels, and a tenth as many for the test."""
    draws = stream(0, "bench")
    numbers = (images, images // 10 + 1)
    pairs = [(draws.integers(0, 256, (n, 28, 28)), np.arange(n) % 10) for n in numbers]
    return [array.astype(np.uint8) for pair in pairs for array in pair]


def _idx(folder: Path, arrays: list[Any]) -> None:
    folder.mkdir()
    for name, array in zip(NAMES, arrays, strict=True):
        head = np.array([0x800 + array.ndim, *array.shape], ">u4")
        (folder / f"{name}-ubyte").write_bytes(head.tobytes() + array.tobytes())


def _npz(folder: Path, arrays: list[Any]) -> DataSource:
    np.savez(folder / "own.npz", **dict(zip(NAMES, arrays, strict=True)))
    x, y, test_x, test_y = NAMES
    return DataSource.of("npz", file="own.npz", x=x, y=y, test_x=test_x, test_y=test_y, **OPTIONS)


def _own_idx(folder: Path, arrays: list[Any]) -> DataSource:
    del folder, arrays  # the files are there
    x, y, test_x, test_y = (f"fashion-mnist/{name}-ubyte" for name in NAMES)
    return DataSource.of("idx", x=x, y=y, test_x=test_x, test_y=test_y, **OPTIONS)


def _images(folder: Path, arrays: list[Any]) -> DataSource:
    parts: Any = (("train", *arrays[:2]), ("test", *arrays[2:]))
    for part, images, labels in parts:
        for label in range(10):
            (folder / part / str(label)).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(folder / part / str(label) / f"{number}.png")
    return DataSource.of("images", root="train", test="test", color="grey", split="ordered")


def _loader(folder: Path, arrays: list[Any]) -> DataSource:
    del folder
    x, y, test_x, test_y = map(torch.from_numpy, arrays)
    pairs = [TensorDataset(a[:, None], b) for a, b in ((x, y), (test_x, test_y))]
    return TorchData(DataLoader(pairs[0]), test_data=pairs[1], **OPTIONS)


def _epoch(source: DataSource, folder: Path) -> None:
    data = source.read(folder)
    network = Network.from_dict({"input": [1, 28, 28], "layers": [{"dense": 100}, {"dense": 10}]})
    simulation = Simulation(Model(network), schedule=Sweep("backward"), init="feedforward")
    Trainer(simulation, "sgd", data.train, data.test, epochs=1, batch_size=100).fit(progress=False)


def _over_built_in(make: Callable[[Path, list[Any]], DataSource], said: str, at: Sizes) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder, arrays = Path(name), _arrays(at.samples)
        _idx(folder / "fashion-mnist", arrays)
        sources = make(folder, arrays), DataSource.of("fashion_mnist", root=".")
        ours, other = (partial(_epoch, source, folder) for source in sources)
        return ratio(ours, other, min(at.repeats, 3), said, "the reader of Fashion-MNIST")


_KINDS = {
    "npz": (_npz, "at most 1.2"),
    "idx": (_own_idx, "at most 1.2"),
    "images": (_images, "no target"),
    "loader": (_loader, "no target"),
}
READING = [
    Benchmark(
        f"epoch_from_{kind}_over_built_in",
        f"an epoch of 784-100-10, reading by {kind} included",
        partial(_over_built_in, make, said),
    )
    for kind, (make, said) in _KINDS.items()
]
