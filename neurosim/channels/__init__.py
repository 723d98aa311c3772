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
from neurosim.channels.effects import Parcel
from neurosim.channels.line import Line, Wiring
from neurosim.channels.transit import NOTHING, Arrival, Copy, View

__all__ = [
    "NOTHING",
    "Arrival",
    "Channel",
    "Channels",
    "Copy",
    "Exponential",
    "Line",
    "MessageKind",
    "Moment",
    "Noise",
    "NoiseKind",
    "Ordering",
    "Parcel",
    "Per",
    "Quantize",
    "Rounding",
    "Uniform",
    "View",
    "Wiring",
]
