"""Messages on their way: a `Parcel` of what was sent, until it is seen in a `View`.

Times are ticks. What arrives at tick m is delivered at the end of tick m − 1, after everything was
sent: nothing happens in between, and whoever looks at the state between two ticks finds there what
the next one will read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from neurosim.channels.effects import Parcel
from neurosim.tensors import Arrays, Flags, Slot, reset_arrays

NOTHING = -1  # in place of the tick in which the last message was sent, where there is none


class View(Arrays):
    """What receivers see of a population: values and, where they are tracked, the ticks in which
    these were sent.

    Over an ideal channel ``value`` is the slot of what was last sent. ``mask`` (of the weight's
    shape) marks the synapses that see it; None stands for all.
    """

    def __init__(self, value: Slot, mask: Tensor | None = None, stamps: Slot | None = None) -> None:
        self.value, self.mask = value, mask
        self.stamps = stamps if stamps is not None else Slot()

    @property
    def slots(self) -> tuple[Slot, Slot]:
        return self.value, self.stamps

    def nbytes(self, sizes: object) -> int:
        del sizes
        return 0 if self.mask is None else self.mask.nbytes


class Delivery(NamedTuple):
    """Messages that reach one view.

    ``senders()`` returns which dyads sent any of them, over the population's shape. ``latest`` is
    where the `Flags` have the tick in which the last of them was sent, or NOTHING. ``show()`` has
    to be called then if there is anything; without it, all is shown.
    """

    view: View
    senders: Callable[[], Tensor]
    latest: int | None
    show: Callable[[], None] | None = None


class Transit(Arrays, ABC):
    """Holds the messages of one line between being sent and being seen."""

    views: Sequence[View]

    def clear(self) -> None:
        """Drops everything that is on its way."""
        reset_arrays(self)

    @abstractmethod
    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        """Takes messages. ``carried`` holds (values, send ticks) as the receivers will see them
        once all has arrived; ``share`` is uniform in [0, 1) and decides the jitter."""

    @abstractmethod
    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Delivery]:
        """Shows what arrives at ``tick``. ``asked``: the latest of it has to be known."""

    @abstractmethod
    def in_flight(self, tick: int) -> int:
        """Returns how many messages sent up to ``tick`` reach the last of their synapses later."""

    @abstractmethod
    def last_arrival(self) -> int:
        """Returns the tick of the last arrival to come, or an earlier one if there is none."""
