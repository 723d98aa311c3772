"""A part of a conv layer wakes: what it costs, against all of it."""

from dataclasses import dataclass

import numpy as np
import torch

from neurosim.base import stream
from neurosim.bench.timing import Result, Sizes, alternate
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Clock, Layout, PlannedClock, Schedule, Start, Unit, UnitKind
from neurosim.simulation import Simulation
from neurosim.tensors import Ints

TICKS = 5  # at a call
TENTHS: tuple[UnitKind, ...] = ("column", "channel", "tile")


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
class _Plan(Schedule):
    """These units of the network wake in ticks 1, 2, …"""

    unit: Unit
    wakes: tuple[Ints, ...]
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        ticks = np.repeat(np.arange(len(self.wakes)) + 1, [len(units) for units in self.wakes])
        units = np.arange(at.layout.total)
        return PlannedClock(units, np.concatenate(self.wakes), ticks, len(self.wakes))


class ConvWakes:
    """`TICKS` ticks at a call, in each of which a ``share`` of a layer's units wakes, drawn anew,
    and nothing else; of few units one more or less, so that it is the share over five.

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
        ends = np.floor(share * int(part.sum()) * np.arange(calls * TICKS + 1)).astype(int)
        # After a feed-forward start the difference goes down to the layer above in two ticks.
        wakes = [everyone[out], everyone[above]]
        wakes += [np.sort(draws.permutation(everyone[part])[:units]) for units in np.diff(ends)]
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
        self.simulation.advance(TICKS)


def tenth_over_dense(kind: UnitKind, sizes: Sizes) -> Result:
    """The larger ratio of two layers: the one has large weights, the other large planes. All of a
    layer wakes as one population, in the order of memory that suits that."""
    ratios = {}
    for layer in CONV_LAYERS:
        tenth, dense = (
            ConvWakes(layer, woken, share, sizes.planes, sizes.repeats + 1)
            for woken, share in ((kind, 0.1), ("population", 1.0))
        )
        seconds = alternate({"tenth": tenth, "all": dense}, sizes.repeats)
        ratios[layer.name] = seconds["tenth"] / seconds["all"]
    each = ", ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items())
    return max(ratios.values()), "times", f"at most 0.25; all units awake; {each}"
