"""A message, as channels see it: the values that one population sends in one tick.

The sender makes a `Message` of what has changed; the effects of a channel change it; a `Transit`
holds it until it is seen in a `View`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neurosim.channels.draws import Moment
from neurosim.tensors import Arrays, Selection, Shape, Slot


@dataclass
class Message:
    """What one population sends over one line in one tick, or shows at the start.

    ``values`` and ``sent`` (which of them are messages, per sample) are of the ``selection``, of an
    array of ``shape`` (B, *population). ``sure``: there is a message among them for certain.
    """

    moment: Moment
    shape: Shape
    selection: Selection | None
    values: Tensor
    sent: Tensor
    sure: bool = True

    def some(self, array: Tensor) -> Tensor:
        """Returns the selected part of an array over ``shape``, on the values' device."""
        array = array.to(self.values.device, non_blocking=True)  # see `devices.upload`
        return array if self.selection is None else self.selection.take(array)


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
