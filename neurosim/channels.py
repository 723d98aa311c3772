"""Channels: what happens to one kind of message on one projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from neurosim.checks import check_not_negative
from neurosim.errors import ConfigurationError
from neurosim.network import Network
from neurosim.schedules.base import ticks_of

MessageKind = Literal["mean", "difference"]


@dataclass(frozen=True)
class Channel:
    """One kind of message on one projection.

    A dyad sends a value only where it differs from the last one that it sent by more than
    ``threshold``. A message is on its way for max(1, ⌈delay/tick⌉) ticks; ``delay`` is in
    simulated time, and so far at most one tick: channels are ideal.

    Raises ConfigurationError for a negative or infinite value.
    """

    threshold: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative(threshold=self.threshold, delay=self.delay)

    def check(self, tick: float, where: str) -> None:
        """Raises ConfigurationError for a delay that takes more than one tick."""
        if ticks_of(self.delay, tick) > 1:
            raise ConfigurationError(
                f"{where}: delay is {self.delay:g}, but a tick is {tick:g} and delays longer than "
                "one tick are not available in this version",
                "delay",
            )


@dataclass(frozen=True)
class Channels:
    """The channels of all projections: one for mean and one for difference messages.

    ``overrides`` gives other channels to single projections, by name:
    ``{"h1->h2": {"difference": Channel(threshold=1e-3)}}``.
    """

    mean: Channel = Channel()
    difference: Channel = Channel()
    overrides: Mapping[str, Mapping[MessageKind, Channel]] = field(default_factory=dict)

    def resolve(self, network: Network, tick: float) -> dict[tuple[str, MessageKind], Channel]:
        """The channel of each projection and kind. Raises for unknown names and kinds."""
        overrides: dict[tuple[str, str], Channel] = {}
        for name, kinds in self.overrides.items():
            projection = network.projection(name)
            for kind, channel in kinds.items():
                if kind not in ("mean", "difference"):
                    raise ConfigurationError(
                        f"channel override of {name!r}: {kind!r} is not 'mean' or 'difference'"
                    )
                if (projection.name, kind) in overrides:
                    raise ConfigurationError(
                        f"the {kind} channel of projection {projection.name!r} is overridden twice",
                        ("overrides", name),
                    )
                overrides[projection.name, kind] = channel
        resolved: dict[tuple[str, MessageKind], Channel] = {}
        kinds_and_defaults: tuple[tuple[MessageKind, Channel], ...] = (
            ("mean", self.mean),
            ("difference", self.difference),
        )
        for projection in network.projections:
            for kind, default in kinds_and_defaults:
                channel = overrides.get((projection.name, kind), default)
                channel.check(tick, f"{kind} channel of projection {projection.name!r}")
                resolved[projection.name, kind] = channel
        return resolved
