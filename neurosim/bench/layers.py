"""A part of a conv layer wakes: what it costs, against all of it."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from neurosim.base import stream
from neurosim.bench.timing import Benchmark, Result, Sizes, alternate
from neurosim.bench.work import random_batch
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Clock, Layout, PlannedClock, Schedule, Start, Unit, UnitKind
from neurosim.simulation import Simulation
from neurosim.tensors import Ints

TICKS = 5  # at a call


# Channels, edge of the plane, edge of a tile: 8×8 positions have only four tiles of the usual edge.
CONV_LAYERS = {"256×8×8": (256, 8, 2), "64×32×32": (64, 32, 4)}


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


def waking(layer: str, kind: UnitKind, share: float, batch: int, ticks: int) -> Simulation:
    """An inference in which a ``share`` of the units of a population between 3×3 convolutions wakes
    in each of so many ticks, drawn anew, and nothing else; of few units one more or less, so that
    it is the share over five.

    Every wake computes both of its potentials, as it would where all around it has changed.
    """
    channels, edge, tile = CONV_LAYERS[layer]
    shape = [channels, edge, edge]
    layers = [{"conv": channels}, {"conv": channels}, {"dense": 10}]
    network = Network.from_dict({"input": shape, "layers": layers})
    unit = Unit(kind, tile if kind == "tile" else None)
    layout = Layout(network, unit)
    part, above, out = (np.flatnonzero(layout.population_of == index) for index in range(3))
    draws = stream(0, "bench")
    ends = np.floor(share * len(part) * np.arange(ticks + 1)).astype(int)
    # After a feed-forward start the difference goes down to the layer above in two ticks.
    wakes = [out, above, *(draws.permutation(part)[:units] for units in np.diff(ends))]
    simulation = Simulation(
        Model(network),
        rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="potential"),
        loss="cross_entropy",
        schedule=_Plan(unit, tuple(wakes)),
    )
    simulation.caching = False
    simulation.start(*random_batch(batch, *shape))
    simulation.advance(2)
    return simulation


def tenth_over_dense(kind: UnitKind, sizes: Sizes) -> Result:
    """The larger ratio of two layers: the one has large weights, the other large planes. All of a
    layer wakes as one population, in the order of memory that suits that."""
    ratios, each, ticks = [], [], TICKS * (sizes.repeats + 1)
    for layer in CONV_LAYERS:
        tenth, dense = (
            waking(layer, woken, share, sizes.planes, ticks)
            for woken, share in ((kind, 0.1), ("population", 1.0))
        )
        calls = {"tenth": partial(tenth.advance, TICKS), "all": partial(dense.advance, TICKS)}
        seconds = alternate(calls, sizes.repeats)
        ratios.append(seconds["tenth"] / seconds["all"])
        each.append(f"{layer}: {ratios[-1]:.2f} of {1e3 * seconds['all'] / TICKS:.1f} ms")
    return max(ratios), "times", f"at most 0.25; all units awake; {', '.join(each)}"


TENTHS = tuple(
    Benchmark(
        f"{kind}_tenth_over_dense",
        f"a tenth of the {kind}s of a conv layer over all",
        partial(tenth_over_dense, kind),
    )
    for kind in ("column", "channel", "tile")
)
