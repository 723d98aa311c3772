"""The work that measurements compare: a loop written by hand, and wakes of a part of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.model import Model
from neurosim.network import Network
from neurosim.operators import Ints
from neurosim.random import stream
from neurosim.rules import DualPropagation
from neurosim.schedules.base import Clock, Start
from neurosim.schedules.planned import Planned, planned
from neurosim.simulation import Simulation
from neurosim.units import Layout, Unit, UnitKind


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
    mean, difference, basal, apical = {0: x}, dict[int, Tensor](), dict[int, Tensor](), {}
    plus, minus = dict[int, Tensor](), dict[int, Tensor]()
    new_means, new_differences = {0}, set[int]()
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
        new_means, new_differences = set(changed), {k for k in changed if k in apical}
        for k in changed:
            if k not in apical:
                plus[k] = minus[k] = mean[k] = torch.relu(basal[k])
                continue
            above = torch.add(basal[k], apical[k], alpha=0.5)
            below = torch.add(basal[k], apical[k], alpha=-0.5)
            plus[k] = above if k == depth else torch.relu(above)
            minus[k] = below if k == depth else torch.relu(below)
            mean[k] = 0.5 * (plus[k] + minus[k])
            difference[k] = plus[k] - minus[k]
    layers = range(1, depth + 1)
    return [plus[k] for k in layers], [minus[k] for k in layers]


# ---- a part of a conv layer ----------------------------------------------------------------------


@dataclass(frozen=True)
class ConvLayer:
    """A population (C, H, W) between 3×3 convolutions; ``tile`` is the edge of its tiles."""

    channels: int
    edge: int
    tile: int

    @property
    def name(self) -> str:
        return f"{self.channels}×{self.edge}×{self.edge}"


# 8×8 positions have only four tiles of the usual edge.
CONV_LAYERS = ConvLayer(256, 8, 2), ConvLayer(64, 32, 4)


@dataclass(frozen=True)
class _Plan(Planned):
    """These units of the network wake in ticks 1, 2, …"""

    unit: Unit
    wakes: tuple[Ints, ...]
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        rows: list[list[int]] = [[] for _ in range(at.layout.total)]
        for tick, units in enumerate(self.wakes, 1):
            for unit in units.tolist():
                rows[unit].append(tick)
        return planned(np.arange(at.layout.total), rows, len(self.wakes))


class ConvWakes:
    """Ticks in each of which a ``share`` of a layer's units wakes, drawn anew, and nothing else.

    Every wake computes both of its potentials, as it would where all around it has changed.
    """

    def __init__(
        self, layer: ConvLayer, kind: UnitKind, share: float, batch: int, calls: int
    ) -> None:
        shape = [layer.channels, layer.edge, layer.edge]
        layers = [{"name": name, "conv": layer.channels} for name in ("part", "above")]
        network = Network.from_dict(
            {"input": shape, "layers": [*layers, {"name": "out", "dense": 10}]}
        )
        unit = Unit(kind, layer.tile if kind == "tile" else None)
        layout = Layout(network, unit)
        everyone = np.arange(layout.total)
        part, above, out = (layout.population_of == index for index in range(3))
        draws = stream(0, "bench")
        self.units = max(1, round(share * int(part.sum())))
        # After a feed-forward start the difference goes down to the layer above in two ticks.
        wakes = [everyone[out], everyone[above]]
        wakes += [np.sort(draws.permutation(everyone[part])[: self.units]) for _ in range(calls)]
        self.simulation = Simulation(
            Model(network),
            rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="potential"),
            loss="cross_entropy",
            schedule=_Plan(unit, tuple(wakes)),
        )
        self.simulation.caching = False
        x = torch.from_numpy(draws.standard_normal((batch, *shape), dtype=np.float32))
        target = torch.eye(10)[draws.integers(0, 10, batch)]
        self.simulation.start(x, target)
        self.simulation.advance(2)

    def __call__(self) -> None:
        self.simulation.advance(1)
