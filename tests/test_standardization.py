"""Which numbers the bytes of images become, against numpy in float64; data in the form of MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_datasets import write_mnist

from neurosim.base.errors import DataError
from neurosim.cli.main import main
from neurosim.data import KMNIST, FashionMNIST
from neurosim.data.augmentation import Crop
from neurosim.data.dataset import Split
from neurosim.data.formats import read_idx
from neurosim.data.mnist import MNIST
from neurosim.data.source import Digits
from neurosim.data.standardization import (
    MinMax,
    NoStandardization,
    PerChannel,
    PerPixel,
    Standardization,
    Symmetric,
)
from neurosim.scenario.scenario import Scenario

SCENARIO = """
name: tiny
network: {input: 784, layers: [{dense: 10}]}
data: {name: mnist, root: ., batch_size: 4}
schedule: {kind: sweep, order: backward}
training: {epochs: 1}
device: cpu
"""
# What each makes of values x in 0 … 1, where t are those of all training images.
EXPECTED: list[tuple[Standardization, Any]] = [
    (NoStandardization(), lambda x, t: x),
    (Symmetric(), lambda x, t: 2 * x - 1),
    (MinMax(), lambda x, t: (x - t.min()) / (t.max() - t.min())),
    (PerChannel(), lambda x, t: (x - _channel(t.mean)) / _channel(t.std)),
    (PerChannel((0.1, 0.2, 0.3)), lambda x, t: (x - _three(0.1, 0.2, 0.3)) / _channel(t.std)),
    (PerChannel(std=0.5), lambda x, t: (x - _channel(t.mean)) / 0.5),
    (PerChannel(0.1307, 0.3081), lambda x, t: (x - 0.1307) / 0.3081),
    (PerPixel(), lambda x, t: (x - t.mean(0)) / np.where(t.std(0) > 1e-9, t.std(0), 1)),
]


def _channel(moment: Any) -> Any:
    return moment((0, 2, 3))[:, None, None]


def _three(*values: float) -> Any:
    return np.array(values)[:, None, None]


@pytest.mark.parametrize("chunk", [7, 1000])
@pytest.mark.parametrize(("how", "expected"), EXPECTED, ids=lambda case: getattr(case, "kind", ""))
def test_the_numbers(
    how: Standardization, expected: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurosim.data.lazy.CHUNK", chunk)
    train, test = (
        np.random.default_rng(seed).integers(3, 240, (20, 3, 4, 5), np.uint8) for seed in (0, 1)
    )
    train[:, 1, 2, 3] = 77  # never differs, as a corner of MNIST
    found = how.fit(torch.from_numpy(train), 255).of(torch.from_numpy(test))
    assert found.dtype == torch.float32
    numbers = torch.from_numpy(np.asarray(expected(test / 255, train / 255)))
    torch.testing.assert_close(found.double(), numbers, rtol=1e-5, atol=2e-6)


def test_a_channel_too_many() -> None:
    with pytest.raises(DataError, match=r"gives std for 2 channels, the images have 1 channel"):
        Digits(standardize=PerChannel(std=(1.0, 2.0))).read(Path())


def test_grey_images_stay_bytes_where_something_is_done_to_them() -> None:
    plain = Digits().read(Path()).train
    assert plain.standard is None
    for options in ({"standardize": Symmetric()}, {"augment": Crop(1)}):
        data = Digits(**options).read(Path())  # type: ignore[arg-type]
        assert data.train.images.dtype == torch.uint8
        assert data.train.reshaped((64,)).take(slice(3)).shape == (3, 64)
    assert data.train.take(slice(None)).equal(plain.images)
    low, high = Digits(standardize=Symmetric()).read(Path()).test.bounds
    assert (low.unique().tolist(), high.unique().tolist()) == ([-1.0], [1.0])


def test_a_standard_of_another_shape() -> None:
    images = torch.zeros((2, 3, 4, 4), dtype=torch.uint8)
    standard = PerPixel().fit(images[:, :2], 255)
    with pytest.raises(DataError, match="of the shape that they are standardized for"):
        Split(images, torch.zeros(2, dtype=torch.int64), standard)


# ---- data in the form of MNIST -----------------------------------------------------------------


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, KMNIST])
def test_pads_and_folders(source: type[MNIST], tmp_path: Path) -> None:
    folder = tmp_path / source.inner
    folder.mkdir(exist_ok=True)
    write_mnist(folder)
    data = source(str(tmp_path), pad=2).read(Path())
    assert (data.name, data.shape, len(data.train)) == (source.kind, (1, 32, 32), 12)
    inner = data.test.images[:, 0, 2:30, 2:30]
    pixels = torch.tensor(read_idx(folder / "t10k-images-idx3-ubyte", 3))
    assert inner.equal(pixels.float() / 255)
    assert data.test.images.sum() == pytest.approx(float(inner.sum()))


@pytest.mark.parametrize("by", ["none", "symmetric", "pixel", PerChannel(), PerChannel(0.1, 0.3)])
def test_a_margin_of_zeros_after_standardization(by: Any, tmp_path: Path) -> None:
    """That of the same images without a margin, and zeros around them."""
    write_mnist(tmp_path)
    alone = MNIST(str(tmp_path), standardize=by).read(Path())
    found = MNIST(str(tmp_path), standardize=by, pad=2, padding="zero").read(Path())
    for one, padded in ((alone.train, found.train), (alone.test, found.test)):
        images = one.as_numbers().images
        assert padded.as_numbers().images.equal(torch.nn.functional.pad(images, [2] * 4))


@pytest.mark.parametrize("source", [FashionMNIST, KMNIST])
def test_mnist_is_not_read_for_another(source: type[MNIST], tmp_path: Path) -> None:
    write_mnist(tmp_path)
    folder = (tmp_path / source.inner).name
    with pytest.raises(DataError, match=f"{folder}: no such folder; .* download {source.kind} "):
        source(str(tmp_path)).read(Path())


@pytest.mark.parametrize(
    "values",
    [
        ["data.standardize=pixel"],
        ["data.standardize={mean: 0.1307, std: 0.3081}", "data.augment=crop"],
        [
            "data.augment={kind: crop, pad: 2, padding: edge}",
            "data.pad=2",
            "network.input=1024",
        ],
    ],
)
def test_in_a_scenario(values: list[str], tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    arguments = ["run", str(tmp_path / "tiny.yaml"), *values, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--id", "it"])
    assert result.exit_code == 0, (result.output, result.exception)
    whole = Scenario.load(tmp_path / "tiny.yaml", values)
    again = Scenario.load(tmp_path / "out/tiny/it/scenario.yaml")  # resolved
    one, other = (made.trainer(made.data()).batches.next()[0] for made in (whole, again))
    assert one.equal(other)
    assert one.equal(one.clamp(0, 1)) == ("standardize" not in values[0])
