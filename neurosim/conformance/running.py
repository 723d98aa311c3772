"""Checks of members at work in a simulation: schedules, rules, feedback, plasticity, predictions,
channel effects, distributions of delays, probes."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.base import stream
from neurosim.channels import Channel, Channels, Distribution, Draws, Effect, Moment, Parcel
from neurosim.conformance import simulations
from neurosim.conformance.checks import CLOSE, RESUMED, TWICE, Named, require, same
from neurosim.conformance.members import selections
from neurosim.conformance.simulations import (
    CONVOLUTIONAL,
    FLAT,
    SMOOTH,
    Build,
    networks_for,
    simulated,
)
from neurosim.dynamics import Plasticity
from neurosim.measures import Probe
from neurosim.network import Feedback, Network
from neurosim.rules import (
    DifferenceTargetPropagation,
    DualPropagation,
    EquilibriumPropagation,
    Rule,
)
from neurosim.schedules import Clock, Layout, Lazy, Parallel, Poisson, Schedule, Start, Unit
from neurosim.simulation import Prediction
from neurosim.tensors import Selection

_WAKES = "`next` and what `reschedule` returns must be ticks that are still to come, as int64"
_SHAPE = (2, 6, 4)
_TICKING, _LISTENING = Poisson("neuron", 0.7, duration=8.0), Lazy(10.0, unit="channel")
_EVERY, _FEW = Parallel(12), Parallel(6)
_BLOCKS = replace(_TICKING, unit=Unit("block", 4))
_DRAWS = "Draw by Parcel.uniform and Parcel.normal, which draw for the whole population"


def of_schedule(schedule: Schedule) -> Named:
    """Yields the checks of a schedule: of its clock first, which could make a simulation hang."""
    flat = simulated(FLAT, schedule)
    learn_every = None if schedule.update_ticks else 3
    late = simulated(CONVOLUTIONAL, schedule, learn_every=learn_every, init="carry")
    yield "the same seed, the same clock", partial(clock_twice, schedule, FLAT)
    yield "a clock goes on from its state", partial(clock_goes_on, schedule, FLAT)
    yield "wakes every population", partial(_wakes_all, flat, FLAT)
    yield "both process modes", partial(simulations.both_modes, flat)
    yield "both process modes, carried on", partial(simulations.both_modes, late, 2)
    yield "leaving out what has not changed", partial(simulations.caching, late)
    yield "resumed at every tick", partial(simulations.every_tick, flat)
    yield "resumed at every tick, carried on", partial(simulations.every_tick, late, 2)
    if schedule.repeats:
        yield "the same wakes in every inference", partial(clock_repeats, schedule, FLAT)
        yield "replayed", partial(simulations.replayed, simulated(FLAT, schedule))


def of_rule(rule: Rule) -> Named:
    networks = networks_for(rule)
    require(bool(networks), "it is defined for none of the networks", "See Rule.check_network")
    learn_every = None if rule.phases else 3
    for number, network in enumerate(networks):
        shape = "×".join(map(str, network.input.shape))
        ticking = simulated(network, _BLOCKS, rule, learn_every)
        listening = simulated(network, _LISTENING, rule, learn_every, init="carry")
        yield f"the same bits twice ({shape})", partial(simulations.twice, ticking)
        yield f"finite gradients ({shape})", partial(_learns, ticking)
        activation = network.dyadic[0].activation
        if rule.wakes_at_once(activation):
            for schedule in (_BLOCKS, _EVERY):
                ideal = simulated(network, schedule, rule, channels=Channels())
                name = f"in one pass, {schedule.kind} ({shape})"
                yield name, partial(simulations.at_once, ideal, rule)
        ideal = simulated(network, _BLOCKS, rule, channels=Channels())
        yield f"a wake sends what mean says ({shape})", partial(_sends_mean, ideal, rule)
        yield f"both process modes ({shape})", partial(simulations.both_modes, listening, 2)
        yield f"leaving out what has not changed ({shape})", partial(simulations.caching, ticking)
        yield f"partial operations ({shape})", partial(simulations.partial, ticking)
        if number == 0:
            yield "resumed at every tick", partial(simulations.every_tick, listening)
    if rule.phases:
        together = simulated(networks[0], Parallel(4), rule, init="feedforward")
        yield "its phases, resumed at every tick", partial(simulations.every_tick, together)


def of_feedback(feedback: Feedback) -> Named:
    """Yields the checks of feedback weights, in a rule that takes them."""
    rules = (DualPropagation(), DifferenceTargetPropagation())
    rule = next(rule for rule in rules if rule.takes(feedback))
    yield from _learning(simulated(FLAT.with_feedback(feedback), _BLOCKS, rule, learn_every=3))


def of_plasticity(plasticity: Plasticity) -> Named:
    """Yields the checks of a plasticity, within an inference and at the ends of phases."""
    yield from _learning(simulated(FLAT, _BLOCKS, learn_every=3, plasticity=plasticity))
    own = replace(plasticity, every=None)
    phases = simulated(FLAT, Parallel(4), EquilibriumPropagation(), plasticity=own)
    yield "finite gradients, of phases", partial(_learns, phases)


def _learning(build: Build) -> Named:
    yield "the same bits twice", partial(simulations.twice, build)
    yield "finite gradients", partial(_learns, build)
    yield "resumed at every tick", partial(simulations.every_tick, build)


def of_prediction(prediction: Prediction) -> Named:
    for network in (FLAT, CONVOLUTIONAL):
        shape = "×".join(map(str, network.input.shape))
        build = simulated(network, Parallel(4), init="feedforward")
        yield f"an answer, and the same twice ({shape})", partial(_answers, prediction, build)


def _answers(prediction: Prediction, build: Build) -> None:
    def answer() -> Tensor | None:
        setup = build()
        simulation = setup.simulation
        weights = {k: v.clone() for k, v in simulation.model.state_dict().items()}
        if not prediction.settles:  # it is asked of the simulation that trains
            setup.infer(0)
            state = simulation.state_dict()
        *_, found = prediction.predict(simulation, setup.data[0][0])
        same(dict(simulation.model.state_dict()), weights, "it moves weights", "Only read")
        if not prediction.settles:
            mend = "Set settles = True: it is then given a simulation of its own"
            same(simulation.state_dict(), state, "it changes the simulation that it asks", mend)
        return found

    found, expected = answer(), build().data[0][1]
    fits = found is not None and found.shape == expected.shape and bool(found.isfinite().all())
    require(fits, "the last is no finite array (B, *output)", "Yield the prediction last")
    same(answer(), found, "another simulation answers otherwise", TWICE)


def _wakes_all(build: Build, network: Network) -> None:
    woken = {population for _, population, _ in build().infer(0).trace.wakes}
    mend = "Start every unit with a wake, or raise ConfigurationError"
    for name in (population.name for population in network.dyadic):
        require(name in woken, f"the population {name!r} never wakes", mend)


def _learns(build: Build) -> None:
    setup = build()
    setup.infer(0)
    gradients = setup.simulation.gradients()
    wrong = [name for name, value in gradients.items() if not value.isfinite().all()]
    require(not wrong, f"not finite: the gradients {wrong}", "See Rule.wake and Rule.force")
    moved = any(bool(value.any()) for value in gradients.values())
    mend = "An active nudge must reach the states, see Rule.force"
    require(moved, "all gradients are zero", mend)


def _sends_mean(build: Build, rule: Rule) -> None:
    setup = build()
    setup.infer(0)
    for cell in setup.simulation.state.cells:
        for outlet in cell.outlets["mean"]:
            found, said = outlet.sent.value, rule.mean(cell.plus.value, cell.minus.value)
            what = f"the population {cell.name!r} sends another mean than that of its states"
            same(found, said, what, "Let wake send self.mean(plus, minus), and change both", CLOSE)


def of_effect(effect: Effect) -> Named:
    dtypes = [torch.float32, torch.float64, *([torch.complex128] if effect.for_complex else [])]
    for dtype in dtypes:
        name = f"the same for some dyads as among all, in {str(dtype).removeprefix('torch.')}"
        yield name, partial(_alike, effect, dtype)
    yield "zeros stay zeros, if it says so", partial(_zeros, effect)
    channel = Channel(0.01, refresh=2, delay=1.5, effects=(effect,))
    yield from _in_simulations(CONVOLUTIONAL, Channels(channel, channel))
    if effect.repeats:
        late = Channels(Channel(delay=1.0, effects=(effect,)))
        yield "replayed", partial(simulations.replayed, simulated(SMOOTH, _FEW, channels=late))


def _in_simulations(network: Network, channels: Channels) -> Named:
    ticking = simulated(network, _TICKING, learn_every=3, channels=channels)
    listening = simulated(FLAT, _LISTENING, init="carry", channels=channels)
    yield "the same bits twice", partial(simulations.twice, ticking)
    yield "both process modes", partial(simulations.both_modes, listening, 2)
    yield "leaving out what has not changed", partial(simulations.caching, ticking)
    yield "resumed at every tick", partial(simulations.every_tick, listening)


def _acted(effect: Effect, values: Tensor, selection: Selection | None = None) -> Parcel:
    """Lets an effect act on messages of all or some dyads; these keep their shape and dtype."""
    some = values.clone() if selection is None else selection.take(values)
    sent = torch.ones_like(some, dtype=torch.bool)
    parcel = Parcel(Moment(1, 5), values.shape, selection, some, sent)
    effect.act(parcel, Draws(0, "check"))
    kept = parcel.values.shape == parcel.sent.shape == sent.shape
    kept &= parcel.values.dtype == values.dtype and parcel.sent.dtype == torch.bool
    require(kept, "it changes the shape or dtype of values or sent", "Keep both as they are")
    return parcel


def _alike(effect: Effect, dtype: torch.dtype) -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((3, *_SHAPE))).to(dtype)
    whole, again = _acted(effect, values), _acted(effect, values)
    same(again.values, whole.values, "the same message becomes another one", TWICE)
    for selection in selections(_SHAPE):
        part = _acted(effect, values, selection)
        what = f"some {selection.whole or 'neurons'} get other values"
        same(part.values, selection.take(whole.values), what, _DRAWS)
        same(part.sent, selection.take(whole.sent), f"{what} of sent", _DRAWS)


def _zeros(effect: Effect) -> None:
    moved = bool(_acted(effect, torch.zeros(3, *_SHAPE)).values.any())
    require(effect.moves_zero() or not moved, "0 becomes another value", "Leave moves_zero out")


def of_distribution(distribution: Distribution) -> Named:
    yield "quantiles rise from at least 0 to at most high", partial(_quantiles, distribution)
    jitter = distribution if distribution.per == "dyad" else None
    late, shaken = Channel(0.01, delay=distribution), Channel(0.01, jitter=jitter)
    yield from _in_simulations(FLAT, Channels(late, shaken))


def _quantiles(distribution: Distribution) -> None:
    times = distribution.quantile(np.linspace(0.0, 1.0, 1001)[:-1])
    rising = times.shape == (1000,) and bool((np.diff(times, prepend=0.0) >= 0.0).all())
    mend = "quantile maps shares to times, which `high` bounds"
    require(rising and times[-1] <= distribution.high, "they do not", mend)


def of_probe(probe: Probe) -> Named:
    """Yields the checks of a probe; training itself records those that are not per tick."""
    if probe.per == "tick":
        build = simulated(FLAT, _TICKING, probes=[probe], init="feedforward")
        yield "its records can be written", partial(_recorded, build, probe)
        yield "measuring changes nothing", partial(_unseen, build)
        yield "both process modes", partial(simulations.both_modes, build)
        yield "resumed at every tick", partial(simulations.every_tick, build)


def _recorded(build: Build, probe: Probe) -> None:
    records = build().infer(0).trace[probe.kind]
    require(bool(records), "it records nothing", "Return a record from measure")
    mend = "Record numbers, text, lists and mappings with text for keys"
    try:
        again = json.loads(json.dumps(records))
    except (TypeError, ValueError) as error:
        again = error
    same(again, records, f"a record is not what is read again ({again})"[:200], mend)


def _unseen(build: Build) -> None:
    seen, plain = build().infer(0), build(probes=[]).infer(0)
    for name in ("plus", "minus", "counts", "ticks"):
        pair = getattr(seen, name), getattr(plain, name)
        same(*pair, f"with the probe, {name} is another", "Read the state, never write")


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


def clock_repeats(schedule: Schedule, network: Network) -> None:
    """The wakes are the same whatever is drawn."""
    what, mend = "other draws give other wakes", "Leave repeats out, or draw nothing"
    same(wakes(schedule, network, seed=1), wakes(schedule, network), what, mend)


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
