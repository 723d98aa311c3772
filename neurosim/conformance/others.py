"""Checks of data sets, optimizers, learning rates and listeners."""

from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from neurosim.conformance.checks import Named, require, same
from neurosim.conformance.simulations import RESUMED
from neurosim.data import Dataset, DataSource
from neurosim.learning import ListenerChoice, Listeners, load_state, save_state
from neurosim.maths import LearningRate, OptimizerChoice


def of_data(source: DataSource) -> Named:
    """Yields the checks of a data set; labels and shapes are checked as it is made."""
    yield "reads the same images twice", partial(_reads, source)


def _reads(source: DataSource) -> None:
    one, other = source.read(Path()), source.read(Path())
    require(isinstance(one, Dataset), f"read returns {one!r}", "Return a neurosim.data.Dataset")
    for name in ("train", "test"):
        found, again = getattr(one, name), getattr(other, name)
        read, then = ((split.take(slice(100)), split.labels) for split in (found, again))
        same(read, then, f"the {name} split differs", "Draw from a generator with a fixed seed")
        require(bool(read[0].isfinite().all()), "an image is not finite", "Repair it, or leave it")


def of_optimizer(choice: OptimizerChoice) -> Named:
    """Yields the checks of an optimizer."""
    yield "goes on from its state as it would have gone on", partial(_goes_on, choice)


def _goes_on(choice: OptimizerChoice) -> None:
    start = torch.linspace(-1.0, 2.0, 7, dtype=torch.float64)

    def steps(saving: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(start.clone())
        optimizer = choice.make([weight])
        for _ in range(3):
            weight.grad = weight.detach().cos()
            optimizer.step()
            if saving:
                save_state(file, optimizer.state_dict())
                optimizer = choice.make([weight])
                optimizer.load_state_dict(load_state(file))
        return weight.detach()

    with TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        found, expected = steps(True), steps(False)
    same(found, expected, "a step after a pause is another", RESUMED)
    moved = bool(expected.isfinite().all()) and not torch.equal(expected, start)
    require(moved, "weights are not finite, or do not move", "Use the gradients")


def of_rate(rate: LearningRate) -> Named:
    """Yields the checks of a learning rate."""
    yield "finite and not negative at every step, and by that alone", partial(_rates, rate)


def _rates(rate: LearningRate) -> None:
    steps, mend = range(40), "Let `at` return a number that follows from its arguments"
    found = [rate.at(step, 0.1, 10, 4) for step in steps]
    require(all(isfinite(r) and r >= 0 for r in found), "it is not", mend)
    again = [rate.at(step, 0.1, 10, 4) for step in reversed(steps)]
    same(again[::-1], found, "it depends on what was asked before", mend)


def of_listener(choice: ListenerChoice) -> Named:
    """Yields the checks of a listener; that it hears something is checked as it is told."""
    yield "hears something, and takes its state back", partial(_listens, choice)


def _listens(choice: ListenerChoice) -> None:
    with TemporaryDirectory() as folder:
        one, other = (Listeners([choice.make(Path(folder))]) for _ in range(2))
        file = Path(folder) / "state"
        save_state(file, one.state_dict())
        other.load_state_dict(load_state(file))
    same(other.state_dict(), one.state_dict(), "it has another state than was saved", RESUMED)


FAMILIES: Mapping[str, Callable[[Any], Named]] = {
    "data": of_data,
    "optimizer": of_optimizer,
    "learning_rate": of_rate,
    "listener": of_listener,
}
