"""Channels against the literal simulation of `reference.py`: every message there is an object."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fewer import covering, randomly
from hypothesis import assume
from hypothesis import strategies as st
from literal import Example, Pair, both, check
from literal_examples import CONV, MLP, POOL, RANDOM, SKIP, examples, literally_lazy
from literal_messages import KINDS, NETWORKS, channel_of, check_counts, example_of, play

import neurosim as ns
from neurosim.maths.operators.dense import Dense

# ---- random channels -----------------------------------------------------------------------------


@st.composite
def delays(draw: st.DrawFn, projection: Any, kind: str, tick: float) -> Any:
    operator = projection.operator
    sender = operator.pre if kind == "mean" else operator.post
    weight = operator.weight_shape if isinstance(operator, Dense) else None
    choice = draw(st.sampled_from(["number", "uniform", "given", "exponential", "synapses"]))
    high = tick * draw(st.sampled_from([0.0, 1.0, 2.0, 3.7, 6.0]))
    per = "synapse" if weight is not None and draw(st.booleans()) else "dyad"
    if choice == "number":
        return high
    if choice == "uniform":
        return ns.Uniform(high / 3, high, per)
    if choice == "exponential":
        return ns.Exponential(tick, high + tick, per)
    generator = np.random.default_rng(draw(st.integers(0, 2**20)))
    shape = sender if choice == "given" or weight is None else weight
    return torch.from_numpy(generator.integers(0, 6, shape) * tick)


@st.composite
def channels(draw: st.DrawFn, projection: Any, kind: str, tick: float, effects: bool) -> ns.Channel:
    options: dict[str, Any] = {"delay": draw(delays(projection, kind, tick))}
    options["threshold"] = draw(st.sampled_from([1e-6, 0.0, 1e-6, 0.05]))
    if not effects:
        return ns.Channel(**options)
    options["refresh"] = draw(st.sampled_from([None, None, 1, 2, 3]))
    options["loss"] = draw(st.sampled_from([0.0, 0.0, 0.3, 0.7, 1.0]))
    options["ordering"] = draw(st.sampled_from(["fifo", "newest", "arrival"]))
    jitters = [None, ns.Uniform(0.0, 4.5 * tick), ns.Exponential(tick, 5.0 * tick)]
    options["jitter"] = draw(st.sampled_from(jitters))
    noises = [None, None, ns.Noise(0.1), ns.Noise(0.2, "relative")]
    options["noise"] = draw(st.sampled_from(noises))
    if draw(st.booleans()):
        spans = [1.0, 3.0, (-1.0, 2.0), (0.5, 1.5)]
        bits, span = draw(st.sampled_from([2, 3, 8])), draw(st.sampled_from(spans))
        rounding = draw(st.sampled_from(["nearest", "stochastic"]))
        options["quantize"] = ns.Quantize(bits, span, rounding)
    return ns.Channel(**options)


@st.composite
def delayed(draw: st.DrawFn, *, effects: bool) -> Example:
    damped = draw(st.integers(0, 4)) == 0
    variants = ["damped"] if damped else ["aro", "lagrangian"]
    example = draw(examples(variants, pools=not damped, ticks=(1.0, 0.5, 0.1)))
    network = ns.Network.from_dict(example.description)
    overrides: dict[str, Any] = {}
    for projection in network.projections:
        for kind in KINDS:
            if kind == "difference" and projection.pre == network.input.name:
                continue  # the input is sent none
            if draw(st.integers(0, 3)):
                channel = draw(channels(projection, kind, example.tick, effects))
                overrides.setdefault(projection.name, {})[kind] = channel
    example.channels = ns.Channels(
        ns.Channel(1e-6), ns.Channel(delay=1.5 * example.tick), overrides
    )
    inferences = draw(st.sampled_from([1, 2, 3] if example.init == "carry" else [1, 1, 2]))
    example.wakes = example.wakes[:1] * inferences
    example.released = draw(st.booleans())
    return example


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
@randomly(30, 150, delayed(effects=False), parent=RANDOM)
def test_random_delays(example: Example) -> None:
    assume(play(example))


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
@randomly(30, 150, delayed(effects=True), parent=RANDOM)
def test_random_channels(example: Example) -> None:
    assume(play(example))


# ---- one effect at a time ------------------------------------------------------------------------

JITTER = ns.Uniform(0.0, 4.5)
EFFECTS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 3.0},
    "delay per dyad": {"delay": ns.Uniform(0.0, 5.0)},
    "refresh": {"refresh": 3},
    "refresh and threshold": {"refresh": 2, "threshold": 0.1},
    "loss": {"loss": 0.4},
    "loss and refresh": {"loss": 0.4, "refresh": 1},
    "additive noise": {"noise": 0.2},
    "relative noise": {"noise": ns.Noise(0.2, "relative")},
    "nearest": {"quantize": ns.Quantize(4, 2.0)},
    "nearest of a pair": {"quantize": ns.Quantize(3, (-0.5, 1.5))},
    "stochastic": {"quantize": ns.Quantize(4, 2.0, "stochastic")},
    "fifo": {"jitter": JITTER},
    "newest": {"jitter": JITTER, "ordering": "newest"},
    "arrival": {"jitter": ns.Exponential(2.0, 6.0), "ordering": "arrival"},
}
SYNAPSES: dict[str, dict[str, Any]] = {
    "delay": {"delay": ns.Uniform(0.0, 5.0, "synapse")},
    "loss": {"delay": ns.Exponential(2.0, 5.0, "synapse"), "loss": 0.3},
    "fifo": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER},
    "newest": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER, "ordering": "newest"},
    "arrival": {"delay": ns.Uniform(0.0, 3.0, "synapse"), "jitter": JITTER, "ordering": "arrival"},
}
EVERYTHING: dict[str, Any] = {
    "refresh": 3,
    "delay": ns.Uniform(0.0, 3.0),
    "jitter": JITTER,
    "loss": 0.2,
    "noise": 0.05,
    "quantize": ns.Quantize(5, 3.0, "stochastic"),
}


@pytest.mark.parametrize(
    ("network", "effect", "kind"), covering(product(("mlp", "conv"), EFFECTS, KINDS))
)
def test_one_effect(network: str, effect: str, kind: str) -> None:
    channels = {k: channel_of(EFFECTS[effect] if k == kind else {}) for k in KINDS}
    assert play(example_of(NETWORKS[network], ns.Channels(**channels)))


@pytest.mark.parametrize("effect", SYNAPSES)
@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
def test_synapses(init: str, effect: str) -> None:
    """Each with its own delay, drawn or given, beside projections where dyads have one."""
    channel = channel_of(SYNAPSES[effect])
    given = torch.from_numpy(np.random.default_rng(2).integers(0, 7, (4, 5)) * 0.7)
    overrides: Any = {
        "one": {"mean": channel_of({"delay": given, "jitter": JITTER})},
        "two": {"difference": channel_of({"delay": given})},
        "h1->output": {"mean": channel_of({"delay": 2.0}), "difference": channel_of({})},
    }
    assert play(example_of(SKIP, ns.Channels(channel, channel, overrides), init, ticks=10))


@pytest.mark.parametrize(
    ("network", "init", "ordering"),
    covering(product(NETWORKS, ("zero", "feedforward", "carry"), ("fifo", "newest", "arrival"))),
)
def test_all_effects_together(network: str, init: str, ordering: str) -> None:
    mean = channel_of(EVERYTHING | {"ordering": ordering})
    other = {"refresh": None, "noise": ns.Noise(0.3, "relative"), "quantize": None, "loss": 0.1}
    difference = channel_of(EVERYTHING | other | {"ordering": ordering})
    special = ns.Channel(0.03, 2, 4.0, quantize=ns.Quantize(6, (-2.0, 2.0)))
    last = "output" if network == "skip" else "out"
    name = f"h2->{last}" if network == "skip" else last
    overrides: Any = {name: {"mean": special, "difference": channel_of({"delay": 2.5})}}
    channels = ns.Channels(mean, difference, overrides)
    assert play(example_of(NETWORKS[network], channels, init, ticks=8))


@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
def test_a_way_back_before_anything_has_woken(init: str) -> None:
    """Noise makes a difference of neurons that have never woken; it goes back to the winners among
    the means that they see."""
    generator = np.random.default_rng(5)
    wakes: Any = [(1.0, "c1", None), (2.0, "c1", None)]
    for tick in range(3, 9):
        some = np.flatnonzero(generator.random(12) < 0.3).tolist()
        wakes += [(tick, "c2", some), (tick + 0.5, "c1", None)]
    wakes += [(9.0, "c3", None), (9.0, "out", None), (10.0, "c1", None)]
    example = example_of(POOL, ns.Channels(channel_of({}), channel_of({"noise": 0.3})), init)
    assert play(replace(example, wakes=[wakes, wakes]))


@pytest.mark.parametrize("threshold", [1e-7, 0.3])
@pytest.mark.parametrize("delay", [2.0, ns.Uniform(0.0, 4.0)], ids=["alike", "unlike"])
def test_differences_that_vanish(delay: Any, threshold: float) -> None:
    """Without its target a network carries on, and its differences become zero."""
    channel = ns.Channel(threshold, delay=delay)
    example = example_of(SKIP, ns.Channels(difference=channel, mean=ns.Channel(1e-7)), "carry")
    assert play(replace(example, wakes=example.wakes * 2, released=True))


@pytest.mark.parametrize(
    "description", [MLP, SKIP, CONV, POOL], ids=["mlp", "skip", "conv", "pool"]
)
@pytest.mark.parametrize("ordering", ["fifo", "newest", "arrival"])
def test_lazy(description: dict[str, Any], ordering: Any) -> None:
    """A neuron wakes when a message arrives, however late; not for one that is discarded."""
    mean = ns.Channel(0.2, delay=ns.Uniform(0.0, 4.0), jitter=JITTER, ordering=ordering)
    difference = ns.Channel(0.1, delay=1.5, loss=0.2, noise=0.05)
    example = example_of(description, ns.Channels(mean, difference))
    networks, simulation, (x, y) = both(example, ns.schedules.Lazy(unit="neuron", duration=25.0))
    outcome = simulation.infer(torch.from_numpy(x), torch.from_numpy(y))
    for literal, own, target in zip(networks, x, y, strict=True):
        literal.start(own, target)
    found = []
    for time, name, indices in outcome.trace.wakes:
        size = simulation.model.network[name].size
        found += [(int(time), name, i) for i in (range(size) if indices is None else indices)]
    expected = literally_lazy(networks, "zero", 25, found)
    assert sorted(found) == sorted(expected)
    assert not any(n.edge for n in networks)
    check(Pair(outcome, simulation, networks))
    check_counts(outcome, networks)
