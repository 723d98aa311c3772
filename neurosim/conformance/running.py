"""Checks of schedules and rules: of clocks by hand, and of whole simulations."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from neurosim.base import stream
from neurosim.conformance import simulations
from neurosim.conformance.checks import Named, require, same
from neurosim.conformance.simulations import RESUMED, TWICE, Build
from neurosim.conformance.worlds import CONVOLUTIONAL, FLAT, networks_for, simulated
from neurosim.network import Network
from neurosim.rules import Rule
from neurosim.schedules import Clock, Layout, Lazy, Parallel, Poisson, Schedule, Start, Unit

_WAKES = "`next` and what `reschedule` returns must be ticks that are still to come, as int64"


def of_schedule(schedule: Schedule) -> Named:
    """Yields the checks of a schedule: of its clock first, which could make a simulation hang."""
    flat = simulated(FLAT, schedule)
    late = simulated(CONVOLUTIONAL, schedule, learn_every=3, init="carry")
    yield "the same seed, the same clock", partial(clock_twice, schedule, FLAT)
    yield "a clock goes on from its state", partial(clock_goes_on, schedule, FLAT)
    yield "wakes every population", partial(_wakes_all, flat, FLAT)
    yield "both process modes", partial(simulations.both_modes, flat)
    yield "both process modes, carried on", partial(simulations.both_modes, late, 2)
    yield "leaving out what has not changed", partial(simulations.caching, late)
    yield "resumed at every tick", partial(simulations.every_tick, flat)
    yield "resumed at every tick, carried on", partial(simulations.every_tick, late, 2)


def of_rule(rule: Rule) -> Named:
    """Yields the checks of a rule, on the networks that it is defined for."""
    networks = networks_for(rule)
    require(bool(networks), "it is defined for none of the networks", "See Rule.check_network")
    learn_every = None if rule.phases else 3
    for number, network in enumerate(networks):
        shape = "×".join(map(str, network.input.shape))
        ticking, listening = (
            simulated(network, schedule, rule, learn_every, init=init)
            for schedule, init in (
                (Poisson(unit=Unit("block", 4), rate=0.7, duration=8.0), "zero"),
                (Lazy(unit="channel", duration=10.0), "carry"),
            )
        )
        yield f"the same bits twice ({shape})", partial(simulations.twice, ticking)
        yield f"finite gradients ({shape})", partial(_learns, ticking)
        yield f"both process modes ({shape})", partial(simulations.both_modes, listening, 2)
        yield f"leaving out what has not changed ({shape})", partial(simulations.caching, ticking)
        yield f"partial operations ({shape})", partial(simulations.partial, ticking)
        if number == 0:
            yield "resumed at every tick", partial(simulations.every_tick, listening)
    if rule.phases:
        together = simulated(networks[0], Parallel(4), rule, init="feedforward")
        yield "its phases, resumed at every tick", partial(simulations.every_tick, together)


def _wakes_all(build: Build, network: Network) -> None:
    woken = {population for _, population, _ in build().infer(0).trace.wakes}
    missing = [population.name for population in network.dyadic if population.name not in woken]
    what = f"the population {missing[0] if missing else ''!r} never wakes"
    require(not missing, what, "Start every unit with a wake, or raise ConfigurationError")


def _learns(build: Build) -> None:
    setup = build()
    setup.infer(0)
    gradients = setup.simulation.gradients()
    for name, value in gradients.items():
        finite = bool(value.isfinite().all())
        require(finite, f"the gradient of {name} is not finite", "See Rule.wake and Rule.force")
    moved = any(bool(value.any()) for value in gradients.values())
    require(
        moved, "all gradients are zero", "An active nudge must reach the states, see Rule.force"
    )


# ---- clocks by hand ------------------------------------------------------------------------------


def starting(schedule: Schedule, network: Network, *, seed: int = 0, **more: Any) -> Start:
    """Makes what the simulation hands to `Schedule.start`."""
    layout = Layout(network, Unit.of(schedule.unit))
    given: dict[str, Any] = {"tick": 0, "feedforward": False, "random": stream(seed, "schedule")}
    return Start(layout, **(given | more))


def run(clock: Clock, after: int, to: int | None = None) -> list[list[int]]:
    """Returns the units that wake at each tick after ``after``, up to the clock's end."""
    woken = []
    for tick in range(after + 1, (clock.end if to is None else to) + 1):
        passed = int(clock.next.min()) < tick
        require(not passed, f"a wake before tick {tick} was passed over", _WAKES)
        due = clock.advance(tick)
        require(clock.next.dtype == np.int64, f"wakes are {clock.next.dtype}", _WAKES)
        units = due.tolist()
        require(units == sorted(set(units)), "units do not come in ascending order", _WAKES)
        woken.append(units)
    return woken


def wakes(schedule: Schedule, network: Network, **start: Any) -> list[list[int]]:
    """Returns the units that wake at each tick of an inference."""
    at = starting(schedule, network, **start)
    return run(schedule.start(at), at.tick)


def clock_twice(schedule: Schedule, network: Network) -> None:
    """The wakes follow from the seed alone, wherever an inference begins."""
    first = wakes(schedule, network)
    same(wakes(schedule, network), first, "the same seed gives other wakes", TWICE)
    what = "wakes depend on the tick at which an inference begins"
    mend = "Count ticks from Start.tick on"
    same(wakes(schedule, network, tick=1000), first, what, mend)


def clock_goes_on(schedule: Schedule, network: Network, tick: int = 0) -> None:
    """After every tick, a clock that is made of the state does what the first would have done."""
    expected = wakes(schedule, network, tick=tick)
    for steps in range(len(expected) + 1):
        at = starting(schedule, network, tick=tick)
        clock = schedule.start(at)
        before = run(clock, tick, tick + steps)
        saved, generator = clock.state_dict(), at.random.bit_generator.state
        run(clock, tick + steps)  # must not reach into what was saved
        random = stream(99, "other")
        random.bit_generator.state = generator
        later = starting(schedule, network, tick=tick + steps, random=random)
        restored = schedule.restore(later, saved)
        what = f"a clock that is restored at tick {tick + steps} goes on in another way"
        require(restored.end == clock.end, f"{what}: it ends at another tick", RESUMED)
        same(before + run(restored, tick + steps), expected, what, RESUMED)


FAMILIES: Mapping[str, Callable[[Any], Named]] = {"schedule": of_schedule, "rule": of_rule}
