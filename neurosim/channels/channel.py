"""Channels: what happens to one kind of message on one projection."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, SkipValidation
from torch import Tensor

from neurosim.base import LAST_TICK, NEVER, ConfigurationError, inside, ticks_of
from neurosim.channels.distributions import Distribution, Floats
from neurosim.channels.effects import Acting, Draws, Effect, Erasure, Noise, Quantize
from neurosim.families import Count, Described, Fraction, NotNegative, Written
from neurosim.maths import Dense
from neurosim.network import Network, Projection
from neurosim.tensors import Shape

MessageKind = Literal["mean", "difference"]
Ordering = Literal["fifo", "newest", "arrival"]

MAX_SLOTS = 1_000  # of the ring that jitter needs: each holds a message of every dyad
MAX_VIEWS = 1_000  # of synapses that are not equally late: each holds what they see of every dyad


class Given:
    """Delays that were given one by one, as numbers of the sender's or weight's shape."""

    def __init__(self, values: Floats) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def __repr__(self) -> str:
        return f"Given({self.tolist()})"

    @property
    def high(self) -> float:
        """The longest."""
        return float(self.values.max())

    def tolist(self) -> Any:
        """Returns the delays as nested lists."""
        return self.values.tolist()


@dataclass(frozen=True)
class Channel(Described):
    """Describes what happens to one kind of message on one projection. Times are simulated time.

    A woken dyad sends a value only where it differs from the last one that it sent by more than
    ``threshold``, and at every ``refresh``-th wake even if nothing changed. Then act, in this
    order: ``quantize``; ``noise``; ``effects``, one after the other; ``loss``. A message is on its
    way for max(1, ⌈(delay + jitter)/tick⌉) ticks.

    ``delay`` is a number, a `Distribution` (drawn once per sending dyad, or per synapse), or a
    tensor of the sender's shape, or of the weight's on a dense projection; delays per synapse count
    in whole ticks where there is ``jitter``. ``ordering``: with "fifo" a later message never
    overtakes, with "newest" an older one that arrives late is discarded, with "arrival" it
    overwrites. Raises ConfigurationError for values out of range.
    """

    threshold: Annotated[
        NotNegative,
        Field(description="a value that differs by more from the last one sent is sent itself"),
    ] = 0.0
    refresh: Annotated[Count | None, Field(description="send at every n-th wake in any case")] = (
        None
    )
    delay: Annotated[
        float | Distribution | Given | Tensor | Sequence[Any],
        SkipValidation(),
        Written(NotNegative | Distribution | list[Any]),
        Field(
            description="in simulated time, 0 as one tick: a number, a distribution, or a list of "
            "the sender's (weight's) shape"
        ),
    ] = 0.0
    jitter: Annotated[
        Distribution | None,
        Field(description="added to the delay, drawn for every message; in simulated time"),
    ] = None
    ordering: Annotated[
        Ordering,
        Field(
            description="fifo: none overtakes; newest: late ones are lost; arrival: they overwrite"
        ),
    ] = "fifo"
    loss: Annotated[Fraction, Field(description="probability that a message never arrives")] = 0.0
    noise: Annotated[
        NotNegative | Noise | None, Field(description="a number is the std of additive noise")
    ] = None
    quantize: Annotated[
        Quantize | None, Field(description="rounds messages to a grid of so many bits")
    ] = None
    effects: Annotated[
        tuple[Effect, ...], Field(description="what else changes messages, after the noise")
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "delay", _delay(self.delay))
        if isinstance(self.noise, float):
            object.__setattr__(self, "noise", Noise(self.noise))
        if self.jitter is not None and self.jitter.per != "dyad":
            raise ConfigurationError(
                f"jitter is drawn per message; it cannot be per {self.jitter.per}", "jitter"
            )

    @property
    def acting(self) -> tuple[Acting, ...]:
        """The effects in the order in which they act: none without strength."""
        noisy = isinstance(self.noise, Noise) and self.noise.std > 0
        first = (self.quantize, self.noise if noisy else None)
        found = [Acting(effect) for effect in first if isinstance(effect, Effect)]
        known: Counter[str] = Counter()
        for effect in self.effects:
            found.append(Acting(effect, ("effects", effect.name, str(known[effect.name]))))
            known[effect.name] += 1
        if self.loss > 0:
            found.append(Acting(Erasure(self.loss)))
        return tuple(found)

    def is_ideal(self, tick: float) -> bool:
        """Says if what was sent in one tick is seen, as it was sent, in the next."""
        prompt = isinstance(self.delay, float) and ticks_of(self.delay, tick) <= 1
        return prompt and not self.acting and not self.jittery

    def least_ticks(self, tick: float) -> int:
        """Returns the ticks that a message takes at least; `NEVER` where all are lost."""
        delay, jitter = self.delay, 0.0
        if isinstance(delay, Given):
            delay = float(delay.values.min())
        elif isinstance(delay, Distribution):
            delay = float(delay.quantile(np.zeros(1))[0])
        if self.jitter is not None:
            jitter = float(self.jitter.quantile(np.zeros(1))[0])
        assert isinstance(delay, float)
        return NEVER if self.loss == 1 else max(1, ticks_of(delay + jitter, tick))

    def is_exact(self, tick: float) -> bool:
        """Says if what a sender has in one tick is seen in the next: it sends every change."""
        return self.is_ideal(tick) and not self.threshold

    @property
    def jittery(self) -> bool:
        """Says if messages are late by times of their own."""
        return self.jitter is not None and self.jitter.high > 0

    def check(self, projection: Projection, kind: MessageKind, tick: float) -> None:
        """Raises ConfigurationError for a delay that this projection cannot have."""
        sender, weight = _shapes(projection, kind)
        delay, jitter = self.delay, self.jitter.high if self.jitter is not None else 0.0
        latest = delay.high if isinstance(delay, Distribution | Given) else float(delay)  # type: ignore[arg-type]
        key: tuple[str, ...] = ("delay",)
        if isinstance(delay, Given) and delay.values.shape not in (sender, weight):
            problem = f"delay is a tensor of shape {list(delay.values.shape)}; it must be "
            problem += f"{list(sender)} (one per sending dyad)"
            if weight is not None:
                problem += f" or {list(weight)} (one per synapse)"
        elif isinstance(delay, Distribution) and delay.per == "synapse" and weight is None:
            found, key = type(projection.operator).__name__, ("delay", "per")
            problem = "a delay per synapse needs a dense projection, and this is "
            problem += f"{found}; use per dyad"
        elif jitter and (latest + jitter) / tick > MAX_SLOTS:
            key = ("jitter",)
            problem = (
                f"a message takes up to {latest + jitter:g}, which is more than {MAX_SLOTS:,} "
                f"ticks of {tick:g}; where there is jitter, use a shorter time or a longer tick"
            )
        elif (views := self._views(sender, weight, tick)) > MAX_VIEWS:
            problem = (
                f"its synapses may be late by {views:,} different numbers of ticks, and what they "
                f"see is kept for each: at most {MAX_VIEWS:,}. Use a longer tick, times that are "
                "closer, or delays per dyad"
            )
        elif latest / tick > LAST_TICK:
            problem = (
                f"delay is up to {latest:g}, which is more than {LAST_TICK:,} ticks of {tick:g}"
            )
        else:
            return
        raise ConfigurationError(
            f"{kind} channel of projection {projection.name!r}: {problem}", key
        )

    def _views(self, sender: Shape, weight: Shape | None, tick: float) -> int:
        """Returns by how many numbers of ticks synapses may be late; 1 for delays of dyads."""
        delay = self.delay
        if isinstance(delay, Given):
            ticks = arrival_ticks(torch.tensor(delay.values), tick)
            return len(torch.unique(ticks)) if ticks.shape == weight != sender else 1
        if not isinstance(delay, Distribution) or delay.per == "dyad" or weight is None:
            return 1
        ends = float(delay.quantile(np.zeros(1))[0]), delay.high
        first, last = (max(1, ticks_of(end, tick)) for end in ends)
        return min(last - first + 1, prod(weight))

    def delays(self, projection: Projection, kind: MessageKind, draws: Draws) -> Floats:
        """Returns the delay in simulated time: a number, of the sender's or the weight's shape."""
        if isinstance(self.delay, Given):
            return self.delay.values
        if isinstance(self.delay, Distribution):
            sender, weight = _shapes(projection, kind)
            shape = weight if self.delay.per == "synapse" else sender
            assert shape is not None
            return self.delay.quantile(draws.once("delay", shape).numpy())
        return np.array(self.delay, dtype=np.float64)


def arrival_ticks(times: Tensor, tick: float) -> Tensor:
    """Returns max(1, ⌈time/tick⌉), forgiving round-off just above a whole number."""
    return torch.clamp(torch.ceil(times / tick - 1e-9), min=1.0).long()


def _delay(values: Any) -> float | Distribution | Given:
    """Returns what says the delay, made a number or an array.

    Raises ConfigurationError where it is no number, no distribution, and no tensor of numbers.
    """
    if isinstance(values, Distribution | Given):
        return values
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype.itemsize == 2 else values).numpy()
    wrong = ConfigurationError(
        "delay must be a number, a distribution, or a tensor of numbers in which all rows have the "
        "same length",
        "delay",
    )
    try:
        array = np.array(values)
    except (TypeError, ValueError):
        raise wrong from None
    if not array.size:
        raise ConfigurationError("delay is an empty tensor", "delay")
    if array.dtype.kind not in "iuf":
        raise wrong
    array = array.astype(np.float64)
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at index {list(index)}" if index else ""
        raise ConfigurationError(
            f"delay{where} is {array[index]:g}; it must be finite and at least 0",
            ("delay", *index),
        )
    array.setflags(write=False)
    return Given(array) if array.ndim else float(array)


def _shapes(projection: Projection, kind: MessageKind) -> tuple[Shape, Shape | None]:
    """Returns the shapes of the senders, and of the weight if synapses can have delays."""
    operator = projection.operator
    sender = operator.pre if kind == "mean" else operator.post
    return sender, operator.weight_shape if isinstance(operator, Dense) else None


@dataclass(frozen=True)
class Channels(Described):
    """Describes the channels of all projections: one for mean and one for difference messages.

    ``overrides`` gives other channels to single projections, by name:
    ``{"h1->h2": {"difference": Channel(threshold=1e-3)}}``.
    """

    mean: Annotated[Channel, Field(description="messages up: activity")] = Channel()
    difference: Annotated[Channel, Field(description="messages down: errors")] = Channel()
    overrides: Annotated[
        Mapping[str, Mapping[MessageKind, Channel | None]],
        Field(description="other channels for one projection, by its name"),
    ] = field(default_factory=dict)

    def resolve(self, network: Network, tick: float) -> dict[tuple[str, MessageKind], Channel]:
        """Returns the channel of each projection and kind.

        Raises ConfigurationError for a channel that its projection cannot have, NetworkError for a
        projection that the network does not have.
        """
        overrides: dict[tuple[str, str], tuple[str, Channel]] = {}
        for name, kinds in self.overrides.items():
            with inside("overrides", name):
                projection = network.projection(name)
                said = f"projection {projection.name!r}"
                for kind, channel in kinds.items():
                    if channel is None:
                        continue
                    if kind == "difference" and projection.pre == network.input.name:
                        why = f"{said} comes from the input, which is sent no differences"
                        raise ConfigurationError(why, kind)
                    if (projection.name, kind) in overrides:
                        raise ConfigurationError(
                            f"the {kind} channel of {said} is overridden twice"
                        )
                    overrides[projection.name, kind] = name, channel
        resolved: dict[tuple[str, MessageKind], Channel] = {}
        defaults: dict[MessageKind, Channel] = {"mean": self.mean, "difference": self.difference}
        for projection in network.projections:
            for kind, default in defaults.items():
                name, channel = overrides.get((projection.name, kind), ("", default))
                with inside(*(("overrides", name) if name else ()), kind):
                    channel.check(projection, kind, tick)
                resolved[projection.name, kind] = channel
        return resolved

    def round_trip(self, network: Network, tick: float) -> int | None:
        """Returns 1 + hops × delay, in ticks: on the longest way, by the least delays, from a new
        input to the output and down again to the first dyads. None where there is a cycle."""
        if network.cycle is not None:
            return None
        ticks = {key: one.least_ticks(tick) for key, one in self.resolve(network, tick).items()}
        names = sorted(network.levels, key=network.levels.__getitem__)
        up, down = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for name in names:
            ways = (up[p.pre] + ticks[p.name, "mean"] for p in network.incoming(name))
            up[name] = max(ways, default=0)
        for name in reversed(names[1:]):
            ways = (down[p.post] + ticks[p.name, "difference"] for p in network.outgoing(name))
            down[name] = max(ways, default=0)
        return 1 + up[network.output.name] + max(down.values())
