"""Channels: what happens to one kind of message on one projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from neurosim.base import (
    LAST_TICK,
    ConfigurationError,
    check_choices,
    check_counts,
    check_not_negative,
    inside,
    ticks_of,
)
from neurosim.channels.distributions import Distribution, Floats
from neurosim.channels.draws import Draws
from neurosim.maths import Dense
from neurosim.network import Network, Projection
from neurosim.tensors import Shape

MessageKind = Literal["mean", "difference"]
Ordering = Literal["fifo", "newest", "arrival"]
NoiseKind = Literal["additive", "relative"]
Rounding = Literal["nearest", "stochastic"]

MAX_SLOTS = 1_000  # of the ring that jitter needs: each holds a message of every dyad


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on every message: v + std·ε (additive), or v·(1 + std·ε) (relative).

    Raises ConfigurationError for a negative or infinite ``std``.
    """

    std: float
    kind: NoiseKind = "additive"

    def __post_init__(self) -> None:
        check_not_negative(std=self.std)
        check_choices(kind=(self.kind, NoiseKind))


@dataclass(frozen=True)
class Quantize:
    """Messages as whole multiples of a step, clipped to a range.

    A number r as ``range`` stands for [−r, r] and has 2^bits − 1 levels, k·r/(2^(bits−1) − 1), so
    that 0 is one of them. A pair [low, high] has 2^bits levels, low + k·(high − low)/(2^bits − 1).
    ``rounding``: to the "nearest" level (a tie to the even one), or "stochastic", up or down with
    the probability that makes the mean right.

    Raises ConfigurationError for a range of zero, or bits not from 1 (2 for a number) to 24.
    """

    bits: int
    range: float | tuple[float, float]
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        check_counts(bits=self.bits)
        check_choices(rounding=(self.rounding, Rounding))
        least = 1
        if isinstance(self.range, Sequence):
            if len(self.range) != 2:
                raise ConfigurationError(
                    f"range is {list(self.range)}; it must be a number, or [low, high]", "range"
                )
            object.__setattr__(self, "range", tuple(self.range))
            low, high = self.range
            if not (isfinite(low) and isfinite(high) and low < high):
                raise ConfigurationError(
                    f"range is [{low:g}, {high:g}]; the first number must be below the second",
                    "range",
                )
        else:
            if not (isfinite(self.range) and self.range > 0):
                raise ConfigurationError(
                    f"range is {self.range:g}; it must be greater than 0: messages are clipped to "
                    "[-range, range]",
                    "range",
                )
            least = 2
        if not least <= self.bits <= 24:  # the levels of a float32
            raise ConfigurationError(
                f"bits is {self.bits}; with this range it must be from {least} to 24", "bits"
            )

    @property
    def grid(self) -> tuple[float, float, int, int]:
        """(origin, step, least k, greatest k) of the levels origin + k·step."""
        if isinstance(self.range, tuple):
            low, high = self.range
            return low, (high - low) / (2**self.bits - 1), 0, 2**self.bits - 1
        most = 2 ** (self.bits - 1) - 1
        return 0.0, self.range / most, -most, most


@dataclass(frozen=True, eq=False)
class Given:
    """Delays that were given one by one, as numbers."""

    values: Floats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())


@dataclass(frozen=True)
class Channel:
    """One kind of message on one projection. Times are simulated time.

    A woken dyad sends a value only where it differs from the last one that it sent by more than
    ``threshold``, and at every ``refresh``-th wake even if nothing changed. Then, in this order:
    ``quantize``; ``noise`` (a number is the std of additive noise); each message is lost with
    probability ``loss``; it is on its way for max(1, ⌈(delay + jitter)/tick⌉) ticks.

    ``delay`` is a number, a `Distribution` (drawn once per sending dyad, or per synapse), or a
    tensor of the sender's shape, or of the weight's on a dense projection. ``jitter`` is a
    distribution drawn per message; delays per synapse count in whole ticks then. ``ordering``:
    with "fifo" a later message never overtakes, with "newest" an older one that arrives late is
    discarded, with "arrival" it overwrites.

    Raises ConfigurationError for values out of range.
    """

    threshold: float = 0.0
    refresh: int | None = None
    delay: float | Distribution | Given | Tensor | Sequence[Any] = 0.0
    jitter: Distribution | None = None
    ordering: Ordering = "fifo"
    loss: float = 0.0
    noise: Noise | float | None = None
    quantize: Quantize | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "delay", "loss", "noise"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        kinds = {"jitter": Distribution, "noise": Noise | float, "quantize": Quantize}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ConfigurationError(
                    f"{name} is {value!r}; see the documentation of Channel for what it can be",
                    name,
                )
        for name in ("threshold", "loss"):
            if not isinstance(getattr(self, name), float):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; not a number", name)
        check_not_negative(threshold=self.threshold)
        check_counts(refresh=self.refresh)
        check_choices(ordering=(self.ordering, Ordering))
        if not 0.0 <= self.loss <= 1.0:
            raise ConfigurationError(
                f"loss is {self.loss:g}; it is a probability, from 0 to 1", "loss"
            )
        if isinstance(self.noise, float):
            object.__setattr__(self, "noise", Noise(self.noise))
        if isinstance(self.jitter, Distribution) and self.jitter.per != "dyad":
            raise ConfigurationError(
                f"jitter is drawn per message; it cannot be per {self.jitter.per}", "jitter"
            )
        if isinstance(self.delay, float):
            check_not_negative(delay=self.delay)
        elif not isinstance(self.delay, Distribution | Given):
            object.__setattr__(self, "delay", Given(_numbers(self.delay)))

    @property
    def effects(self) -> bool:
        """Whether messages are changed or lost on their way, rather than only late."""
        noisy = isinstance(self.noise, Noise) and self.noise.std > 0
        return noisy or self.loss > 0 or self.quantize is not None

    def is_ideal(self, tick: float) -> bool:
        """Whether what was sent in one tick is seen, as it was sent, in the next."""
        if self.effects or self.jittery:
            return False
        return isinstance(self.delay, int | float) and ticks_of(self.delay, tick) <= 1

    @property
    def jittery(self) -> bool:
        return self.jitter is not None and self.jitter.high > 0

    def check(self, projection: Projection, kind: MessageKind, tick: float) -> None:
        """Raises ConfigurationError for a delay that this projection cannot have."""
        sender, weight = _shapes(projection, kind)
        delay, where = self.delay, f"{kind} channel of projection {projection.name!r}"
        latest: float
        if isinstance(delay, Given):
            shape = delay.values.shape
            if shape != sender and shape != weight:
                wanted = f"{list(sender)} (one per sending dyad)"
                if weight is not None:
                    wanted += f" or {list(weight)} (one per synapse)"
                raise ConfigurationError(
                    f"{where}: delay is a tensor of shape {list(shape)}; it must be {wanted}",
                    "delay",
                )
            latest = float(delay.values.max())
        elif isinstance(delay, Distribution):
            if delay.per == "synapse" and weight is None:
                raise ConfigurationError(
                    f"{where}: a delay per synapse needs a dense projection, and this is "
                    f"{type(projection.operator).__name__}; use per dyad",
                    ("delay", "per"),
                )
            latest = delay.high
        else:
            assert isinstance(delay, int | float)
            latest = delay
        jitter = self.jitter.high if self.jitter is not None else 0.0
        if jitter and (latest + jitter) / tick > MAX_SLOTS:
            raise ConfigurationError(
                f"{where}: a message takes up to {latest + jitter:g}, which is more than "
                f"{MAX_SLOTS:,} ticks of {tick:g}; where there is jitter, use a shorter time or a "
                "longer tick",
                "jitter",
            )
        if latest / tick > LAST_TICK:
            raise ConfigurationError(
                f"{where}: delay is up to {latest:g}, which is more than {LAST_TICK:,} ticks of "
                f"{tick:g}",
                "delay",
            )

    def delays(self, projection: Projection, kind: MessageKind, draws: Draws) -> Floats:
        """The delay in simulated time: one number, of the sender's shape, or of the weight's."""
        if isinstance(self.delay, Given):
            return self.delay.values
        if isinstance(self.delay, Distribution):
            sender, weight = _shapes(projection, kind)
            shape = weight if self.delay.per == "synapse" else sender
            assert shape is not None
            return self.delay.quantile(draws.once("delay", shape).numpy())
        return np.array(self.delay, dtype=np.float64)


def _plain(value: Any) -> Any:
    """A number of whatever kind as a float; anything else as it is."""
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    if single and (value.is_complex() if isinstance(value, Tensor) else value.dtype.kind == "c"):
        return value
    if single:
        value = value.item()
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return float(value) if is_number else value


def _numbers(values: Any) -> Floats:
    """A tensor or nested list of delays. Raises ConfigurationError where it is none."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype.itemsize == 2 else values).numpy()
    wrong = ConfigurationError(
        "delay must be a number, a distribution, or a tensor of numbers in which all rows have the "
        "same length",
        "delay",
    )
    try:
        found = np.array(values)
    except (TypeError, ValueError):
        raise wrong from None
    if found.size and found.dtype.kind not in "iuf":
        raise wrong
    array = found.astype(np.float64)
    if array.size == 0:
        raise ConfigurationError("delay is an empty tensor", "delay")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        index = [int(i) for i in np.argwhere(bad)[0]]
        raise ConfigurationError(
            f"delay at index {index} is {array[tuple(index)]:g}; it must be finite and at least 0",
            ("delay", *index),
        )
    array.setflags(write=False)
    return array


def _shapes(projection: Projection, kind: MessageKind) -> tuple[Shape, Shape | None]:
    """The shapes of the senders, and of the weight if there can be a delay per synapse."""
    operator = projection.operator
    sender = operator.pre if kind == "mean" else operator.post
    return sender, operator.weight_shape if isinstance(operator, Dense) else None


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
        """The channel of each projection and kind. Raises for what does not fit the network."""
        overrides: dict[tuple[str, str], tuple[str, Channel]] = {}
        for name, kinds in self.overrides.items():
            with inside("overrides", name):
                projection = network.projection(name)
                if not isinstance(kinds, Mapping):
                    raise ConfigurationError(
                        f"channel override of {name!r}: it must say for which kind of message, "
                        "like {'mean': Channel(...)}"
                    )
                for kind, channel in kinds.items():
                    if kind not in get_args(MessageKind):
                        raise ConfigurationError(
                            f"channel override of {name!r}: {kind!r} is not 'mean' or 'difference'"
                        )
                    if not isinstance(channel, Channel):
                        raise ConfigurationError(
                            f"channel override of {name!r}: {channel!r} is not a Channel", kind
                        )
                    if kind == "difference" and projection.pre == network.input.name:
                        raise ConfigurationError(
                            f"projection {projection.name!r} comes from the input, which is sent "
                            "no differences",
                            kind,
                        )
                    if (projection.name, kind) in overrides:
                        raise ConfigurationError(
                            f"the {kind} channel of projection {projection.name!r} is overridden "
                            "twice"
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
