"""The small networks, models and batches that members are checked in.

The populations of every network are "input", "h1", "h2" and "output".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.channels import Channel, Channels, Uniform
from neurosim.conformance.simulations import Build, Setup
from neurosim.maths import Loss
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation, Rule
from neurosim.schedules import Schedule
from neurosim.simulation import Simulation


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
        try:
            rule.check_loss(Loss.of(name))
        except ConfigurationError:
            continue
        return name
    raise ConfigurationError(f"{rule} can use none of the losses {', '.join(known)}", "rule")


def networks_for(rule: Rule) -> list[Network]:
    """Returns those of the networks that the rule is defined for."""
    found = []
    for network in NETWORKS:
        try:
            rule.check_network(network)
        except ConfigurationError:
            continue
        found.append(network)
    return found


def simulated(
    network: Network,
    schedule: Schedule,
    rule: Rule | None = None,
    learn_every: int | None = None,
    **options: Any,
) -> Build:
    """Returns what makes a setup; weights are small enough for an energy to have a least value."""
    rule = DualPropagation(beta=0.6, nudge="potential") if rule is None else rule
    channels = Channels(LATE, LATE)

    def build(**more: Any) -> Setup:
        model = model_of(network, scale=0.5 if rule.phases else 1.0)
        arguments: dict[str, Any] = {
            "rule": rule,
            "loss": loss_for(rule),
            "schedule": schedule,
            "channels": channels,
            "init": "zero",
            "learn_every": learn_every,
            "probes": ["wakes", "in_flight"],
            "seed": 1,
        }
        simulation = Simulation(model, **(arguments | options | more))
        return Setup(simulation, learning(model) if learn_every else None, batches_of(model, 3))

    return build
