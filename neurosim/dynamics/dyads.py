"""The dyads of one population in simulation: their states, and what they keep of them."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from neurosim.network import Held, Population
from neurosim.rules import Wake
from neurosim.tensors import Arrays, Slot, Stale, by_position


class Dyads(Arrays):
    """The states of one population's dyads, (B, *shape).

    ``held`` are its dyads that never wake. ``by_position`` says in which order the values of all of
    them are stored, see `tensors.order`. ``paired``: dyads have two states, or one that both names
    stand for. ``index`` is the number of the population, −1 for the input.

    ``difference`` is the last difference that was sent without a threshold. It is not written when
    the dyads wake but when they send: the slot is that of an outlet, see `Node`.
    """

    plain = ("damping", "reached_at")
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
    ) -> None:
        self.held, self.by_position, self.paired = held, by_position, paired
        self.population, self.name, self.index = population, population.name, index
        # The arrays of the input are those that it sends, and counted there.
        shape = None if index < 0 else population.shape
        self.plus, self.difference = Slot(shape), Slot(shape)
        self.minus = Slot(shape) if paired else self.plus
        self.stale = Stale(population.shape)  # for what is not a message: target, bias, damping

    def stored(self, array: Tensor) -> Tensor:
        """Returns values of the whole population in its order: products in the other would round
        in another way. Other arrays are returned as they are."""
        return by_position(array) if self.by_position else array

    @property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        """The dyads that can wake, as marks; None for all."""
        return None if self.held is None else self.held.alive

    def hold(self, wake: Wake) -> Wake:
        """Returns a wake of the whole population, without the dyads that never do."""
        if self.held is None:
            return wake
        plus, minus, mean = (
            self.stored(self.held.hold(array)) for array in (wake.plus, wake.minus, wake.mean)
        )
        difference = wake.difference
        if difference is not None:
            difference = self.stored(self.held.hold(difference, at_zero=self.paired))
        return Wake(plus, minus, mean, difference)
