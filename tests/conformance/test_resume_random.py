"""Random networks with faults, saved into a file at a random tick and continued bit for bit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import PHASED, RULES, SCHEDULES, THRESHOLDS, every_effect
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import loss_for
from neurosim.learning import load_state, save_state

UNITS = ("population", "channel", "column", "tile", "block", "neuron")
PAIRS = len(UNITS) * len(SCHEDULES)
RULE = RULES | {name: phased.rule for name, phased in PHASED.items()}
CASES = 1_000


def network_of(rng: np.random.Generator, smooth: bool, feedback: str) -> ns.Network:
    """A dense network, or a convolutional one with or without pooling; ``smooth`` for complex
    states."""
    layers: list[dict[str, Any]] = []
    shape = [int(n) for n in rng.integers((1, 4, 4), (4, 8, 8))]
    if rng.random() < 0.7:
        for _ in range(rng.integers(1, 3)):
            kernel, layer = int(rng.integers(1, 4)), {"conv": int(rng.choice([1, 2, 3, 5, 8, 9]))}
            layers.append(layer | {"kernel": kernel, "padding": kernel // 2})
            if rng.random() < 0.6:
                kind = str(rng.choice(["avg", "softmax"] if smooth else ["avg", "softmax", "max"]))
                stride, padding = rng.integers(1, 3, 2).tolist(), rng.integers(0, 2, 2).tolist()
                pool = {"kind": kind, "kernel": 2, "stride": stride, "padding": padding}
                layers[-1]["pool"] = pool
        layers += [{"dense": int(rng.integers(3, 18))}] * int(rng.integers(0, 2))
    else:
        shape = [int(rng.integers(2, 20))]
        layers = [{"dense": int(n)} for n in rng.integers(2, 20, rng.integers(1, 4))]
    layers.append({"dense": int(rng.integers(2, 7))})
    named = [layer | {"name": f"p{k}"} for k, layer in enumerate(layers)]
    activation = "tanh" if smooth else str(rng.choice(["relu", "tanh", "hard_sigmoid"]))
    return ns.Network.from_dict(
        {"input": shape, "activation": activation, "feedback": feedback, "layers": named}
    )


class Drawn:
    """The simulation of a number: every unit under every schedule comes once in `PAIRS` of them."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        name = list(SCHEDULES)[number // len(UNITS) % len(SCHEDULES)]
        kind = UNITS[number % len(UNITS)]
        unit = ns.Unit(kind, int(rng.integers(2, 4)) if kind in ("tile", "block") else None)
        smooth = rng.random() < 0.2
        feedback = str(rng.choice([*["symmetric"] * 6, "kolen_pollack", "local_jacobian"]))
        self.network = network = network_of(rng, smooth, feedback)
        self.dtype = (torch.float64, torch.float32)[rng.integers(2)]
        threshold = float(rng.choice([0.0, THRESHOLDS.get(name, 0.02)]))
        plain = ns.Channels(*[ns.Channel(threshold)] * 2)
        rounded = self.dtype == torch.float32 and rng.random() < 0.3
        faults = {
            "dead": 0.2 * rng.integers(2),
            "stuck": 0.2 * rng.integers(2),
            "stuck_at": 0.3,
            "weight_noise": 0.2 * rng.integers(2),
            "weight_noise_shared": bool(rng.integers(2)),
        }
        self.learn_every, self.at, self.share = None, int(rng.integers(3)), rng.random()
        schedule = SCHEDULES[name](unit, network)
        if isinstance(schedule, ns.schedules.RandomOrder) and schedule.groups is not None:
            schedule = replace(schedule, groups=2)  # some have no more units
        self.options: dict[str, Any] = {
            "schedule": schedule,
            "channels": (every_effect(network, threshold), plain, None)[rng.integers(3)],
            "faults": ns.Faults(**faults),
            "init": str(rng.choice(["zero", "feedforward", "carry"])),
            "precision": "bf16-mixed" if rounded else None,
            "processes": str(rng.choice(["population", "neuron"])),
            "probes": ["wakes"],
            "seed": number,
        }
        learn_every = int(rng.integers(2, 4)) if rng.random() < 0.3 else None
        for rule in rng.permutation(list(RULE)):
            self._take(RULE[rule], learn_every)
            with suppress(ns.ConfigurationError):
                self.make()
                break
        size = int(rng.integers(2, 5))
        self.data = []
        for _ in range(3):
            x = torch.from_numpy(rng.standard_normal((size, *network.input.shape)))
            labels = torch.from_numpy(rng.integers(0, network.output.size, size))
            y = torch.nn.functional.one_hot(labels, network.output.size)
            self.data.append((x.to(self.dtype), y.to(self.dtype)))

    def _take(self, rule: ns.Rule, learn_every: int | None) -> None:
        self.learn_every = None if rule.phases else learn_every
        self.options |= {"rule": rule, "loss": loss_for(rule), "learn_every": self.learn_every}

    def make(self) -> tuple[ns.Simulation, torch.optim.Optimizer]:
        model = ns.Model(self.network, seed=3, dtype=self.dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.7)  # an energy then has a least value
        return ns.Simulation(model, **self.options), torch.optim.Adam(model.parameters(), lr=1e-3)

    def run(self, path: Path | None) -> list[Any]:
        """Returns all that three inferences and the learning after each come to; with a ``path``
        they stop at a random tick, and others go on from the file."""
        (simulation, optimizer), found = self.make(), []
        for number, batch in enumerate(self.data):
            within = optimizer if self.learn_every else None
            simulation.start(*batch, optimizer=within)
            if path is not None and number == self.at:
                ticks = simulation.last_tick - simulation.tick
                simulation.advance(int(self.share * (ticks + 1)))
                parts = simulation.model, optimizer, simulation
                save_state(path, [part.state_dict() for part in parts])
                simulation, optimizer = self.make()
                weights, moments, state = load_state(path)
                simulation.model.load_state_dict(weights)
                optimizer.load_state_dict(moments)
                within = optimizer if self.learn_every else None
                simulation.load_state_dict(state, optimizer=within)
            simulation.advance()
            outcome = simulation.finish()
            found += [outcome.plus, outcome.minus, outcome.prediction, outcome.nudged_prediction]
            found += [asdict(outcome.counts), outcome.trace.state_dict(), simulation.gradients()]
            if not self.learn_every:
                simulation.learn(optimizer)
        return bits([*found, simulation.model.state_dict(), optimizer.state_dict()])


def bits(tree: Any) -> Any:
    """Returns a tree with the bytes of its tensors in place of them."""
    match tree:
        case Tensor():
            return tree.dtype, tree.shape, tree.detach().numpy().tobytes()
        case dict():
            return {key: bits(value) for key, value in tree.items()}
        case list() | tuple():
            return [bits(value) for value in tree]
    return tree


@pytest.mark.filterwarnings("ignore:in .* ticks nothing was sent")  # as thresholds may be
@pytest.mark.parametrize(
    "numbers",
    [range(0, PAIRS, 6), pytest.param(range(CASES), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_a_random_network_goes_on_bit_for_bit(numbers: range, tmp_path: Path) -> None:
    different = []
    for number in numbers:
        drawn = Drawn(number)
        if drawn.run(tmp_path / "state") != drawn.run(None):
            different.append((number, drawn.options))
    assert different == []
