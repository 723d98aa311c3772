"""What may happen to messages besides being late: one class each; they act in this order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from neurosim.channels.channel import Channel, Noise, Quantize
from neurosim.channels.draws import Draws
from neurosim.channels.message import Message


class Effect(ABC):
    """Changes a message in place. Draws are over the full shape, whatever was selected."""

    initial = True  # whether it also acts on what is seen at the start

    @abstractmethod
    def act(self, message: Message, draws: Draws) -> None:
        """Changes ``message.values`` or ``message.sent``."""

    def moves_zero(self) -> bool:
        """Whether it makes anything else of a value of 0."""
        return False


@dataclass(frozen=True)
class Quantizing(Effect):
    """The nearest level, or one of the two around the value with the value as their mean."""

    quantize: Quantize

    def act(self, message: Message, draws: Draws) -> None:
        origin, step, least, most = self.quantize.grid
        scaled = (message.values - origin) / step
        if self.quantize.rounding == "nearest":
            level = scaled.round()
        else:
            level = scaled.floor()
            share = draws.uniform("rounding", message.moment, message.shape, scaled.dtype)
            level += message.some(share) < scaled - level
        message.values = origin + level.clamp_(least, most) * step

    def moves_zero(self) -> bool:
        return self.quantize.grid[0] != 0.0


@dataclass(frozen=True)
class Noising(Effect):
    """v + std·ε, or v·(1 + std·ε)."""

    noise: Noise

    def act(self, message: Message, draws: Draws) -> None:
        values = message.values
        drawn = message.some(draws.normal("noise", message.moment, message.shape, values.dtype))
        if self.noise.kind == "additive":
            message.values = values + self.noise.std * drawn
        else:
            message.values = values * (1.0 + self.noise.std * drawn)

    def moves_zero(self) -> bool:
        return self.noise.kind == "additive"


@dataclass(frozen=True)
class Losing(Effect):
    """Each message is lost with a probability."""

    loss: float
    initial = False

    def act(self, message: Message, draws: Draws) -> None:
        drawn = draws.uniform("loss", message.moment, message.shape, torch.float32)
        message.sent, message.sure = message.sent & (message.some(drawn) >= self.loss), False


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
