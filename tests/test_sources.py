"""Data sets as a family: the built-in ones, and one of a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import Field
from small_cifar import small_cifar10, write_cifar10

from neurosim.base.errors import ConfigurationError, DataError, DocumentError
from neurosim.cli.main import main
from neurosim.data import Dataset, DataSource, Split
from neurosim.data.augmentation import CropFlip
from neurosim.data.colour import CIFAR10
from neurosim.data.source import Digits
from neurosim.families import Portion, described, register
from neurosim.scenario.scenario import Scenario

SCENARIO = """
name: own
network: {input: [6], layers: [{dense: 5}, {dense: 2}]}
data: {name: arrays, file: arrays.npz, batch_size: 4, held: 0.25}
schedule: {kind: sweep}
training: {epochs: 1}
device: cpu
"""


@dataclass(frozen=True)
class Arrays(DataSource):
    """Reads the arrays x and y of an NumPy archive; the last ``held`` of them are for the test."""

    file: str
    held: Annotated[Portion, Field(description="for the test")] = 0.5

    def read(self, folder: Path) -> Dataset:
        try:
            with np.load(folder / self.file, allow_pickle=False) as file:
                x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        except OSError as error:
            raise DataError(f"{self.file}: {error.strerror}") from None
        first = round(len(x) * (1 - self.held))
        return Dataset("arrays", Split(x[:first], y[:first]), Split(x[first:], y[first:]), 2)


@pytest.fixture
def scenario(tmp_path: Path) -> Iterator[Path]:
    draws = np.random.default_rng(0)
    x, y = draws.random((40, 6), np.float32), np.arange(40) % 2
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    (tmp_path / "own.yaml").write_text(SCENARIO)
    register("arrays")(Arrays)
    yield tmp_path / "own.yaml"
    DataSource.family.remove("arrays")


def test_the_built_in_ones() -> None:
    assert list(DataSource.family) == [
        *("breast_cancer", "cifar10", "cifar100", "csv", "diabetes", "digits", "events"),
        *("fashion_mnist", "hyperplane", "idx", "imagenet32", "images", "iris", "kmnist"),
        *("linnerud", "mackey_glass", "mnist", "npy", "npz", "parquet", "series", "svhn", "torch"),
        "wine",
    ]
    said = {"name": "digits", "batch_size": 50, "limit": 7, "augment": None, "standardize": "none"}
    assert described(Digits(limit=7)) == said | {"shuffle": True, "remainder": "drop"}
    assert CIFAR10("x", augment="crop_flip").augment == CropFlip()  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"batch_size is 0; it must be at least 1"):
        Digits(batch_size=0)


def test_a_root_is_seen_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_cifar10(monkeypatch)
    write_cifar10(tmp_path / "data")
    for root in ("data", str(tmp_path / "data")):
        assert len(CIFAR10(root).read(tmp_path).train) == 20
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(CIFAR10("~/data").read(Path()).test) == 4


def test_ones_own_in_a_scenario(scenario: Path) -> None:
    data = Scenario.load(scenario).data()
    assert (len(data.train), len(data.test)) == (30, 10)
    assert len(Scenario.load(scenario, ["data.held=0.5", "data.limit=12"]).data().train) == 12
    out = scenario.parent / "out"
    result = CliRunner().invoke(main, ["run", str(scenario), "--out", str(out), "--id", "it"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads((out / "own/it/summary.json").read_text())["status"] == "finished"
    assert "name: arrays" in (out / "own/it/scenario.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.held=2", "data.held: must be less than 1, got 2"),
        ("data.fil=x", "data: unknown key 'fil'; did you mean 'file'?"),
        ("data={name: arrays}", "data: needs the key 'file'"),
        ("data.name=arays", "data: unknown name 'arays'; did you mean 'arrays'?"),
        ("data.file=none.npz", "data: none.npz: No such file or directory"),
    ],
)
def test_what_is_wrong_with_ones_own(scenario: Path, change: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Scenario.load(scenario, [change]).data()
    assert said in str(caught.value)


def test_ones_own_can_only_be_downloaded_from_known_addresses(scenario: Path) -> None:
    result = CliRunner().invoke(main, ["download", "arrays", "--root", str(scenario.parent)])
    assert result.exit_code == 2
    assert "'arrays' has no known address" in result.stderr
    result = CliRunner().invoke(main, ["download", "iris", "--root", str(scenario.parent)])
    assert "it comes with scikit-learn, there is nothing to download; use" in result.stderr
