"""Checks of whole simulations: what neither the way they run nor a pause may change."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from neurosim.conformance.checks import CLOSE, require, same
from neurosim.learning import load_state, save_state
from neurosim.measures import Trace
from neurosim.simulation import Outcome, Simulation

MODES = "A clock may depend on its arrays, its generator and the tick alone, not on who asks it"
TWICE = "Draw from the generator that you are given, and keep nothing outside of the state"
CACHED = "A wake may depend on what it is given alone: the same potentials must give the same bits"
RESUMED = "Save all that changes in state_dict, as copies, and take all of it back"
SELECTED = "What is computed for some dyads must be what is computed for all, up to round-off"


@dataclass
class Setup:
    """A simulation, the optimizer that it learns with while it runs, if any, and batches."""

    simulation: Simulation
    optimizer: torch.optim.Optimizer | None
    data: list[tuple[Tensor, Tensor]]

    def start(self, number: int) -> None:
        """Begins the inference of a batch."""
        self.simulation.start(*self.data[number], optimizer=self.optimizer)

    def infer(self, number: int) -> Outcome:
        """Runs the inference of a batch to the end."""
        self.start(number)
        self.simulation.advance()
        return self.simulation.finish()


# Makes the same setup again and again; what it is given are options of the simulation.
Build = Callable[..., Setup]


def states(simulation: Simulation) -> dict[str, Tensor]:
    """Copies the present states of all populations."""
    cells = simulation.state_dict()["state"]["cells"]
    keys = [(name, key) for name in cells for key in ("plus", "minus")]
    return {f"{n}.{k}": cells[n][k] for n, k in keys if cells[n][k] is not None}


def _left(setup: Setup, outcome: Outcome) -> dict[str, Any]:
    """Collects all that an inference leaves behind."""
    return {
        **{key: getattr(outcome, key) for key in ("plus", "minus", "prediction", "ticks", "time")},
        "trace": outcome.trace.state_dict(),
        "counts": asdict(outcome.counts),
        "gradients": setup.simulation.gradients(),
        "parameters": dict(setup.simulation.model.state_dict()),
    }


def both_modes(build: Build, inferences: int = 1) -> None:
    """One process per population does what one process per unit does, bit for bit."""
    one, other = build(processes="population"), build(processes="neuron")
    for number in range(inferences):
        found, expected = one.infer(number), other.infer(number)
        what = "processes 'population' and 'neuron' give different results"
        same(_left(one, found), _left(other, expected), what, MODES)
        require(found.wakes > 0, "nothing wakes", "Give wakes up to the end of the inference")


def twice(build: Build, inferences: int = 1) -> None:
    """The same seed gives the same bits."""
    one, other = build(), build()
    for number in range(inferences):
        found, expected = _left(one, one.infer(number)), _left(other, other.infer(number))
        same(found, expected, "twice the same seed gives different results", TWICE)


def _in_step(one: Setup, other: Setup, mend: str) -> bool:
    """Runs two simulations for a tick. Returns False where both have come to the end."""
    what = "one inference ends before the other"
    require(one.simulation.done == other.simulation.done, what, mend)
    if one.simulation.done:
        return False
    one.simulation.advance(1)
    other.simulation.advance(1)
    require(one.simulation.tick == other.simulation.tick, what, mend)
    return True


def caching(build: Build, inferences: int = 1) -> None:
    """Leaving out what has not changed never changes a result."""
    cached, plain = build(compute="dense"), build(compute="dense")
    plain.simulation.caching = False
    for number in range(inferences):
        cached.start(number)
        plain.start(number)
        what = "leaving out what has not changed changes the results"
        while _in_step(cached, plain, CACHED):
            tick = f"{what} at tick {cached.simulation.tick}"
            same(states(cached.simulation), states(plain.simulation), tick, CACHED)
        one, other = cached.simulation.finish(), plain.simulation.finish()
        found, expected = _left(cached, one), _left(plain, other)
        counts, all_counts = found.pop("counts"), expected.pop("counts")
        same(found, expected, what, CACHED)
        require(one.messages == other.messages, f"{what}: other numbers of messages", CACHED)
        key = "synaptic_operations"
        require(counts[key] == all_counts[key], f"{what}: other numbers of operations", CACHED)
        require(counts["forward"] <= all_counts["forward"], "more work with caching", CACHED)


def partial(build: Build, inferences: int = 1) -> None:
    """Computing only what wakes gives what dense operations give, up to round-off."""
    some, dense = build(compute="auto"), build(compute="dense")
    for number in range(inferences):
        some.start(number)
        dense.start(number)
        what = "partial and dense operations differ"
        while _in_step(some, dense, SELECTED):
            tick = f"{what} at tick {some.simulation.tick}"
            same(states(some.simulation), states(dense.simulation), tick, SELECTED, CLOSE)
        wakes, expected = some.simulation.finish().trace, dense.simulation.finish().trace
        same(wakes["wakes"], expected["wakes"], f"{what} in what wakes", SELECTED)
        gradients = some.simulation.gradients()
        same(gradients, dense.simulation.gradients(), f"{what} in gradients", SELECTED, CLOSE)


def handed_over(setup: Setup, build: Build, file: Path, **options: Any) -> Setup:
    """Writes a setup to a file, and makes it again of objects that know only what the file says."""
    optimizer = setup.optimizer
    tree = {
        "model": dict(setup.simulation.model.state_dict()),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "simulation": setup.simulation.state_dict(),
    }
    save_state(file, tree)
    tree, fresh = load_state(file), build(**options)
    fresh.simulation.model.load_state_dict(tree["model"])
    if fresh.optimizer is not None:
        fresh.optimizer.load_state_dict(tree["optimizer"])
    fresh.simulation.load_state_dict(tree["simulation"], optimizer=fresh.optimizer)
    return fresh


def every_tick(build: Build, inferences: int = 1) -> list[Trace]:
    """A simulation that is handed over through a file after every single tick, from one process
    mode to the other, does what it would have done. What a state forgets shows in the next tick.

    Returns:
        What the probes of each inference recorded.
    """
    whole, part = build(), build()
    modes, what = ("neuron", "population"), "an inference that is saved and goes on differs"
    traces = []
    with TemporaryDirectory() as folder:
        for number in range(inferences):
            whole.start(number)
            part.start(number)
            going = True
            while going:
                mode = modes[part.simulation.tick % 2]
                part = handed_over(part, build, Path(folder) / "state", processes=mode)
                going = _in_step(part, whole, RESUMED)
                tick = f"{what} at tick {whole.simulation.tick}"
                same(states(part.simulation), states(whole.simulation), tick, RESUMED)
            found, expected = part.simulation.finish(), whole.simulation.finish()
            left = _left(part, found), _left(whole, expected)
            same(*left, f"{what} at its end", RESUMED)
            traces.append(expected.trace)
    return traces
