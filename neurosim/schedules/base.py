"""What a schedule is: it decides when each unit wakes.

A schedule is a frozen description. `Schedule.start` makes a `Clock`, which owns the next wake of
every unit as an array of ticks; the simulated processes sleep by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind, Positive, Repeating
from neurosim.schedules.units import Layout, Unit, UnitKind
from neurosim.tensors import Ints, as_array, as_tensors, places, restore


@dataclass(frozen=True)
class Start:
    """Where an inference starts: after tick ``tick``, with ``previous`` if states are carried."""

    layout: Layout
    tick: int
    feedforward: bool
    random: np.random.Generator
    previous: Clock | None = None


class Clock(ABC):
    """Holds the next wake of every unit. ``next`` are ticks, `NEVER` for none.

    ``wants`` names the measures that `decide` goes by. The only one is ``input_change``: by how
    much the inputs of a unit's dyads have changed since they last woke. It costs a forward and an
    adjoint operation of every projection in each tick, and nothing where nobody wants it. ``saved``
    names the arrays and numbers that are its state; their annotations say what may be restored.
    """

    wants: ClassVar[tuple[str, ...]] = ()
    saved: ClassVar[tuple[str, ...]] = ("next", "end")
    next: Ints
    end: int

    def __init__(self, next_wake: Ints, end: int) -> None:
        self.next = next_wake
        self.end = end

    def following(self) -> int:
        """Returns the next tick in which a unit wakes; `NEVER` for none."""
        return int(self.next[self.next.argmin()])  # in a quarter of the time that min takes

    def advance(self, tick: int) -> Ints:
        """The units that wake at ``tick``, ascending; their next wakes are set."""
        due = places(self.next == tick)
        if len(due):
            self.next[due] = self.reschedule(tick, due)
        return due

    @abstractmethod
    def reschedule(self, tick: int, due: Ints) -> Ints:
        """The next wakes, after ``tick``, of the units that wake at ``tick``."""

    def news(self, tick: int, units: Ints) -> None:
        """Something reaches these units at ``tick``. Only an event-driven clock listens; it is told
        of no news that is of rounding alone."""
        del tick, units

    def decide(self, tick: int, measured: Mapping[str, npt.NDArray[np.float64]]) -> None:
        """Sets the wakes of ``tick`` by measures; asked before every tick of a clock that `wants`.

        ``measured`` holds one number for each unit, by the name of the measure.
        """
        del tick, measured

    @property
    def listens(self) -> bool:
        """Whether `news` is worth computing."""
        return False

    def again(self) -> Self:
        """Returns a clock with arrays of its own that stands where this one does."""
        made = copy(self)
        for name in self.saved:
            value = getattr(self, name)
            setattr(made, name, value.copy() if isinstance(value, np.ndarray) else value)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Returns what is ``saved``: arrays as tensors (copies), numbers as they are."""
        own = {name: getattr(self, name) for name in self.saved}
        arrays = {name: value for name, value in own.items() if isinstance(value, np.ndarray)}
        return own | as_tensors(**arrays)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        for name in self.saved:
            value = state[name]
            restore(self, name, as_array(value) if isinstance(value, Tensor) else value)


Tick = Annotated[Positive, Field(description="simulated time of one tick")]


class Schedule(Kind, Repeating, ABC, family="schedule"):
    """Decides when each unit wakes. Base class of all schedules.

    A member has the fields ``unit``, a `Unit` or the name of its kind, and ``tick``, the simulated
    time of one tick. ``repeats``: its clocks wake the same units at the same ticks in every
    inference that starts alike; a subclass says so anew.
    """

    unit: UnitKind | Unit
    tick: float

    @property
    def update_ticks(self) -> tuple[int, ...]:
        """The ticks of an inference, counted from 1, after which weights are updated, in a schedule
        that says so itself."""
        return ()

    @abstractmethod
    def start(self, at: Start) -> Clock:
        """A clock for one inference. Raises ConfigurationError if a population never wakes."""

    def restore(self, at: Start, state: dict[str, Any]) -> Clock:
        """The clock of a saved simulation: unless said otherwise, one that `start` makes (what it
        draws is forgotten) with the saved state."""
        drawn = at.random.bit_generator.state
        clock = self.start(at)
        at.random.bit_generator.state = drawn
        clock.load_state_dict(state)
        if clock.next.shape != (at.layout.total,):
            raise ValueError(f"next: wakes of {at.layout.total} units have to be there")
        return clock

    def nudge_after(self, depth: int | None) -> int:
        """The tick from which the target acts, where the user does not say."""
        del depth
        return 0


def check_all_wake(
    layout: Layout, awake: np.ndarray[Any, np.dtype[np.bool_]], why: str, option: str = ""
) -> None:
    """Raises ConfigurationError naming the first population none of whose units is in ``awake``."""
    asleep = np.flatnonzero(np.bincount(layout.population_of, awake) == 0)
    if len(asleep):
        name = layout.names[asleep[0]]
        raise ConfigurationError(f"the schedule never wakes the population {name!r}: {why}", option)
