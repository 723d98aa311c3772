"""Channels: what happens to a message on its way."""

from neurosim.channels.channel import (
    Channel,
    Channels,
    MessageKind,
    Noise,
    NoiseKind,
    Ordering,
    Quantize,
    Rounding,
)
from neurosim.channels.distributions import Exponential, Per, Uniform
from neurosim.channels.draws import Moment
from neurosim.channels.line import DelayLine, Wiring
from neurosim.channels.message import Message, View
from neurosim.channels.transit import NOTHING, Delivery

__all__ = [
    "NOTHING",
    "Channel",
    "Channels",
    "DelayLine",
    "Delivery",
    "Exponential",
    "Message",
    "MessageKind",
    "Moment",
    "Noise",
    "NoiseKind",
    "Ordering",
    "Per",
    "Quantize",
    "Rounding",
    "Uniform",
    "View",
    "Wiring",
]
