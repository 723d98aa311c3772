"""The shipped scenarios on CIFAR-10: what they say, and a few steps of a narrow network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from shipped import CIFAR10, DIGITS, MNIST, SCENARIOS, STREAMS, narrow_description
from small_cifar import cifar10, small_cifar10, write_cifar10

from neurosim.cli.main import main
from neurosim.data.augmentation import CropFlip
from neurosim.scenario.scenario import Scenario
from neurosim.schedules import Sweep

OTHERS = [path for path in CIFAR10 if path.stem.startswith("vgg")]
# The network of each, its populations and its dyads.
NETWORKS = {
    "vgg16_async": ("vgg16", 17, 190_986),
    "vgg16_cifar10": ("vgg16_dp23", 22, 315_914),
    "vgg16_cifar10_dpt": ("vgg16_dp24", 17, 190_986),
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few images in the form of CIFAR-10."""
    small_cifar10(monkeypatch)
    write_cifar10(tmp_path / "data")
    return tmp_path / "data"


def test_they_are_the_ones() -> None:
    assert [path.stem for path in OTHERS] == list(NETWORKS)
    assert sorted([*DIGITS, *MNIST, *CIFAR10, *STREAMS]) == SCENARIOS


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_what_all_of_them_say(path: Path) -> None:
    scenario = Scenario.load(path)
    file = scenario.file
    assert (file.name, scenario.network.dyads) == (path.stem, NETWORKS[path.stem][2])
    assert file.data.augment == CropFlip(4, "zero")  # standardized first, then padded
    dp24 = path.stem == "vgg16_cifar10_dpt"
    passes = Sweep("forward", 16) if dp24 else Sweep("backward")
    assert path.stem == "vgg16_async" or file.schedule == passes
    assert (file.rule.variant, file.rule.alpha, file.rule.nudge) == (
        *("lagrangian" if dp24 else "aro", 0.5, "prediction"),
    )
    assert file.rule.beta == (0.1 if dp24 else 0.02)
    assert (file.training.epochs, file.data.batch_size) == (130, 100)
    assert file.training.held_out(50_000) == 5000
    optimizer = file.plasticity.optimizer.make(scenario.model().parameters())
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)  # its weight decay is coupled
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.025, 0.9, 5e-4)
    rate = file.plasticity.learning_rate
    assert rate.at(0, 0.025, 450, 130) == rate.warmup_from
    assert rate.at(10 * 450, 0.025, 450, 130) == pytest.approx(0.025)
    end = 120 if path.stem == "vgg16_cifar10_dpt" else 130  # as published
    assert rate.at(end * 450 - 1, 0.025, 450, 130) > rate.final
    assert rate.at(end * 450, 0.025, 450, 130) == pytest.approx(rate.final)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_they_validate_where_the_data_are(path: Path, data: Path) -> None:
    arguments = ["validate", str(path), f"data.root={json.dumps(str(data))}", "data.batch_size=4"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    _, populations, dyads = NETWORKS[path.stem]
    assert f": valid; {populations} populations, {dyads:,} dyads, schedule " in result.output


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_without_data_they_say_where_to_put_them(path: Path, tmp_path: Path) -> None:
    root = f"data.root={json.dumps(str(tmp_path))}"
    result = CliRunner().invoke(main, ["validate", str(path), root])
    assert result.exit_code == 2
    assert "no data_batch_1.bin, " in result.stderr
    assert "put CIFAR-10's binary files there" in result.stderr


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_narrow_one_runs(path: Path, data: Path, root: Path, tmp_path: Path) -> None:
    network = json.dumps(narrow_description(root, NETWORKS[path.stem][0], 16))
    values = [f"network={network}", f"data.root={json.dumps(str(data))}", "data.batch_size=4"]
    values += ["training.max_steps=2", "threads=1", "device=cpu"]
    arguments = ["run", str(path), *values, "--out", str(tmp_path / "out"), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    folder = tmp_path / "out" / path.stem / "it"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 2)
    assert summary["wakes"] > 0


@pytest.mark.parametrize(
    ("portion", "held"), [("0.1", 2), ("0.01", 1), ("0.95", 19), ("7", 7), ("null", 0)]
)
def test_a_portion_is_held_out(portion: str, held: int, data: Path) -> None:
    values = [f"data.root={json.dumps(str(data))}", f"training.validation={portion}"]
    scenario = Scenario.load(OTHERS[1], [*values, "data.batch_size=1"])
    images = len(scenario.data().train)
    assert images == 20
    assert scenario.file.training.held_out(images) == held


@pytest.mark.parametrize("portion", ["0.0", "1.0", "1.5", "-0.1", "0", "x"])
def test_portions_that_are_none(portion: str) -> None:
    arguments = ["validate", str(OTHERS[0]), f"training.validation={portion}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "training.validation" in line


@pytest.mark.slow
def test_real_cifar10(shared_data: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(shared_data / "unpack_cifar10.py"), str(tmp_path)]
    subprocess.run(script, check=True, capture_output=True)
    found = cifar10(tmp_path)
    assert (len(found.train), len(found.test)) == (50_000, 10_000)
    assert torch.bincount(found.train.labels).tolist() == [5000] * 10
    values = found.train.take(slice(10_000))
    assert values.mean((0, 2, 3)).abs().max() < 0.05
