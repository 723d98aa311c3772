"""The simulated processes: every unit of dyads sleeps until its clock strikes, and the input until
it has something new (SimPy).

Time is counted in whole ticks, and jumps to the next one in which anything is due. There the units
whose time has come wake, in the order of their numbers, and once all of them have the tick is run.
Two ways to run the units, with identical traces: one process per unit (``neuron``: the definition),
or one per population (``population``). The schedule's `Clock` owns the next wakes in both, so
processes hold nothing that would have to be saved, and live from one inference to the next.
"""

import gc
from collections.abc import Callable, Generator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import simpy

from neurosim.base import PluginError
from neurosim.dynamics import Reached, State, Woke
from neurosim.schedules import Clock, Layout
from neurosim.tensors import Ints

Processes = Literal["population", "neuron"]
_NONE: Ints = np.empty(0, dtype=np.int64)


class Engine:
    """Holds the processes of a simulation, and runs them by the clock of one inference at a time.

    ``offsets`` are the unit numbers at which populations begin.
    """

    def __init__(self, offsets: Ints, processes: Processes) -> None:
        self._env = env = simpy.Environment()
        self._per_unit = processes == "neuron"
        self._offsets = offsets
        count = offsets[-1] if self._per_unit else len(offsets) - 1
        self._sleeping = [env.event() for _ in range(count)]
        self._woken: list[int] = []  # the processes that have woken in this tick
        self._reached = Reached()  # by what the input has said last
        with _NoCollections():
            for number, sleep in enumerate(self._sleeping):
                env.process(self._process(number, sleep))
            self._silence = self._put_to_sleep()

    def _process(self, number: int, sleep: simpy.Event) -> Generator[simpy.Event, Any, None]:
        """The process of a unit, or of a population."""
        while True:
            yield sleep
            self._woken.append(number)

    def _put_to_sleep(self) -> simpy.Event:
        """Starts the process of the input. Returns what it sleeps on, once all sleep."""
        silence = self._env.event()
        self._env.process(self._input(silence))
        self._env.run()
        return silence

    def _input(self, silence: simpy.Event) -> Generator[simpy.Event, Any, None]:
        """The process of the input: whenever it is woken it speaks."""
        while True:
            speech = yield silence
            silence = self._silence = self._env.event()
            self._reached = speech()

    def speak(self, say: Callable[..., Reached], *what: Any, **how: Any) -> Reached:
        """Wakes the process of the input in the present tick: it calls ``say`` with that. Returns
        whom it has reached; what that raises ends nothing but the call."""
        self._silence.succeed(partial(say, *what, **how))
        try:
            self._env.run()
        except BaseException:
            self._silence = self._put_to_sleep()
            raise
        return self._reached

    def run(
        self,
        clock: Clock,
        now: int,
        goal: int,
        due: Callable[[int], int],
        on_tick: Callable[[int, Ints], None],
        stop: Callable[[], bool],
    ) -> int:
        """Runs what is due after tick ``now``, up to tick ``goal`` or until ``stop()`` is true.

        ``due(tick)`` is the first tick after that one in which anything but a wake is due.
        ``on_tick(tick, units)`` is called for every tick in which anything is, with the ascending
        numbers of the units that wake in it; it may report news to the clock.

        Returns:
            The last tick that was completed.

        Raises:
            PluginError: for a clock that sets a wake in the past.
        """
        while now < goal and not stop():
            wake = clock.following()
            if wake <= now:
                said = f"{type(clock).__name__} sets the next wake of a unit to tick {wake}"
                raise PluginError(f"{said} in tick {now}: it has to come after it")
            tick = wake if wake == now + 1 else min(wake, due(now))
            if tick > goal:
                return goal
            units = clock.advance(tick) if tick == wake else _NONE
            on_tick(tick, self._wake(tick - now, units))
            now = tick
        return now

    def _wake(self, delay: int, units: Ints) -> Ints:
        """Lets time pass, and the processes of these units wake. Returns the units that have."""
        awake = self._env.timeout(delay).callbacks
        assert awake is not None
        if self._per_unit:
            numbers = units.tolist()
        else:
            cuts = units.searchsorted(self._offsets).tolist()
            numbers = [n for n, (low, high) in enumerate(pairwise(cuts)) if high > low]
        for number in numbers:
            # Who waits for a sleep to end then waits for the clock to strike: that is one event for
            # all that wake together, not one for each.
            asleep = self._sleeping[number].callbacks
            assert asleep is not None
            awake += asleep
            asleep.clear()
        with _NoCollections():
            self._env.step()  # the clock strikes: nothing else is scheduled while all sleep
        woken, self._woken = self._woken, []
        if woken == numbers:
            return units
        if self._per_unit:
            return np.array(woken, dtype=np.int64)
        return np.concatenate([_NONE, *(units[cuts[n] : cuts[n + 1]] for n in woken)])


class _NoCollections:
    """Puts off Python's garbage collections. Neither the start of processes nor their waking leaves
    garbage, but each makes objects by the thousand, and a collection would walk all processes."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            gc.enable()


class UnitMap:
    """Translates between units and dyads that can wake, which dead and stuck ones never do."""

    def __init__(self, layout: Layout, state: State) -> None:
        self._layout, self._state = layout, state
        held = state.damage.held
        self._alive = layout.alive({name: dyads.alive for name, dyads in held.items()})

    def _some(self, units: Ints) -> Ints:
        return units if self._alive is None else units[self._alive[units]]

    def wake(self, units: Ints) -> tuple[int, Woke]:
        """Returns how many of these units wake, and the dyads that do by population."""
        units, layout = self._some(units), self._layout
        if len(units) == layout.total and self._alive is None:
            return len(units), [(index, None) for index in range(len(layout.populations))]
        woken = []
        for population, own in layout.split(units):
            cell = self._state.cells[population]
            woken.append((population, layout.selection(population, own, cell.alive, cell.device)))
        return len(units), woken

    def hear(self, clock: Clock, tick: int, marks: Mapping[int, npt.NDArray[np.bool_]]) -> None:
        """Tells a clock that something reaches the units of the marked dyads at ``tick``."""
        for index, reached in marks.items():
            alive = self._state.cells[index].alive
            clock.news(
                tick, self._layout.units(index, reached if alive is None else reached & alive)
            )

    def all_hear(self, clock: Clock, tick: int, *, output: bool = False) -> None:
        """Tells a clock that something reaches all dyads, or all output dyads, at ``tick``."""
        index, offsets = self._state.output.index, self._layout.offsets
        ends = offsets[index : index + 2] if output else (0, self._layout.total)
        clock.news(tick, self._some(np.arange(*ends)))
