"""The small simulations that members are checked in, and what neither the way they run nor a pause
may change.

The populations of every network are "input", "h1", "h2" and "output".
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.channels import Channel, Channels, Uniform
from neurosim.conformance.checks import CLOSE, RESUMED, TWICE, require, same
from neurosim.learning import load_state, save_state
from neurosim.maths import Loss
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation, Rule
from neurosim.schedules import Schedule
from neurosim.simulation import Outcome, Simulation

MODES = "A clock may depend on its arrays, its generator and the tick alone, not on who asks it"
REPEATS = "What repeats depends on what it is given and what it draws, by functions of torch alone"
CACHED = "A wake may depend on what it is given alone: the same potentials must give the same bits"
AT_ONCE = "What is done in one pass, and what is said of its news, must be what `wake` alone gives"
SELECTED = "What is computed for some dyads must be what is computed for all, up to round-off"


# ---- networks, models and batches ---------------------------------------------------------------


def chain(inputs: Any, *layers: Mapping[str, Any], activation: str = "relu") -> Network:
    """Makes a network of layers."""
    names = [*(f"h{number}" for number in range(1, len(layers))), "output"]
    named = [{"name": name} | dict(layer) for name, layer in zip(names, layers, strict=True)]
    return Network.from_dict({"input": inputs, "activation": activation, "layers": named})


NETWORKS = (
    chain(5, {"dense": 7}, {"dense": 6}, {"dense": 3}),
    chain([2, 6, 4], {"conv": 3, "pool": "max"}, {"conv": 4}, {"dense": 3}),
    chain([2, 6, 4], {"conv": 3, "pool": "avg"}, {"dense": 6}, {"dense": 3}, activation="tanh"),
)
FLAT, CONVOLUTIONAL = NETWORKS[:2]
# Every message is another one after every wake, whatever has happened to those that made it.
SMOOTH = chain(5, {"dense": 7}, {"dense": 6}, {"dense": 3}, activation="tanh")
# Messages come late, and small changes are not sent: a schedule that listens comes to an end.
LATE = Channel(threshold=0.01, delay=Uniform(0.0, 2.0))


def model_of(network: Network, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Model:
    """Makes a model whose biases are not zero, and all its parameters ``scale`` times as large."""
    model, generator = Model(network, seed=3, dtype=dtype), np.random.default_rng(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                draws = torch.from_numpy(generator.normal(0.0, 0.3, tuple(parameter.shape)))
                parameter.add_(draws)
            parameter.mul_(scale)
    return model


def batches_of(model: Model, batches: int, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Draws inputs, with one-hot targets."""
    generator, network = np.random.default_rng(11), model.network
    classes, found = network.output.size, []
    for _ in range(batches):
        x = torch.from_numpy(generator.standard_normal((size, *network.input.shape)))
        y = torch.eye(classes, dtype=torch.float64)[generator.integers(0, classes, size)]
        found.append((x.to(model.dtype), y.to(model.dtype)))
    return found


def learning(model: Model) -> torch.optim.Optimizer:
    """Makes an optimizer; with the usual eps a gradient of round-off alone would make a step."""
    return torch.optim.Adam(model.parameters(), lr=1e-2, eps=1e-4)


def loss_for(rule: Rule) -> str:
    """Returns the first of two losses that the rule can use."""
    known = ("cross_entropy", "squared_error")
    for name in known:
        with suppress(ConfigurationError):
            rule.check_loss(Loss.of(name))
            return name
    raise ConfigurationError(f"{rule} can use none of the losses {', '.join(known)}", "rule")


def networks_for(rule: Rule) -> list[Network]:
    """Returns those of the networks that the rule is defined for."""
    found = []
    for network in NETWORKS:
        with suppress(ConfigurationError):
            rule.check_network(network)
            found.append(network)
    return found


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


def simulated(
    network: Network,
    schedule: Schedule,
    rule: Rule | None = None,
    learn_every: int | None = None,
    **options: Any,
) -> Build:
    """Returns what makes a setup; weights are small enough for an energy to have a least value."""
    rule = DualPropagation(beta=0.6, nudge="potential") if rule is None else rule

    def build(**more: Any) -> Setup:
        model = model_of(network, scale=0.5 if rule.phases else 1.0)
        arguments: dict[str, Any] = {
            "rule": rule,
            "loss": loss_for(rule),
            "schedule": schedule,
            "channels": Channels(LATE, LATE),
            "init": "zero",
            "learn_every": learn_every,
            "probes": ["wakes", "in_flight"],
            "seed": 1,
        }
        simulation = Simulation(model, **(arguments | options | more))
        optimizer = learning(model) if simulation.learns_within else None
        return Setup(simulation, optimizer, batches_of(model, 3))

    return build


# ---- what must hold ---------------------------------------------------------------------------


def states(simulation: Simulation) -> dict[str, Tensor]:
    """Copies the present states of all populations."""
    cells = simulation.state_dict()["state"]["cells"]
    keys = [(name, key) for name in cells for key in ("plus", "minus")]
    return {f"{n}.{k}": cells[n][k] for n, k in keys if cells[n][k] is not None}


def _left(setup: Setup) -> dict[str, Any]:
    """Ends an inference, and collects all that it leaves behind."""
    outcome = setup.simulation.finish()
    return {
        **{key: getattr(outcome, key) for key in ("plus", "minus", "prediction", "ticks", "time")},
        "trace": outcome.trace.state_dict(),
        "counts": asdict(outcome.counts),
        "gradients": setup.simulation.gradients(),
        "parameters": dict(setup.simulation.model.state_dict()),
    }


def _alike(one: Setup, other: Setup, inferences: int, what: str, mend: str) -> None:
    for number in range(inferences):
        for setup in (one, other):
            setup.start(number)
            setup.simulation.advance()
        found, expected = _left(one), _left(other)
        same(found, expected, what, mend)
        woken = found["counts"]["wakes"] > 0
        require(woken, "nothing wakes", "Give wakes up to the end of the inference")


def both_modes(build: Build, inferences: int = 1) -> None:
    """One process per population does what one process per unit does, bit for bit."""
    one, other = build(processes="population"), build(processes="neuron")
    what = "processes 'population' and 'neuron' give different results"
    _alike(one, other, inferences, what, MODES)


def twice(build: Build, inferences: int = 1) -> None:
    """The same seed gives the same bits."""
    _alike(build(), build(), inferences, "twice the same seed gives different results", TWICE)


def at_once(build: Build, rule: Rule) -> None:
    """What a rule does in one pass, and finds out of its messages, changes nothing."""
    alone = copy(rule)
    object.__setattr__(alone, "wakes_at_once", lambda activation: False)
    one, other = (build(rule=asked, probes=[]) for asked in (rule, alone))
    _alike(one, other, 3, "one pass gives other results than `wake` alone", AT_ONCE)


def replayed(build: Build) -> None:
    """An inference that is replayed from a recording leaves what it leaves when it is run."""
    replays, runs = (build(probes=[], learn_every=None) for _ in range(2))
    for _ in range(6):  # of which the second is recorded, and others may be run all the same
        replays.simulation.infer(*replays.data[0])
        runs.simulation.start(*runs.data[0])
        runs.simulation.advance()
        runs.simulation.finish()
        one, other = (
            {"gradients": setup.simulation.gradients(), **states(setup.simulation)}
            for setup in (replays, runs)
        )
        same(one, other, "an inference that is replayed gives other results", REPEATS)


def _in_step(
    one: Setup,
    other: Setup,
    number: int,
    what: str,
    mend: str,
    close: float = 0.0,
    between: Callable[[Setup], Setup] = lambda setup: setup,
) -> Setup:
    """Runs an inference of both, whose states must be the same after every tick; before each the
    first is replaced by what ``between`` makes of it. Returns the last of those."""
    one.start(number)
    other.start(number)
    while True:
        one = between(one)
        ended = one.simulation.done, other.simulation.done
        require(ended[0] == ended[1], "one inference ends before the other", mend)
        if all(ended):
            return one
        one.simulation.advance(1)
        other.simulation.advance(1)
        same(one.simulation.tick, other.simulation.tick, "one passes over a tick", mend)
        tick = f"{what} at tick {other.simulation.tick}"
        same(states(one.simulation), states(other.simulation), tick, mend, close)


def caching(build: Build, inferences: int = 1) -> None:
    """Leaving out what has not changed never changes a result."""
    cached, plain = build(compute="dense"), build(compute="dense")
    plain.simulation.caching = False
    for number in range(inferences):
        what = "leaving out what has not changed changes the results"
        _in_step(cached, plain, number, what, CACHED)
        found, expected = _left(cached), _left(plain)
        operations = "forward", "adjoint", "weight_gradient"
        done, all_done = ([x["counts"].pop(key) for key in operations] for x in (found, expected))
        same(found, expected, what, CACHED)
        require(done[0] <= all_done[0], "more work with caching", CACHED)


def partial(build: Build, inferences: int = 1) -> None:
    """Computing only what wakes gives what dense operations give, up to round-off."""
    some, dense = build(compute="auto"), build(compute="dense")
    for number in range(inferences):
        what = "partial and dense operations differ"
        _in_step(some, dense, number, what, SELECTED, CLOSE)
        found, expected = _left(some), _left(dense)
        wakes, all_wakes = (x["trace"].get("wakes") for x in (found, expected))
        same(wakes, all_wakes, f"{what} in what wakes", SELECTED)
        found, expected = found["gradients"], expected["gradients"]
        same(found, expected, f"{what} in gradients", SELECTED, CLOSE)


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


def every_tick(build: Build, inferences: int = 1) -> list[dict[str, Any]]:
    """A simulation that is handed over through a file after every single tick, from one process
    mode to the other, does what it would have done. What a state forgets shows in the next tick.

    Returns:
        What the probes of each inference recorded.
    """
    whole, part, traces = build(), build(), []
    what = "an inference that is saved and goes on differs"
    with TemporaryDirectory() as folder:

        def handed(setup: Setup) -> Setup:
            mode = ("neuron", "population")[setup.simulation.tick % 2]
            return handed_over(setup, build, Path(folder) / "state", processes=mode)

        for number in range(inferences):
            part = _in_step(part, whole, number, what, RESUMED, between=handed)
            found, expected = _left(part), _left(whole)
            same(found, expected, f"{what} at its end", RESUMED)
            traces.append(expected["trace"])
    return traces
