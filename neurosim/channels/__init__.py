"""Channels: what happens to a message on its way."""

from neurosim.channels.channel import Channel, Channels, MessageKind, Ordering
from neurosim.channels.distributions import Distribution, Exponential, Per, Uniform
from neurosim.channels.draws import Draws, Moment
from neurosim.channels.effects import Effect, Noise, NoiseKind, Parcel, Quantize, Rounding
from neurosim.channels.line import DelayLine, Wiring
from neurosim.channels.transit import NOTHING, Delivery, View
