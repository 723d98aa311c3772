"""The dyads of a population in simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.network import Held, Population
from neurosim.rules import Wake
from neurosim.tensors import Arrays, Dtypes, Slot, Stale, by_position, summed

if TYPE_CHECKING:
    from neurosim.dynamics.link import Link


class Dyads(Arrays):
    """The states of one population's dyads, (B, *shape).

    All of it is on one ``device``. ``held`` are those that never wake. ``by_position``: the order
    in which values are stored, see `tensors.order`. ``paired``: dyads have two states, or one that
    both names stand for. ``index`` is the number of the population, −1 for the input.

    ``difference`` is the last difference that was sent without a threshold. It is not written when
    the dyads wake but when they send: it *is* the slot ``sent`` of an `Outlet`, which over an ideal
    channel the populations below see as well. Weights learn from it, whoever is sent it.
    ``observed``: somebody asks for the basal potential as these dyads last computed it.
    """

    plain = ("damping", "reached_at")
    observed = False
    damping = 0.0
    # The tick of the first wake that the target of this inference had to do with. A difference
    # alone says little: noise makes one too.
    reached_at: int | None = None

    def __init__(
        self,
        population: Population,
        index: int,
        held: Held | None = None,
        *,
        by_position: bool = False,
        paired: bool = True,
        device: torch.device,
    ) -> None:
        self.device: torch.device = device
        self.held, self.by_position, self.paired = held, by_position, paired
        self.population, self.name, self.index = population, population.name, index
        # The arrays of the input are those that it sends, and counted there.
        shape = None if index < 0 else population.shape
        self.plus, self.difference = Slot(shape), Slot(shape)
        self.minus = Slot(shape) if paired else self.plus
        self.stale = Stale(population.shape)  # for what is not a message: target, bias, damping
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []

    def check(self, batch: int, dtypes: Dtypes) -> None:
        shape = (batch, *self.population.shape)
        for found in (self.plus.tensor, self.minus.tensor):
            if found is None or found.shape != shape or found.dtype not in dtypes:
                raise ValueError(f"its states have to be of shape {list(shape)}")

    def potential(self) -> Tensor:
        """Returns a as these dyads last computed it (B, *shape)."""
        total = summed(link.basal.tensor for link in self.incoming)
        return torch.zeros_like(self.plus.value) if total is None else total

    def activity(self) -> Tensor:
        """Returns f(a), a as these dyads last computed it (B, *shape); the values of an input."""
        if not self.incoming:
            return self.plus.value
        state = self.population.activation(self.potential())
        return state if self.held is None else self.stored(self.held.hold(state))

    def stored(self, array: Tensor) -> Tensor:
        """Returns values of the whole population in its order: products in another round in another
        way."""
        return by_position(array) if self.by_position else array

    @property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        """The dyads that can wake, as marks; None for all."""
        return None if self.held is None else self.held.alive

    def hold(self, wake: Wake) -> Wake:
        """Returns a wake of the whole population, without the dyads that never do."""
        if self.held is None:
            return wake
        plus, minus, mean = (self.stored(self.held.hold(array)) for array in wake[:3])
        difference = wake.difference
        if difference is not None:
            difference = self.stored(self.held.hold(difference, at_zero=self.paired))
        return Wake(plus, minus, mean, difference)
