"""What may happen to messages besides being late: one class each; they act in this order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim.channels.channel import Channel, Noise, Quantize
from neurosim.channels.draws import Draws, Moment
from neurosim.tensors import Selection, Shape


@dataclass
class Parcel:
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
        """The selected part of an array over ``shape``, on the values' device."""
        array = array.to(self.values.device, non_blocking=True)  # see `devices.upload`
        return array if self.selection is None else self.selection.take(array)


class Effect(ABC):
    """Changes a parcel in place. Draws are over the full shape, whatever was selected."""

    initial = True  # whether it also acts on what is seen at the start

    @abstractmethod
    def act(self, parcel: Parcel, draws: Draws) -> None:
        """Changes ``parcel.values`` or ``parcel.sent``."""

    def moves_zero(self) -> bool:
        """Whether it makes anything else of a value of 0."""
        return False


@dataclass(frozen=True)
class Quantizing(Effect):
    """The nearest level, or one of the two around the value with the value as their mean."""

    quantize: Quantize

    def act(self, parcel: Parcel, draws: Draws) -> None:
        origin, step, least, most = self.quantize.grid
        scaled = (parcel.values - origin) / step
        if self.quantize.rounding == "nearest":
            level = scaled.round()
        else:
            level = scaled.floor()
            share = draws.uniform("rounding", parcel.moment, parcel.shape, scaled.dtype)
            level += parcel.some(share) < scaled - level
        parcel.values = origin + level.clamp_(least, most) * step

    def moves_zero(self) -> bool:
        return self.quantize.grid[0] != 0.0


@dataclass(frozen=True)
class Noising(Effect):
    """v + std·ε, or v·(1 + std·ε)."""

    noise: Noise

    def act(self, parcel: Parcel, draws: Draws) -> None:
        values = parcel.values
        drawn = parcel.some(draws.normal("noise", parcel.moment, parcel.shape, values.dtype))
        if self.noise.kind == "additive":
            parcel.values = values + self.noise.std * drawn
        else:
            parcel.values = values * (1.0 + self.noise.std * drawn)

    def moves_zero(self) -> bool:
        return self.noise.kind == "additive"


@dataclass(frozen=True)
class Losing(Effect):
    """Each message is lost with a probability."""

    loss: float
    initial = False

    def act(self, parcel: Parcel, draws: Draws) -> None:
        drawn = draws.uniform("loss", parcel.moment, parcel.shape, torch.float32)
        parcel.sent, parcel.sure = parcel.sent & (parcel.some(drawn) >= self.loss), False


def effects_of(channel: Channel) -> tuple[Effect, ...]:
    """The effects of a channel in the order in which they act; none of them without strength."""
    effects: list[Effect] = []
    if channel.quantize is not None:
        effects.append(Quantizing(channel.quantize))
    if isinstance(channel.noise, Noise) and channel.noise.std > 0:
        effects.append(Noising(channel.noise))
    if channel.loss > 0:
        effects.append(Losing(channel.loss))
    return tuple(effects)
