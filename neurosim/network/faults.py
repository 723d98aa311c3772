"""Neuron faults: what is broken in a network, from the start and for good."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, stream, unknown
from neurosim.families import Bounded, Described, Fraction, NotNegative
from neurosim.network.network import Network
from neurosim.network.parts import Population
from neurosim.tensors import Ints


@dataclass(frozen=True)
class Faults(Described):
    """Describes which dyads are broken, and how much synapses mismatch.

    ``dead`` dyads never wake: their states stay 0. ``stuck`` ones never wake either: s⁺ = s⁻ =
    ``stuck_at``. Both are drawn once from every population in ``populations`` (default: all hidden
    ones). ``weight_noise`` is static mismatch: every synapse multiplies by W·(1 + weight_noise·ε),
    ε standard normal, drawn once; the way back through the same synapse has an ε of its own unless
    ``weight_noise_shared``. Learning changes W and knows nothing of the mismatch. (Clocks drift
    with the ``spread`` of `Periodic`.)

    Raises:
        ConfigurationError: for values out of range.
    """

    dead: Annotated[Fraction, Field(description="fraction of dyads that never wake")] = 0.0
    stuck: Annotated[Fraction, Field(description="fraction of dyads whose state never changes")] = (
        0.0
    )
    stuck_at: Annotated[Bounded, Field(description="the state of stuck dyads")] = 0.0
    weight_noise: Annotated[
        NotNegative, Field(description="static mismatch, relative to each weight")
    ] = 0.0
    weight_noise_shared: Annotated[bool, Field(description="the same in both directions")] = False
    populations: Annotated[
        Sequence[str] | None, Field(description="whose dyads are broken; default: all hidden ones")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dead + self.stuck > 1.0:
            raise ConfigurationError(
                f"dead is {self.dead:g} and stuck is {self.stuck:g}: together more than all dyads",
                "stuck",
            )

    def damage(self, network: Network, seed: int) -> Damage:
        """Draws what these faults do to a network.

        Raises:
            ConfigurationError: for unknown populations.
        """
        held: dict[str, Held] = {}
        for population in self._afflicted(network):
            order = stream(seed, "faults", population.name).permutation(population.size)
            # From both ends, so that neither kind depends on how many there are of the other.
            dead = order[: round(self.dead * population.size)]
            rest = population.size - len(dead)
            stuck = order[::-1][: min(rest, round(self.stuck * population.size))]
            if len(dead) + len(stuck):
                held[population.name] = Held(population, dead, stuck, self.stuck_at)
        forward = self._factors(network, seed, "forward")
        shared = self.weight_noise_shared
        return Damage(
            held, forward, forward if shared else self._factors(network, seed, "feedback")
        )

    def _factors(self, network: Network, seed: int, way: str) -> dict[str, Tensor]:
        """What each weight is multiplied by on one of the two ways."""
        found = {}
        for projection in network.projections if self.weight_noise else ():
            if (shape := projection.operator.weight_shape) is not None:
                draws = stream(seed, "faults", projection.name, way).standard_normal(shape)
                found[projection.name] = torch.from_numpy(1.0 + self.weight_noise * draws)
        return found

    def _afflicted(self, network: Network) -> list[Population]:
        names = [p.name for p in network.dyadic]
        for number, name in enumerate(self.populations or ()):
            if name not in names:
                said = unknown("population", name, names)
                raise ConfigurationError(said, ("populations", number))
        if self.populations is None:
            return [p for p in network.dyadic if p.role == "hidden"]
        return [p for p in network.dyadic if p.name in self.populations]


class Held:
    """The dyads of one population whose states never change."""

    def __init__(self, population: Population, dead: Ints, stuck: Ints, stuck_at: float) -> None:
        self.dead, self.stuck = len(dead), len(stuck)
        values = np.zeros(population.size)
        values[stuck] = stuck_at
        self.dyads: Ints = np.sort(np.concatenate([dead, stuck])).astype(np.int64)
        self.alive: npt.NDArray[np.bool_] = np.ones(population.size, dtype=bool)
        self.alive[self.dyads] = False
        self._index = torch.from_numpy(self.dyads)
        self._values = torch.from_numpy(values[self.dyads])

    def to(self, device: torch.device, dtype: torch.dtype) -> Held:
        """The same with its arrays there."""
        moved = copy.copy(self)
        moved._index, moved._values = self._index.to(device), self._values.to(device, dtype)
        return moved

    def hold(self, array: Tensor, *, at_zero: bool = False) -> Tensor:
        """A copy of an array (B, *shape) in which these dyads have their states (or zeros)."""
        values = self._values.to(array.device, array.dtype)
        if at_zero:
            values = torch.zeros_like(values)
        index = self._index.to(array.device)
        held = array.flatten(1).index_copy(1, index, values.expand(len(array), -1))
        return held.view(array.shape)


@dataclass(frozen=True)
class Damage:
    """The faults of one network, drawn. Without any it changes nothing."""

    held: Mapping[str, Held] = field(default_factory=dict)
    forward_factors: Mapping[str, Tensor] = field(default_factory=dict)
    feedback_factors: Mapping[str, Tensor] = field(default_factory=dict)

    def to(
        self, devices: Mapping[str, torch.device], synapses: Mapping[str, torch.device], *how: Any
    ) -> Damage:
        """The same with its arrays on the ``devices`` of populations, and of the ``synapses`` of
        projections, and of that dtype: so that no product has to bring them."""
        held = {name: held.to(devices[name], *how) for name, held in self.held.items()}

        def moved(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: factor.to(synapses[name], *how) for name, factor in factors.items()}

        forward, shared = moved(self.forward_factors), self.feedback_factors is self.forward_factors
        return Damage(held, forward, forward if shared else moved(self.feedback_factors))

    def hold(self, population: str, array: Tensor) -> Tensor:
        """Dyads that never wake have their values in an array of the population's states."""
        held = self.held.get(population)
        return array if held is None else held.hold(array)

    def forward_weight(self, projection: str, weight: Tensor) -> Tensor:
        """What the projection multiplies means by."""
        return _times(weight, self.forward_factors.get(projection))

    def feedback_weight(self, projection: str, weight: Tensor) -> Tensor:
        """What it multiplies differences by, transposed."""
        return _times(weight, self.feedback_factors.get(projection))

    def touches(self, projection: str) -> bool:
        """Whether any synapse of the projection has another weight than that of the model."""
        return projection in self.forward_factors or projection in self.feedback_factors

    def is_alike(self, projection: str) -> bool:
        """Whether the way back through the projection has the weights of the way up."""
        forward, feedback = self.forward_factors, self.feedback_factors
        return forward.get(projection) is feedback.get(projection)

    def summary(self) -> dict[str, Any]:
        """How many dyads are broken, by population."""
        return {
            "dead": {name: held.dead for name, held in self.held.items() if held.dead},
            "stuck": {name: held.stuck for name, held in self.held.items() if held.stuck},
        }


def _times(weight: Tensor, factor: Tensor | None) -> Tensor:
    return weight if factor is None else weight * factor.to(weight.device, weight.dtype)
