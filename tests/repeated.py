"""Simulations whose inferences can be replayed, and what they leave."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from small_simulations import NETWORK, build, random
from torch import Tensor

import neurosim as ns
from neurosim.schedules import Parallel, Replay, Sweep
from neurosim.simulation.engine import Engine

DOUBLE: dict[str, Any] = {"dtype": torch.float64}
LAYERS = [{"conv": 3, "pool": "max"}, {"conv": 4}, {"dense": 5}, {"name": "out", "dense": 2}]
CONV = ns.Network.from_dict({"input": [2, 6, 6], "layers": LAYERS})
QUIET = ns.Channel(threshold=0.05, refresh=2)
LATE = ns.Channel(delay=2.0)
ROUNDED = ns.Channel(quantize=ns.Quantize(16, 4.0))
NOISY = ns.Channel(delay=1.0, noise=0.05, quantize=ns.Quantize(12, 4.0, "stochastic"))
LOSSY = ns.Channel(delay=ns.Uniform(0.0, 3.0), loss=0.2, refresh=2)
WAKES = tuple((t, p, None if t % 2 else [0, 1]) for t in (1.0, 2.0, 3.0, 4.0) for p in ("a", "b"))
CASES: dict[str, dict[str, Any]] = {
    "sweep": {"schedule": Sweep("forward_backward", 2)},
    "one sweep": {"schedule": Sweep("backward"), "init": "feedforward", "nudge_after": None},
    "softmax": {"schedule": Sweep("backward"), "init": "feedforward", "loss": "cross_entropy"},
    "parallel": {"schedule": Parallel(9)},
    "neurons": {"schedule": Sweep("odd_even", 3, unit="neuron")},
    "replay": {"schedule": Replay((*WAKES, (5.0, "out", None)))},
    "thresholds": {"schedule": Parallel(9), "channels": ns.Channels(QUIET, QUIET)},
    "delays": {"schedule": Parallel(12), "channels": ns.Channels(LATE, ns.Channel(delay=3.0))},
    "quantized": {"schedule": Parallel(9), "channels": ns.Channels(ROUNDED, ROUNDED)},
    "noise": {"schedule": Sweep("odd_even", 5), "channels": ns.Channels(NOISY, NOISY)},
    "late neurons": {
        "schedule": Sweep("odd_even", 5, unit="neuron"),
        "channels": ns.Channels(LOSSY, LOSSY),
    },
    "late synapses": {
        "schedule": Parallel(12),
        "channels": ns.Channels(ns.Channel(delay=ns.Uniform(0.0, 3.0, per="synapse")), LATE),
    },
    "conv delays": {"schedule": Parallel(12), "channels": ns.Channels(LATE, NOISY)},
    "faults": {"schedule": Parallel(9), "faults": ns.Faults(dead=0.3, weight_noise=0.1)},
    "damped": {"schedule": Parallel(9), "rule": ns.DualPropagation(variant="damped", alpha=0.2)},
    "free and nudged": {"schedule": Parallel(9), "rule": "equilibrium_propagation"},
    "rounded": {"schedule": Parallel(9), "precision": "bf16-mixed"},
    "conv": {"schedule": Sweep("forward_backward", 2)},
    "conv tiles": {"schedule": Sweep("forward_backward", 2, unit="tile")},
}


def named(*slow: str) -> list[Any]:
    """All cases; some of them are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in CASES]


SLOW = "sweep", "thresholds", "quantized", "noise"
WAITING = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]


def model_of(name: str) -> ns.Model:
    single = {"dtype": torch.float32} if name == "rounded" else DOUBLE
    return ns.Model(CONV if name.startswith("conv") else NETWORK, **single)


def made(name: str, **options: Any) -> ns.Simulation:
    options = {"nudge_after": None if "rule" in CASES[name] else 0} | CASES[name] | options
    return build(model=model_of(name), **options)


def data(model: ns.Model, number: int) -> tuple[Tensor, Tensor]:
    shape = 4, *model.network.input.shape
    x = random(*shape, seed=1) + 0.1 * random(*shape, seed=number)
    return x.to(model.dtype), torch.eye(2, dtype=model.dtype)[torch.arange(4) % 2 - number % 2]


def run(simulation: ns.Simulation, *batch: Tensor) -> ns.Outcome:
    """Runs it tick by tick, which is never recorded."""
    simulation.start(*batch)
    while not simulation.done:
        simulation.advance(1)
    return simulation.finish()


def bits(node: Any) -> Any:
    """What it is made of, bit for bit."""
    match node:
        case Tensor():
            return str(node.dtype), tuple(node.shape), node.numpy().tobytes()
        case dict():
            return {key: bits(value) for key, value in node.items()}
        case list() | tuple():
            return [bits(value) for value in node]
        case _:
            return repr(node)


def told(simulation: ns.Simulation, outcome: ns.Outcome) -> Any:
    """All that an inference leaves, and what is learned of it, twice."""
    predictions = outcome.prediction, outcome.nudged_prediction
    known = [outcome.plus, outcome.minus, asdict(outcome.counts), predictions, outcome.ticks]
    known += [simulation.state_dict(), simulation.gradients(), simulation.gradients()]
    return bits([*known, asdict(simulation.counts)])


def replayed(simulation: ns.Simulation, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Returns what counts the inferences so far that no engine has run."""
    ran, run_to = set[int](), Engine.run

    def noted(self: Engine, *arguments: Any) -> int:
        if self is simulation.engine:
            ran.add(simulation.inferences)
        return run_to(self, *arguments)

    monkeypatch.setattr(Engine, "run", noted)
    return lambda: simulation.inferences - len(ran)
