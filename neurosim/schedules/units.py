"""Units: the dyads that wake together, and their numbering over a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from neurosim.base import ConfigurationError, NetworkError
from neurosim.families import Count, Described
from neurosim.maths import MAX_DYADS
from neurosim.network import Network, Population
from neurosim.tensors import Ints, Selection, Whole, places

UnitKind = Literal["neuron", "channel", "column", "tile", "block", "population"]
DEFAULT_SIZES = {"tile": 4, "block": 64}
# What of a conv population these have, or are.
WHOLE: dict[str, Whole] = {"channel": "channels", "column": "positions", "tile": "positions"}


@dataclass(frozen=True)
class Unit(Described):
    """A kind of unit; ``size`` is the edge of a tile in positions, or the dyads of a block.

    On a population (N,): channel = neuron, column = population, tile = block.
    """

    kind: Annotated[
        UnitKind,
        Field(description="what of a conv population a unit is: all channels of a tile, column, …"),
    ]
    size: Annotated[
        Count | None, Field(description="edge of a tile in positions (4), or dyads of a block (64)")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and self.kind not in DEFAULT_SIZES:
            raise ConfigurationError(
                f"unit {self.kind!r} with size {self.size}: only a tile or a block has one"
            )

    @classmethod
    def of(cls, unit: Unit | UnitKind) -> Unit:
        """A unit, or the unit of that kind with its default size."""
        return unit if isinstance(unit, Unit) else cls(unit)

    @property
    def has_positions(self) -> bool:
        """Whether it is all channels of a conv population at some positions."""
        return WHOLE.get(self.kind) == "positions"

    def on(self, population: Population) -> Unit:
        """The kind of unit that this one is on a population: resolves the flat cases and sizes."""
        kind, size = self.kind, self.size
        if len(population.shape) == 1:
            kind = {"channel": "neuron", "column": "population", "tile": "block"}.get(kind, kind)  # type: ignore[assignment]
            # A tile's edge does not say how many dyads a block has.
            size = size if self.kind == kind else None
        return Unit(kind, size if size is not None else DEFAULT_SIZES.get(kind))

    def membership(self, population: Population) -> Ints:
        """The unit of each dyad, by flat index."""
        unit = self.on(population)
        flat: Ints = np.arange(population.size, dtype=np.int64)
        if unit.kind in ("neuron", "population"):
            return flat if unit.kind == "neuron" else np.zeros_like(flat)
        if unit.kind == "block":
            return flat // (unit.size or 1)
        _, height, width = population.shape
        channel, position = np.divmod(flat, height * width)
        if unit.kind in ("channel", "column"):
            return channel if unit.kind == "channel" else position
        row, column = np.divmod(position, width)
        edge = unit.size or 1
        tiles: Ints = (row // edge) * -(-width // edge) + column // edge
        return tiles


UnitChoice = Annotated[
    UnitKind | Unit, Field(description="what wakes together; with a size: {kind: tile, size: 2}")
]


class Layout:
    """All units of a network, numbered from 0 in the order of its dyadic populations."""

    def __init__(self, network: Network, unit: Unit) -> None:
        if network.dyads > MAX_DYADS:
            raise NetworkError(
                f"the network has {network.dyads:,} dyads; a simulation holds at most {MAX_DYADS:,}"
            )
        self.network, self.unit = network, unit
        self.populations = network.dyadic
        self.names = [p.name for p in self.populations]
        self._kinds = [unit.on(p).kind for p in self.populations]
        self._membership = [unit.membership(p) for p in self.populations]
        counts = [int(m[-1]) + 1 for m in self._membership]
        self.counts: Ints = np.array(counts, dtype=np.int64)
        self.offsets: Ints = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        # Plain numbers are faster than those of numpy.
        self._counts, self._offsets = counts, self.offsets.tolist()
        self._whole = [WHOLE.get(kind) for kind in self._kinds]
        self.total = self._offsets[-1]

    @cached_property
    def population_of(self) -> Ints:
        """The population index of each unit."""
        return np.repeat(np.arange(len(self.populations)), self.counts)

    def split(self, units: Ints) -> list[tuple[int, Ints]]:
        """Ascending unit numbers as (population index, units within it), populations in order."""
        found, low = [], 0
        for p, high in enumerate(units.searchsorted(self.offsets[1:]).tolist()):
            if high > low:
                found.append((p, units[low:high] - self._offsets[p]))
            low = high
        return found

    def dyads(self, population: int, units: Ints) -> Ints | None:
        """Flat indices of the dyads of these units, ascending; None for all of the population."""
        if len(units) == self._counts[population]:
            return None
        if self._kinds[population] == "neuron":
            return units
        woken = np.zeros(self.counts[population], dtype=bool)
        woken[units] = True
        return places(woken[self._membership[population]])

    def units(self, population: int, dyads: npt.NDArray[np.bool_]) -> Ints:
        """Unit numbers (over the network) that hold any of the marked dyads, ascending."""
        if not dyads.any():
            return np.empty(0, dtype=np.int64)
        found: Ints = np.unique(self._membership[population][dyads]) + self.offsets[population]
        return found

    def totals(self, values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Returns the sum over each unit's dyads of values that are given flat by population."""
        parts = zip(self._membership, values, self.counts, strict=True)
        return np.concatenate([np.bincount(m, v, minlength=int(count)) for m, v, count in parts])

    def alive(self, dyads: Mapping[str, npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_] | None:
        """Which units hold a dyad that is alive (marks by population); None for all of them."""
        if not dyads:
            return None
        marks = [dyads.get(p.name, np.ones(p.size, dtype=bool)) for p in self.populations]
        alive: npt.NDArray[np.bool_] = self.totals(marks) > 0
        return alive

    def selection(
        self,
        population: int,
        units: Ints,
        alive: npt.NDArray[np.bool_] | None,
        device: torch.device,
    ) -> Selection | None:
        """The dyads of these units as far as they are alive; None for all of the population."""
        shape, dyads = self.populations[population].shape, self.dyads(population, units)
        if alive is not None:
            some = np.flatnonzero(alive) if dyads is None else dyads[alive[dyads]]
            return Selection(shape, some, device)
        if dyads is None:
            return None
        return Selection(shape, dyads, device, self._whole[population])
