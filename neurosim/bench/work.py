"""The networks, batches and hand-written loops that measurements use."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.base import stream
from neurosim.bench.timing import Sizes
from neurosim.channels import Channel, Channels
from neurosim.measures import reach
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Schedule
from neurosim.simulation import Simulation

Given = tuple[Model, Tensor, Tensor]  # with a batch
VGG16_DYADS = 190_986
RATE, TICK = 1.0, 0.1  # of the Poisson clocks: a unit wakes in one of ten ticks, or so
DP = DualPropagation(0.5, 0.1, "aro", "prediction")


def mlp(width: int, batch: int, depth: int = 3, /, **options: str) -> Given:
    """784-W-…-W-10 in float32 with ``depth`` hidden populations, with a batch of random images and
    one-hot targets; ``options`` of the network are as in its file."""
    layers = [{"dense": width}] * depth + [{"dense": 10}]
    network = Network.from_dict({"input": [784], "layers": layers, **options})
    return Model(network), *random_batch(batch, 784)


def vgg16(thinner: int = 1) -> Network:
    """VGG16 at 32×32 inputs, with its max-pools in the projections; with fewer channels."""
    layers: list[dict[str, Any]] = []
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        conv = {"conv": channels // thinner}
        layers += [conv] * (count - 1) + [conv | {"pool": "max"}]
    layers += [{"dense": 4096 // thinner}, {"dense": 4096 // thinner}, {"dense": 10}]
    return Network.from_dict(
        {"input": [3, 32, 32], "initialization": "lecun_normal", "layers": layers}
    )


def convnet(thinner: int = 1) -> Network:
    """128-256-512-512 convolutions with max-pools and a dense layer, at 32×32 inputs, as in the
    papers on equilibrium propagation: states in [0, 1] and weak weights."""
    layers = [{"conv": channels // thinner, "pool": "max"} for channels in (128, 256, 512, 512)]
    options = {"activation": "hard_sigmoid", "initialization": "weak_uniform"}
    return Network.from_dict({"input": [3, 32, 32], "layers": [*layers, {"dense": 10}]} | options)


def random_batch(batch: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Inputs, uniform in [0, 1), and one-hot targets of ten classes."""
    draws = stream(0, "bench")
    x = torch.from_numpy(draws.random((batch, *shape), dtype=np.float32))
    return x, F.one_hot(torch.from_numpy(draws.integers(0, 10, batch)), 10).float()


def of_images(network: Callable[[int], Network], sizes: Sizes) -> Given:
    return Model(network(sizes.thinner)), *random_batch(sizes.images, 3, 32, 32)


def steady(given: Given, schedule: Schedule, channel: Channel | None = None) -> Simulation:
    """Runs an inference up to where the target has reached all populations. From there on every
    wake computes all that it can, as it would where all around it has changed."""
    (model, *batch), channels = given, None if channel is None else Channels(channel, channel)
    options: Any = {"loss": "cross_entropy", "channels": channels, "nudge_after": 0}
    simulation = Simulation(model, rule=DP, schedule=schedule, **options)
    simulation.caching = False
    simulation.start(*batch)
    while not all(reach(simulation.state).values()):
        simulation.advance(1)
    return simulation


@torch.no_grad()
def bare_parallel(
    weights: Sequence[Tensor], biases: Sequence[Tensor], x: Tensor, target: Tensor, ticks: int
) -> tuple[list[Tensor], list[Tensor]]:
    """s⁺ and s⁻ per layer after ``ticks`` parallel updates from zero, written by hand.

    DP with α = ½, β = 1 and the squared error at the potential, nudged from tick L on. A product
    is computed only where its input has changed since the last tick, and a mean or difference that
    is still zero is not multiplied at all.
    """
    depth = len(weights)
    basal, apical, plus, minus, difference = (dict[int, Tensor]() for _ in range(5))
    mean, new_means, new_differences = {0: x}, {0}, set[int]()
    for tick in range(1, ticks + 1):
        changed = []
        for k in range(1, depth + 1):
            if k - 1 in new_means:
                basal[k] = F.linear(mean[k - 1], weights[k - 1], biases[k - 1])
            if k + 1 in new_differences:
                apical[k] = difference[k + 1] @ weights[k]
            nudged = k == depth and tick >= depth and (k - 1 in new_means or tick == depth)
            if nudged:
                apical[k] = target - basal[k]
            if k - 1 in new_means or k + 1 in new_differences or nudged:
                changed.append(k)
        new_means, new_differences = set(changed), apical.keys() & changed
        for k in changed:
            if k not in apical:
                plus[k] = minus[k] = mean[k] = torch.relu(basal[k])
                continue
            plus[k] = torch.add(basal[k], apical[k], alpha=0.5)
            minus[k] = torch.add(basal[k], apical[k], alpha=-0.5)
            if k < depth:
                plus[k], minus[k] = torch.relu(plus[k]), torch.relu(minus[k])
            mean[k] = 0.5 * (plus[k] + minus[k])
            difference[k] = plus[k] - minus[k]
    layers = range(1, depth + 1)
    return [plus[k] for k in layers], [minus[k] for k in layers]
