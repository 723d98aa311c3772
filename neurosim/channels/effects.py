"""Effects: what may happen to the values of messages, and which messages get lost."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, seed_sequence, stream
from neurosim.families import Bounded, Count, Fraction, Kind, NotNegative, Repeating, register
from neurosim.tensors import Selection, Shape, drawn

NoiseKind = Literal["additive", "relative"]
Rounding = Literal["nearest", "stochastic"]
BLOCK = 2**17  # normal numbers that are drawn in a row, at most


class Moment(NamedTuple):
    """A tick of an inference, whose number gives every batch noise of its own. ``sample`` is the
    place in the batch of its first sample, where the inference is of a part of one."""

    inference: int
    tick: int
    sample: int = 0


class Draws:
    """Random numbers named by ``(seed, *name)``, one array for each effect and moment.

    Each is a function of its name, its moment and its sample's place in the batch, not of what was
    drawn before it. No other effect, channel or probe that is switched on can therefore change it,
    and a part of a batch draws what it would as a part of the whole.
    """

    def __init__(self, seed: int, *name: str) -> None:
        self._seed, self._name = seed, name
        self._keys: dict[str, npt.NDArray[np.uint64]] = {}
        self._narrower: dict[tuple[str, ...], Self] = {}

    def of(self, *name: str) -> Self:
        """Returns the draws named by ``(seed, *own name, *name)``."""
        if name not in self._narrower:
            self._narrower[name] = type(self)(self._seed, *self._name, *name)
        return self._narrower[name]

    def _generator(
        self, effect: str, inference: int, tick: int, first: int = 0, block: int = 0
    ) -> np.random.Generator:
        if effect not in self._keys:
            words = seed_sequence(self._seed, *self._name, effect).generate_state(2, np.uint64)
            self._keys[effect] = words.astype(np.uint64)
        # A counter-based generator starts anywhere at no cost. Its first word counts the draws.
        counter = np.array([first, block, inference, tick], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self._keys[effect]))

    def uniform(
        self, effect: str, moment: Moment, shape: Sequence[int], dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Draws uniformly from [0, 1), on the CPU, for samples (B, …) from the moment's on."""
        code = _code(dtype)
        each = 8 if code == "f4" else 4  # numbers of one count

        def draw(inference: int, sample: int) -> Tensor:
            first, over = divmod(sample * prod(shape[1:]), each)
            generator = self._generator(effect, inference, moment.tick, first)
            found = generator.random(over + prod(shape), code)
            return torch.from_numpy(found[over:].reshape(shape))

        return drawn(draw, moment.inference, moment.sample)

    def normal(
        self, effect: str, moment: Moment, shape: Sequence[int], dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Draws standard normal numbers, on the CPU, for samples (B, …) from the moment's on."""
        code = _code(dtype)
        # How many counts one takes is not known before: a block of samples has counts of its own.
        rows = max(1, BLOCK // prod(shape[1:]))

        def draw(inference: int, first: int) -> Tensor:
            found, end = [], first + shape[0]
            for block in range(first // rows, -(-end // rows)):
                begins = block * rows
                generator = self._generator(effect, inference, moment.tick, block=block)
                size = min(rows, end - begins), *shape[1:]
                found.append(generator.standard_normal(size, code)[max(0, first - begins) :])
            return torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found))

        return drawn(draw, moment.inference, moment.sample)

    def once(self, effect: str, shape: Sequence[int]) -> Tensor:
        """Draws uniformly from [0, 1) what stays the same for a network in all inferences."""
        return torch.from_numpy(stream(self._seed, *self._name, effect).random(tuple(shape)))


def _code(dtype: torch.dtype) -> Literal["f4", "f8"]:
    return "f4" if dtype == torch.float32 else "f8"


@dataclass
class Parcel:
    """The messages that one population sends over one line in one tick, or shows at the start.

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
        """Returns the selected part of an array over ``shape``, on the values' device."""
        array = array.to(self.values.device, non_blocking=True)  # see `devices.upload`
        return array if self.selection is None else self.selection.take(array)

    def uniform(self, draws: Draws, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Draws one number in [0, 1) for each value, in the values' own (real) dtype."""
        dtype = dtype or self.values.dtype.to_real()
        return self.some(draws.uniform(name, self.moment, self.shape, dtype))

    def normal(self, draws: Draws, name: str) -> Tensor:
        """Draws one standard normal number for each value, in the values' own (real) dtype."""
        dtype = self.values.dtype.to_real()
        return self.some(draws.normal(name, self.moment, self.shape, dtype))


class Effect(Kind, Repeating, ABC, family="effect"):
    """Changes messages on their way. Base class of all channel effects.

    ``initial``: it also acts on what is seen at the start, which cannot be lost. ``for_complex``:
    it is defined for the complex messages of holomorphic rules. ``repeats``: what it does with
    values follows from them and from what it draws, by functions of torch, so that an inference can
    be recorded and replayed; a subclass says so anew.
    """

    initial: ClassVar[bool] = True
    for_complex: ClassVar[bool] = False

    @abstractmethod
    def act(self, parcel: Parcel, draws: Draws) -> None:
        """Changes ``parcel.values`` (B, …), or what is ``parcel.sent``, in place or by new arrays.

        Shape and dtype stay. Random numbers come from `Parcel.uniform` and `Parcel.normal`, which
        draw over the whole population whatever part of it sends: each number is a function of the
        simulation's seed, the channel, the effect, the name given there and the tick.
        """

    def moves_zero(self) -> bool:
        """Says if a value of 0 may become another one. False saves work where all is zero."""
        return True

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.kind


@register("quantize")
@dataclass(frozen=True)
class Quantize(Effect):
    """Rounds messages to whole multiples of a step, and clips them to a range.

    A number r as ``range`` stands for [−r, r] and has 2^bits − 1 levels, k·r/(2^(bits−1) − 1), so
    that 0 is one of them. A pair [low, high] has 2^bits levels, low + k·(high − low)/(2^bits − 1).
    ``rounding``: to the "nearest" level (a tie to the even one), or "stochastic", up or down with
    the probability that makes the mean right.

    Raises ConfigurationError for a range of zero, or bits not from 1 (2 for a number) to 24.
    """

    repeats: ClassVar[bool] = True

    bits: Annotated[Count, Field(description="bits of a message")]
    range: Annotated[
        Bounded | tuple[Bounded, Bounded],
        Field(description="r for 2^bits − 1 levels in [−r, r], or [low, high] for 2^bits"),
    ]
    rounding: Annotated[
        Rounding,
        Field(description="to the nearest level, or at random, so that the mean is right"),
    ] = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.range, tuple):
            least, (low, high) = 1, self.range
            said = f"range is [{low:g}, {high:g}]; the first number must be below the second"
        else:
            least, low, high = 2, -self.range, self.range
            said = f"range is {high:g}; it must be greater than 0: messages are clipped to it"
        if low >= high:
            raise ConfigurationError(said, "range")
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

    def act(self, parcel: Parcel, draws: Draws) -> None:
        origin, step, least, most = self.grid
        scaled = (parcel.values - origin) / step
        if self.rounding == "nearest":
            level = scaled.round()
        else:
            level = scaled.floor()
            level = level + (parcel.uniform(draws, "rounding") < scaled - level)
        parcel.values = origin + level.clamp_(least, most) * step

    def moves_zero(self) -> bool:
        return self.grid[0] != 0.0


@dataclass(frozen=True)
class Noise(Effect):
    """Adds Gaussian noise to every message: v + std·ε (additive), or v·(1 + std·ε) (relative)."""

    repeats: ClassVar[bool] = True

    std: Annotated[NotNegative, Field(description="relative noise is in units of the message")]
    kind: Annotated[  # type: ignore[misc]  # is no member: a channel has a key for it
        NoiseKind, Field(description="of the same size everywhere, or in proportion to the message")
    ] = "additive"

    @property
    def name(self) -> str:
        return "noise"

    def act(self, parcel: Parcel, draws: Draws) -> None:
        noise = self.std * parcel.normal(draws, "noise")
        additive = self.kind == "additive"
        parcel.values = parcel.values + noise if additive else parcel.values * (1.0 + noise)

    def moves_zero(self) -> bool:
        return self.kind == "additive"


@register("erasure")
@dataclass(frozen=True)
class Erasure(Effect):
    """Loses each message with a ``probability``, as a channel's ``loss`` does."""

    initial: ClassVar[bool] = False
    for_complex: ClassVar[bool] = True
    repeats: ClassVar[bool] = True

    probability: Annotated[Fraction, Field(description="that a message never arrives")]

    def act(self, parcel: Parcel, draws: Draws) -> None:
        share = parcel.uniform(draws, "loss", torch.float32)
        parcel.sent, parcel.sure = parcel.sent & (share >= self.probability), False


class Acting(NamedTuple):
    """An effect of one channel at work. ``names`` are its own among the channel's draws."""

    effect: Effect
    names: tuple[str, ...] = ()

    def act(self, parcel: Parcel, draws: Draws) -> None:
        """Lets the effect change a parcel; one from a channel's ``effects`` changes copies, and
        raises ConfigurationError where it changes their shape or dtype."""
        if not self.names:
            self.effect.act(parcel, draws)
            return
        before = parcel.values
        parcel.values, parcel.sent, parcel.sure = before.clone(), parcel.sent.clone(), False
        self.effect.act(parcel, draws.of(*self.names))
        for array, dtype in ((parcel.values, before.dtype), (parcel.sent, torch.bool)):
            if array.shape != before.shape or array.dtype != dtype:
                raise ConfigurationError(
                    f"the effect {self.effect.name!r} must keep the shape {list(before.shape)} and "
                    f"dtype {dtype}, but left {list(array.shape)} and {array.dtype}",
                    "effects",
                )
