"""Messages on their way: what was sent, until it is seen.

Times are ticks. What arrives at tick m is delivered at the end of tick m − 1, after everything was
sent: nothing happens in between, and whoever looks at the state between two ticks finds there what
the next one will read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from neurosim.channels.effects import Parcel
from neurosim.tensors import Flags, Slot

Copy = Callable[[Tensor | None], Tensor | None]


class View:
    """What the receivers see of a population: values and, where they are tracked, send ticks.

    ``mask`` (of the weight's shape) says which synapses see it; None for all.
    """

    __slots__ = ("mask", "stamps", "value")

    def __init__(self, value: Slot | None = None, mask: Tensor | None = None) -> None:
        self.value = value if value is not None else Slot()
        self.stamps = Slot()
        self.mask = mask

    @property
    def slots(self) -> tuple[Slot, Slot]:
        return self.value, self.stamps


NOTHING = -1  # in place of the tick in which the last message was sent, where there is none


class Arrival(NamedTuple):
    """Messages that reach one view.

    ``senders()`` are the dyads, over the population's shape, that sent any of them. ``latest`` is
    where the `Flags` have the tick in which the last of them was sent, or NOTHING. ``show()`` has
    to be called then if there is anything; without it, all is shown.
    """

    view: View
    senders: Callable[[], Tensor]
    latest: int | None
    show: Callable[[], None] | None = None


class Transit(ABC):
    """Where the messages of one line are between being sent and being seen."""

    views: Sequence[View]

    @abstractmethod
    def clear(self) -> None:
        """Nothing is on its way."""

    @abstractmethod
    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        """Takes messages. ``carried`` holds (values, send ticks) as the receivers will see them
        once all has arrived; ``share`` is uniform in [0, 1) and decides the jitter."""

    @abstractmethod
    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Arrival]:
        """Shows what arrives at ``tick``. ``asked``: the latest of it has to be known."""

    @abstractmethod
    def in_flight(self, tick: int) -> int:
        """Messages sent up to ``tick`` that reach the last of their synapses later."""

    @abstractmethod
    def last_arrival(self) -> int:
        """The tick of the last arrival to come, or an earlier one if there is none."""

    @abstractmethod
    def memory(self, elements: int, bytes_each: int, ticks: int) -> int:
        """Bytes that an inference of ``ticks`` ticks needs at most for the messages on their way
        and what is seen of them: arrays of so many ``elements``, with ``bytes_each``."""

    @abstractmethod
    def state_dict(self, copied: Copy) -> dict[str, Any]:
        """What is on its way, as tensors and numbers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any], load: Copy) -> None:
        """Restores what `state_dict` returned."""


# ---- delays that do not change -------------------------------------------------------------------


# ---- jitter --------------------------------------------------------------------------------------
