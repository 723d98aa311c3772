"""What a scenario may say about channels and faults."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from neurosim.base import Bounded, Count, Fraction, NotNegative, Positive, inside
from neurosim.channels import (
    Channel,
    Channels,
    Exponential,
    MessageKind,
    Noise,
    NoiseKind,
    Ordering,
    Per,
    Quantize,
    Rounding,
    Uniform,
)
from neurosim.network import Faults
from neurosim.scenario.sections.base import Maker, Section


class UniformSection(Maker):
    """Uniform between ``low`` and ``high``, in simulated time."""

    makes = Uniform
    kind: Literal["uniform"]
    low: NotNegative
    high: NotNegative
    per: Per = "dyad"


class ExponentialSection(Maker):
    """Exponential with scale ``scale``, cut off at ``high``, in simulated time."""

    makes = Exponential
    kind: Literal["exponential"]
    scale: Positive
    high: Positive
    per: Per = "dyad"


AnyDistribution = Annotated[UniformSection | ExponentialSection, Field(discriminator="kind")]
Nested = list[Any]


class NoiseSection(Maker):
    """Gaussian noise on every message; relative noise is in units of the message."""

    makes = Noise
    kind: NoiseKind = "additive"
    std: NotNegative

    def make(self) -> Noise:
        return Noise(self.std, self.kind)


class QuantizeSection(Maker):
    """Messages as multiples of a step: 2^bits − 1 levels in [−range, range], 2^bits in a pair."""

    makes = Quantize
    bits: Count
    range: Bounded | tuple[Bounded, Bounded]
    rounding: Rounding = "nearest"


class ChannelSection(Section):
    """What happens to one kind of message on one projection. Times are simulated time."""

    threshold: NotNegative = 0.0
    refresh: Count | None = Field(None, description="send at every n-th wake in any case")
    delay: NotNegative | AnyDistribution | Nested = Field(
        0.0, description="a number, a distribution, or a tensor of the sender's (weight's) shape"
    )
    jitter: AnyDistribution | None = None
    ordering: Ordering = "fifo"
    loss: Fraction = 0.0
    noise: NotNegative | NoiseSection | None = Field(
        None, description="a number is the std of additive noise"
    )
    quantize: QuantizeSection | None = None

    def make(self) -> Channel:
        arguments = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in arguments.items():
            if isinstance(value, Maker):
                with inside(name):
                    arguments[name] = value.make()
        return Channel(**arguments)


class OverrideSection(Section):
    """Other channels for one projection."""

    mean: ChannelSection | None = None
    difference: ChannelSection | None = None


class ChannelsSection(Section):
    """The channels of all projections."""

    mean: ChannelSection = ChannelSection()
    difference: ChannelSection = ChannelSection()
    overrides: dict[str, OverrideSection] = Field(default_factory=dict)

    def make(self) -> Channels:
        made: dict[MessageKind, Channel] = {}
        for kind in get_args(MessageKind):
            with inside(kind):
                made[kind] = getattr(self, kind).make()
        overrides: dict[str, dict[MessageKind, Channel]] = {}
        for name, override in self.overrides.items():
            overrides[name] = {}
            for kind in get_args(MessageKind):
                section: ChannelSection | None = getattr(override, kind)
                if section is not None:
                    with inside("overrides", name, kind):
                        overrides[name][kind] = section.make()
        return Channels(made["mean"], made["difference"], overrides)


class FaultsSection(Maker):
    """Broken dyads and mismatched synapses, drawn once."""

    makes = Faults
    dead: Fraction = Field(0.0, description="fraction of dyads that never wake")
    stuck: Fraction = Field(0.0, description="fraction of dyads whose state never changes")
    stuck_at: Bounded = Field(0.0, description="the state of stuck dyads")
    weight_noise: NotNegative = Field(0.0, description="static mismatch, relative to each weight")
    weight_noise_shared: bool = Field(False, description="the same in both directions")
    populations: list[str] | None = Field(None, description="default: all hidden ones")
