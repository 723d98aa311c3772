"""Channels: what happens to a message on its way."""

from neurosim.channels.channel import Channel, Channels, MessageKind
from neurosim.channels.distributions import Distribution, Exponential, Uniform
from neurosim.channels.effects import Draws, Effect, Moment, Noise, Parcel, Quantize
from neurosim.channels.jittered import Jittered
from neurosim.channels.line import DelayLine, Delivery, View, Wiring
from neurosim.channels.steady import Steady
from neurosim.families import gather

gather(__name__)
