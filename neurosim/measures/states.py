"""A probe that follows single dyads and synapses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, unknown
from neurosim.dynamics import Node, current_mean
from neurosim.families import Count, Whole, register
from neurosim.measures.probes import Observation, Probe, Record
from neurosim.network import Network
from neurosim.rules import Rule

What = Literal["plus", "minus", "mean", "difference", "potential", "sent_mean", "sent_difference"]
_Chosen = Mapping[str, tuple[Whole, ...]]


def _sent(cell: Node, kind: Literal["mean", "difference"]) -> Tensor:
    outlets = cell.outlets[kind]
    known: Tensor | None = outlets[0].sent.tensor if outlets else None
    return torch.zeros_like(cell.plus.value) if known is None else known


_READ: Mapping[What, Callable[[Node, Rule], Tensor]] = {
    "plus": lambda cell, rule: cell.plus.value,
    "minus": lambda cell, rule: cell.minus.value,
    "mean": current_mean,
    "difference": lambda cell, rule: (
        cell.plus.value - cell.minus.value if rule.paired else _sent(cell, "difference")
    ),
    "potential": lambda cell, rule: cell.potential(),
    "sent_mean": lambda cell, rule: _sent(cell, "mean"),
    "sent_difference": lambda cell, rule: _sent(cell, "difference"),
}


_Whats = Annotated[
    tuple[What, ...],
    Field(min_length=1, description="states, potential, or the messages that were last sent"),
]
_Weights = Annotated[
    _Chosen, Field(description="the numbers of weights, from 0, by their parameter")
]
_Sample = Annotated[Whole, Field(description="which sample of the batch, from 0")]


@register("states")
@dataclass(frozen=True)
class StatesProbe(Probe):
    """Records what chosen dyads have in one sample of the batch, and chosen weights.

    A dyad is called ``h1[5]``: the fifth from 0 of its population, row by row. Of
    complex numbers the real parts are recorded, and of outlets with several thresholds the first.
    """

    dyads: Annotated[
        _Chosen | None,
        Field(description="their numbers, from 0, by population; default: the first of each"),
    ] = None
    what: _Whats = ("plus", "minus")
    weights: _Weights = field(default_factory=dict)
    sample: _Sample = 0

    @property
    def observes(self) -> bool:
        return "potential" in self.what

    def check(self, network: Network, rule: Rule) -> None:
        _check(self.dyads or {}, _sizes(network), "population", "dyads")
        _check(self.weights, _parameters(network), "parameter", "weights")

    def measure(self, seen: Observation) -> Record:
        record: Record = {}
        dyads = self.dyads
        if dyads is None:
            dyads = {cell.name: (0,) for cell in seen.state.cells}
        for what in self.what if dyads else ():
            record[what] = {}
            for name, chosen in dyads.items():
                values = _READ[what](seen.state.by_name[name], seen.rule)
                if self.sample >= len(values):
                    said = f"there is no sample {self.sample} in a batch of {len(values)}"
                    raise ConfigurationError(f"the probe states: {said}", "sample")
                record[what] |= _named(name, values[self.sample], chosen)
        weights: dict[str, Tensor | None] = {}
        for link in seen.state.links:
            owned = {"weight": link.weight, "feedback": link.feedback}
            weights |= {f"{link.name}.{kind}": values for kind, values in owned.items()}
            if link.bias is not None:  # of the projections of a population one carries it
                weights[f"{link.post.name}.bias"] = link.bias
        for key, chosen in self.weights.items():
            if (found := weights.get(key)) is not None:
                record.setdefault("weight", {}).update(_named(key, found, chosen))
        return record


@dataclass(frozen=True)
class RecordPlan:
    """What is recorded into the file ``states.zarr`` of the run, at ticks of every inference."""

    states: Annotated[
        _Chosen | None,
        Field(description="the numbers of dyads, from 0, by population; default: none"),
    ] = None
    what: _Whats = ("plus", "minus")
    weights: _Weights = field(default_factory=dict)
    sample: _Sample = 0
    every: Annotated[Count, Field(description="a row every so many ticks")] = 1

    @property
    def probe(self) -> StatesProbe:
        """What measures it."""
        chosen = self.states or {}
        return StatesProbe(chosen, self.what, self.weights, self.sample, every=self.every)

    def check(self, network: Network, batch: int, *, study: bool, shards: bool) -> None:
        """Raises ConfigurationError for what is not there, or where nothing would be recorded."""
        if not any((*(self.states or {}).values(), *self.weights.values())):
            raise ConfigurationError("record: name dyads (states) or weights to record")
        if study:
            raise ConfigurationError("a study has records of its own: leave record out")
        if shards:
            said = "shards are computed one by one, in several processes: leave record out"
            raise ConfigurationError(said)
        self.check_batch(batch)
        _check(self.states or {}, _sizes(network), "population", "states", "record")
        _check(self.weights, _parameters(network), "parameter", "weights", "record")

    def check_batch(self, samples: int) -> None:
        """Raises ConfigurationError where the sample is not in a batch of so many."""
        if self.sample >= samples:
            said = f"record: there is no sample {self.sample} in a batch of {samples}"
            raise ConfigurationError(said, "sample")


def _named(name: str, values: Tensor, chosen: tuple[int, ...]) -> dict[str, float]:
    found = values.detach().real.reshape(-1)[list(chosen)].tolist()
    return {f"{name}[{n}]": value for n, value in zip(chosen, found, strict=True)}


def _sizes(network: Network) -> dict[str, int]:
    return {cell.name: cell.size for cell in network.dyadic}


def _parameters(network: Network) -> dict[str, int]:
    return {key: prod(shape) for key, shape in network.parameter_shapes().items()}


def _check(
    chosen: _Chosen,
    sizes: Mapping[str, int],
    what: str,
    option: str,
    owner: str = "the probe states",
) -> None:
    for name, numbers in chosen.items():
        if name not in sizes:
            raise ConfigurationError(f"{owner}: {unknown(what, name, sizes)}", option)
        for n in numbers:
            if n >= sizes[name]:
                said = f"{name!r} has {sizes[name]}, from 0 to {sizes[name] - 1}: there is no {n}"
                raise ConfigurationError(f"{owner}: {said}", option)
