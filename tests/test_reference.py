"""neurosim against the literal simulation of `reference.py`, and that against pencil and paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import Network, Rule, result_shape, structure
from reference_channel import Channel

import neurosim as ns
from neurosim.channels.channel import Given
from neurosim.channels.distributions import Distribution
from neurosim.channels.effects import Draws, Moment
from neurosim.maths.spectrum import spectral_norm

TOLERANCE = 1e-12
ACTIVATIONS = ["relu", "identity", "hard_sigmoid", "tanh"]


@dataclass
class Example:
    """What both simulate. Inferences after the first carry on from it."""

    description: dict[str, Any]
    rule: Rule
    loss: str
    init: str
    batch: int
    wakes: list[list[tuple[float, str, list[int] | None]]]
    nudge_after: int = 0
    targeted: bool = True
    released: bool = False  # whether every other inference has no target
    tick: float = 1.0
    seed: int = 0
    scale: float = 1.0
    compute: str = "auto"
    processes: str = "population"
    channels: ns.Channels = field(default_factory=ns.Channels)
    probes: tuple[Any, ...] = ("wakes",)


@dataclass
class Pair:
    """The same inference by both: neurosim's outcome and one reference network per sample."""

    outcome: ns.Outcome
    simulation: ns.Simulation
    networks: list[Network]


def model_of(example: Example) -> ns.Model:
    """Random weights of a size that keeps a population's potential near ``scale``."""
    network = ns.Network.from_dict(example.description)
    model = ns.Model(network, dtype=torch.float64)
    generator = np.random.default_rng(example.seed)
    values = {}
    for key, value in model.state_dict().items():
        owner, kind = key.rsplit(".", 1)
        draws = generator.standard_normal(tuple(value.shape))
        if kind == "weight":
            draws *= example.scale / np.sqrt(network.projection(owner).operator.fans[0])
        values[key] = torch.from_numpy(0.3 * draws if kind == "bias" else draws)
    model.load_state_dict(values)
    return model


def both(
    example: Example, schedule: ns.schedules.Schedule
) -> tuple[list[Network], ns.Simulation, tuple[np.ndarray, np.ndarray]]:
    """Reference networks, one per sample, the simulation, and an input with its target."""
    model = model_of(example)
    network, rule = model.network, example.rule
    sigma = {
        p.name: spectral_norm(p.operator, model.parameter(p.name, "weight"))
        for p in network.projections
    }
    parameters = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    networks = [
        Network(
            example.description,
            parameters,
            rule,
            example.loss,
            sigma=sigma,
            channels=literal_channels(example, network, sample),
        )
        for sample in range(example.batch)
    ]
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(
            alpha=rule.alpha, beta=rule.beta, variant=rule.variant, nudge=rule.nudge
        ),
        loss=example.loss,
        schedule=schedule,
        channels=example.channels,
        init=example.init,
        nudge_after=example.nudge_after,
        compute=example.compute,
        processes=example.processes,
        probes=example.probes,
        seed=example.seed,
    )
    return networks, simulation, data(example, network, 0)


def literal_channels(
    example: Example, network: ns.Network, sample: int
) -> dict[tuple[str, str], Channel]:
    """The same channels, with the draws of this sample as numbers."""
    found = {}
    defaults = {"mean": example.channels.mean, "difference": example.channels.difference}
    for projection, (kind, default) in product(network.projections, defaults.items()):
        channel = example.channels.overrides.get(projection.name, {}).get(kind, default)
        draws = Draws(example.seed, "channels", projection.name, kind)
        senders = network[projection.pre if kind == "mean" else projection.post].shape
        found[kind, projection.name] = literal_channel(example, channel, draws, senders, sample)
        if isinstance(channel.delay, Distribution):
            shape = senders
            if channel.delay.per == "synapse":
                shape = projection.operator.weight_shape
            times = channel.delay.quantile(draws.once("delay", shape).numpy())
            times = times if channel.delay.per == "synapse" else times.reshape(-1)
            found[kind, projection.name].delay = times
    return found


def literal_channel(
    example: Example, channel: ns.Channel, draws: Draws, senders: tuple[int, ...], sample: int
) -> Channel:
    delay, jitter, quantize = channel.delay, channel.jitter, channel.quantize
    if isinstance(delay, Given):
        delay = delay.values.reshape(-1) if delay.values.shape == senders else delay.values

    @cache
    def draw(effect: str, inference: int, tick: int) -> np.ndarray:
        moment, shape = Moment(inference, tick), (example.batch, *senders)
        if effect == "noise":
            drawn = draws.normal(effect, moment, shape)
        elif effect == "loss":
            drawn = draws.uniform(effect, moment, shape, torch.float32)
        else:
            drawn = draws.uniform(effect, moment, shape)
        return drawn[sample].flatten().numpy()

    return Channel(
        channel.threshold,
        channel.refresh,
        delay,
        None if jitter is None else lambda share: float(jitter.quantile(np.array(share))),
        channel.ordering,
        channel.loss,
        None if channel.noise is None else (channel.noise.kind, channel.noise.std),
        None if quantize is None else quantize.grid,
        "nearest" if quantize is None else quantize.rounding,
        example.tick,
        draw,
    )


def data(example: Example, network: ns.Network, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The input and the target of that inference; some of the input is that of the one before."""
    generator = np.random.default_rng([example.seed, number])
    x = generator.standard_normal((example.batch, *network.input.shape))
    y = generator.standard_normal((example.batch, *network.output.shape))
    if number:
        x = np.where(generator.random(x.shape) < 0.3, data(example, network, number - 1)[0], x)
    if example.loss == "cross_entropy":
        y = np.exp(y)
        y /= y.reshape(example.batch, -1).sum(1).reshape(-1, *[1] * (y.ndim - 1))
    return x, y


def simulate(example: Example) -> Pair:
    schedule = ns.schedules.Replay(example.wakes[0], tick=example.tick)
    networks, simulation, _ = both(example, schedule)
    for number, wakes in enumerate(example.wakes):
        x, y = data(example, simulation.model.network, number)
        target = torch.from_numpy(y) if example.targeted else None
        outcome = simulation.infer(torch.from_numpy(x), target)
        for literal, own, wanted in zip(networks, x, y, strict=True):
            literal.start(
                own,
                wanted if example.targeted else None,
                init=example.init,
                nudge_after=example.nudge_after,
            )
            literal.replay(wakes, example.tick)
    return Pair(outcome, simulation, networks)


def error(actual: torch.Tensor, expected: np.ndarray) -> float:
    """The largest deviation, relative to the largest value but at least 1."""
    assert tuple(actual.shape) == expected.shape
    deviation = np.abs(actual.detach().numpy() - expected).max()
    return float(deviation / max(1.0, np.abs(expected).max()))


def check(pair: Pair) -> None:
    network = pair.simulation.model.network
    for population in network.dyadic:
        for side, values in enumerate((pair.outcome.plus, pair.outcome.minus)):
            expected = np.stack([n.states(population.name)[side] for n in pair.networks])
            deviation = error(values[population.name], expected)
            assert deviation <= TOLERANCE, (population.name, ["plus", "minus"][side])
    gradients = pair.simulation.gradients()
    literal = [n.gradients() for n in pair.networks]
    assert set(gradients) == set(literal[0])
    for name, gradient in gradients.items():
        expected = np.mean([own[name] for own in literal], axis=0)
        assert error(gradient, expected) <= TOLERANCE, name
    assert pair.outcome.wakes == sum(n.counts["wakes"] for n in pair.networks) // len(pair.networks)


# ---- random networks, wakes and rules ------------------------------------------------------------


PLANE = st.sampled_from([True, True, False])


def leaves_room(shape: Sequence[int], spec: dict[str, Any]) -> bool:
    """Whether no window is larger than what it slides over."""
    middle = result_shape(tuple(shape), {k: v for k, v in spec.items() if k != "pool"})
    return min(middle) >= 1 and min(result_shape(tuple(shape), spec)) >= 1


@st.composite
def windows(draw: st.DrawFn, shape: Sequence[int], *, pools: str) -> dict[str, Any]:
    """A convolution, a pool, or both, that fit on ``shape``; ``pools`` is no, maybe or only."""
    spec: dict[str, Any] = {"op": "pool"}
    if pools != "only":
        spec = {"op": "conv", "channels": draw(st.integers(1, 3))}
        spec["kernel"] = draw(st.sampled_from([1, 2, 3, [1, 3], [3, 2]]))
        spec["stride"] = draw(st.sampled_from([1, 1, 2, [2, 1]]))
        odd = spec["kernel"] in (1, 3, [1, 3])
        spec["padding"] = draw(st.sampled_from((["same"] if odd else []) + ["valid", 0]))
        if spec["kernel"] in (2, 3):
            spec["padding"] = draw(st.sampled_from([spec["padding"], 1, [1, 0]]))
    if pools == "only" or (pools == "maybe" and draw(st.integers(0, 3)) > 0):
        choice = st.sampled_from(
            [
                "max",
                "max",
                "avg",
                "max",
                {"kind": "max", "kernel": 3, "stride": 1, "padding": 1},
                {"kind": "max", "kernel": [2, 1]},
                {"kind": "avg", "kernel": [1, 2], "stride": 1},
                {"kind": "avg", "kernel": 2, "stride": 2, "padding": 1},
            ]
        )
        spec["pool"] = draw(choice)
    if leaves_room(shape, spec):
        return spec
    if pools == "only":
        return {"op": "pool", "pool": {"kind": "max", "kernel": 1}}
    return {"op": "conv", "channels": 2, "kernel": 3, "stride": 1, "padding": "same"}


@st.composite
def graphs(draw: st.DrawFn, *, pools: bool, cycles: bool) -> dict[str, Any]:
    """A trunk from the input to the output with a few more projections across it."""
    if draw(PLANE):
        shape = [draw(st.integers(1, 2)), draw(st.integers(2, 5)), draw(st.integers(2, 4))]
    else:
        shape = [draw(st.integers(2, 4))]
    populations: dict[str, Any] = {"input": {"shape": shape, "role": "input"}}
    projections: list[dict[str, Any]] = []
    hidden = draw(st.sampled_from([2, 1, 3, 2, 0]))
    for number in range(hidden + 1):
        name = "output" if number == hidden else f"h{number + 1}"
        pre = draw(st.sampled_from(list(populations)[-2:])) if number else "input"
        if name == "output" and pre == "input" and number:
            pre = f"h{hidden}"
        shape = populations[pre]["shape"]
        ops = ["dense", "dense", "identity"]
        if len(shape) == 3:
            ops = ["conv"] * 6 + ["dense", "identity"] + (["pool"] if pools else [])
        if name == "output":
            ops = ["dense"] * 8 + ops
        op = draw(st.sampled_from(ops))
        if op == "dense":
            spec, shape = {}, [draw(st.integers(2, 5))]
        elif op == "identity":
            spec = {}
        else:
            kind = "only" if op == "pool" else "maybe" if pools else "no"
            spec = draw(windows(shape, pools=kind))
            shape = list(result_shape(tuple(shape), spec))
            spec.pop("channels", None)
        populations[name] = {"shape": shape}
        if name == "output":
            populations[name]["role"] = "output"
        else:
            populations[name]["activation"] = draw(st.sampled_from(ACTIVATIONS))
        if draw(st.integers(0, 4)) == 0:
            populations[name]["bias"] = draw(st.booleans())
        projections.append({"from": pre, "to": name, "op": op} | spec)
    for number in range(draw(st.integers(0, 3))):
        names = list(populations)
        a, b = draw(st.integers(0, len(names) - 1)), draw(st.integers(1, len(names) - 1))
        if not cycles and a >= b:
            a, b = (b, a) if a > b else (a - 1, b)
        pre, post = names[a], names[b]
        op = "dense"
        if populations[pre]["shape"] == populations[post]["shape"]:
            op = draw(st.sampled_from(["dense", "identity", "conv"]))
            op = op if len(populations[pre]["shape"]) == 3 or op != "conv" else "dense"
        extra = {"from": pre, "to": post, "op": op, "name": f"extra{number}"}
        projections.insert(draw(st.integers(0, len(projections))), extra)
    description: dict[str, Any] = {"populations": populations, "projections": projections}
    weighted = [p for p in projections if p["op"] in ("dense", "conv")]
    assume(weighted)
    return description


@st.composite
def chains(draw: st.DrawFn, *, pools: bool) -> dict[str, Any]:
    plane = draw(PLANE)
    shape: tuple[int, ...] = (2, 4, 5) if plane else (3,)
    layers: list[dict[str, Any]] = []
    description: dict[str, Any] = {"input": list(shape) if plane else 3}
    if draw(st.booleans()):
        description["activation"] = draw(st.sampled_from(ACTIVATIONS))
    for _ in range(draw(st.sampled_from([2, 1, 3])) if plane else 0):
        alone = pools and draw(st.integers(0, 4)) == 4
        spec = draw(windows(shape, pools="only" if alone else "maybe" if pools else "no"))
        shape = result_shape(shape, spec)
        spec.pop("op")
        if "channels" in spec:
            spec["conv"] = spec.pop("channels")
        layers.append({"name": f"p{len(layers)}"} | spec)
    for _ in range(draw(st.sampled_from([1, 0, 2]))):
        layers.append({"name": f"p{len(layers)}", "dense": draw(st.integers(2, 6))})
    layers.append({"name": "out", "dense": draw(st.integers(2, 4))})
    if draw(st.booleans()):
        layers[0]["activation"] = "identity" if len(layers) == 1 else "tanh"
        layers[0]["bias"] = False
    return description | {"layers": layers}


@st.composite
def rules(draw: st.DrawFn, variants: Sequence[str], init: str) -> tuple[Rule, str]:
    variant = draw(st.sampled_from(variants))
    alpha = draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0))
    nudges = ["potential", "proximal"] + (["prediction"] if init == "feedforward" else [])
    nudge = draw(st.sampled_from(nudges))
    beta = draw(st.floats(0.01, 1.5))
    if nudge == "proximal":
        beta = min(beta, 0.7 / max(1e-9, alpha if variant == "lagrangian" else 1.0 - alpha))
        return Rule(variant, alpha, beta, nudge), "squared_error"
    loss = draw(st.sampled_from(["squared_error", "cross_entropy"]))
    return Rule(variant, alpha, beta, nudge), loss


@st.composite
def replays(
    draw: st.DrawFn, sizes: dict[str, int], tick: float
) -> list[tuple[float, str, list[int] | None]]:
    """Every population at least once; quarters of a tick, so that their ticks are exact."""
    names = draw(st.permutations(list(sizes)))
    names += draw(st.lists(st.sampled_from(list(sizes)), min_size=len(sizes), max_size=14))
    wakes: list[tuple[float, str, list[int] | None]] = []
    for name in names:
        indices = None
        if draw(st.booleans()):
            places = st.integers(0, sizes[name] - 1)
            indices = draw(st.lists(places, min_size=1, max_size=sizes[name], unique=True))
        wakes.append((tick * draw(st.integers(1, 4 * 9)) / 4.0, name, indices))
    return wakes


@st.composite
def examples(
    draw: st.DrawFn,
    variants: Sequence[str] = ("aro", "lagrangian"),
    pools: bool = True,
    ticks: Sequence[float] = (1.0, 0.5),
) -> Example:
    init = draw(st.sampled_from(["zero", "feedforward", "carry"]))
    kinds = [chains(pools=pools), graphs(pools=pools, cycles=init != "feedforward")]
    description = draw(st.one_of(kinds))
    rule, loss = draw(rules(variants, init))
    network = ns.Network.from_dict(description)
    sizes = {p.name: p.size for p in network.dyadic}
    tick = draw(st.sampled_from(ticks))
    wakes = [draw(replays(sizes, tick))]
    if init == "carry":
        wakes.append(wakes[0])
    last = max(ceil(time / tick - 1e-9) for time, _, _ in wakes[0])
    return Example(
        description,
        rule,
        loss,
        init,
        batch=draw(st.integers(1, 2)),
        wakes=wakes,
        nudge_after=draw(st.sampled_from([0, 0, 0, 1]) | st.integers(0, int(last))),
        targeted=draw(st.integers(0, 9)) > 0,
        tick=tick,
        seed=draw(st.integers(0, 2**20)),
        scale=draw(st.sampled_from([0.7, 1.0, 1.6])),
        compute=draw(st.sampled_from(["auto", "dense"])),
        processes=draw(st.sampled_from(["population", "neuron"])),
    )


RANDOM = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@RANDOM
@given(examples())
def test_random_networks(example: Example) -> None:
    pair = simulate(example)
    assume(not any(n.tie for n in pair.networks))
    check(pair)


@settings(RANDOM, max_examples=80)
@given(examples(variants=["damped"], pools=False))
def test_damped(example: Example) -> None:
    check(simulate(example))


# ---- examples ------------------------------------------------------------------------------------

MLP = {
    "input": 4,
    "activation": "tanh",
    "layers": [{"name": n, "dense": d} for n, d in (("h1", 6), ("h2", 5), ("out", 3))],
}
SKIP = {
    "populations": {
        "input": {"shape": [4], "role": "input"},
        "h1": {"shape": [5], "activation": "tanh"},
        "h2": {"shape": [4], "activation": "tanh"},
        "output": {"shape": [3], "role": "output"},
    },
    "projections": [
        {"from": "input", "to": "h1"},
        {"from": "h1", "to": "h2", "name": "one"},
        {"from": "h1", "to": "h2", "name": "two"},
        {"from": "h2", "to": "output"},
        {"from": "h1", "to": "output"},
        {"from": "input", "to": "output"},
    ],
}
CONV = {
    "input": [2, 4, 4],
    "activation": "tanh",
    "layers": [
        {"name": "c1", "conv": 3, "stride": 2},
        {"name": "c2", "conv": 2, "kernel": [1, 2], "padding": [0, 1]},
        {"name": "out", "dense": 3},
    ],
}
POOL = {
    "input": [2, 6, 6],
    "layers": [
        {"name": "c1", "conv": 3, "pool": "max"},
        {"name": "c2", "conv": 3, "pool": {"kind": "max", "kernel": 2, "stride": 1}},
        {"name": "c3", "conv": 2, "pool": "avg"},
        {"name": "out", "dense": 3},
    ],
}


def random_wakes(
    description: dict[str, Any], ticks: int, seed: int
) -> list[tuple[float, str, list[int] | None]]:
    """At every tick about half of the populations; about half of their dyads, or all of them."""
    generator = np.random.default_rng(seed)
    populations = ns.Network.from_dict(description).dyadic
    wakes: list[tuple[float, str, list[int] | None]] = []
    for tick in range(1, ticks + 1):
        for population in populations:
            if generator.random() < 0.5 and tick > 1:
                continue
            some = np.flatnonzero(generator.random(population.size) < 0.5).tolist()
            wakes.append((float(tick), population.name, some if generator.random() < 0.7 else None))
    return wakes


@pytest.mark.parametrize("init", ["zero", "feedforward"])
@pytest.mark.parametrize("description", [MLP, SKIP, CONV], ids=["mlp", "skip", "conv"])
@pytest.mark.parametrize("thresholds", [(1e-9, 1e-9), (1e-3, 1e-9), (1e-2, 3e-2)])
def test_messages(description: dict[str, Any], init: str, thresholds: tuple[float, float]) -> None:
    """A threshold above round-off makes the number of messages one that does not hang on it."""
    pair = simulate(
        Example(
            description,
            Rule("aro", 0.4, 0.5, "potential"),
            "squared_error",
            init,
            batch=3,
            wakes=[random_wakes(description, 30, seed=4)],
            channels=ns.Channels(*map(ns.Channel, thresholds)),
        )
    )
    check(pair)
    counts = pair.outcome.counts
    assert counts.mean_messages == sum(n.counts["mean"] for n in pair.networks)
    assert counts.difference_messages == sum(n.counts["difference"] for n in pair.networks)
    assert counts.synaptic_operations == sum(n.counts["synaptic"] for n in pair.networks)
    assert counts.mean_messages > 20
    assert counts.difference_messages > 20


@pytest.mark.parametrize("variant", ["aro", "lagrangian"])
@pytest.mark.parametrize("unit", ["neuron", "channel", "column", "tile", "block", "population"])
def test_recorded_wakes(unit: Any, variant: Any) -> None:
    """What the probe `wakes` recorded of units of any kind, through the literal simulation."""
    rule = Rule(variant, 0.3, 0.4, "potential")
    example = Example(POOL, rule, "cross_entropy", "zero", batch=1, wakes=[])
    model = model_of(example)
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((1, 2, 6, 6)))
    y = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    unit = ns.Unit(unit, {"tile": 2, "block": 7}.get(unit))
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.3, beta=0.4, variant=variant, nudge="potential"),
        loss="cross_entropy",
        schedule=ns.schedules.Poisson(unit=unit, rate=0.7, duration=12.0),
        init="zero",
        probes=["wakes"],
        seed=2,
    )
    outcome = simulation.infer(x, y)
    literal = Network(
        POOL, {k: v.detach().numpy() for k, v in model.state_dict().items()}, rule, "cross_entropy"
    )
    literal.start(x, y)
    literal.replay(outcome.trace.wakes)
    assert not literal.tie
    check(Pair(outcome, simulation, [literal]))


def literally_lazy(networks: list[Network], init: str, ticks: int) -> list[tuple[int, str, int]]:
    """Neurons wake when a message reaches them, or a difference that they see goes another way;
    damped ones also when they have just changed."""
    first = networks[0]
    due = {(n.place.name, n.index) for n in first.dyads if n.place.role != "input"}
    if init == "feedforward":
        due = {(n.place.name, n.index) for n in first.output}
    wakes = []
    for tick in range(1, ticks + 1):
        wakes += [(tick, *neuron) for neuron in sorted(due)]
        following: set[tuple[str, int]] = set()
        for network in networks:
            woken = [network.neurons[name][index] for name, index in due]
            before = [(n.plus, n.minus) for n in woken]
            routes = network.routes()
            network.step([(name, [index]) for name, index in due])
            news = [m.receiver for m in network.deliver()]
            news += network.rewired(routes)
            news += [
                n
                for n, old in zip(woken, before, strict=True)
                if network.damping[n.place.name] and (n.plus, n.minus) != old
            ]
            following |= {(n.place.name, n.index) for n in news}
        due = following
    return wakes


@pytest.mark.parametrize("init", ["zero", "feedforward"])
@pytest.mark.parametrize("variant", ["aro", "damped"])
@pytest.mark.parametrize(
    "description", [MLP, SKIP, CONV, POOL], ids=["mlp", "skip", "conv", "pool"]
)
def test_lazy(description: dict[str, Any], variant: Any, init: Any) -> None:
    """Who wakes when under the event-driven schedule; a sample's news wakes the whole batch's."""
    rule = Rule(variant, 0.8, 0.5, "potential")
    example = Example(description, rule, "squared_error", init, batch=2, wakes=[])
    example.channels = ns.Channels(ns.Channel(0.2), ns.Channel(0.1))
    networks, simulation, (x, y) = both(example, ns.schedules.Lazy(unit="neuron", duration=12.0))
    outcome = simulation.infer(torch.from_numpy(x), torch.from_numpy(y))
    for literal, own, target in zip(networks, x, y, strict=True):
        literal.start(own, target, init=init)
    expected = literally_lazy(networks, init, 12)
    found = []
    for time, name, indices in outcome.trace.wakes:
        size = simulation.model.network[name].size
        found += [(int(time), name, i) for i in (range(size) if indices is None else indices)]
    assert sorted(found) == sorted(expected)
    assert len(expected) < 12 * simulation.model.network.dyads
    check(Pair(outcome, simulation, networks))


@pytest.mark.parametrize("compute", ["auto", "dense"])
@pytest.mark.parametrize("seed", range(4))
def test_winners_change_under_a_difference_that_does_not(seed: int, compute: str) -> None:
    """The difference of a linear dyad is Δ, and that of an output with a frozen nudge is −βg.

    So nothing new is sent to c1 when winners of c2 change, but it goes back another way.
    """
    layers = [
        {"name": "c1", "conv": 3},
        {"name": "c2", "conv": 3, "pool": "max", "activation": "identity"},
        {"name": "out", "dense": 3},
    ]
    description = {"input": [2, 6, 6], "activation": "tanh", "layers": layers}
    wakes: list[tuple[float, str, list[int] | None]] = [
        (float(tick), name, None)
        for tick, name in enumerate(("out", "c2", "c1", "c2", "c1", "c2", "c1"), 1)
    ]
    generator = np.random.default_rng(seed)
    for tick in range(8, 14):
        for name, size in (("c1", 108), ("c2", 27)):
            wakes.append((tick, name, np.flatnonzero(generator.random(size) < 0.4).tolist()))
    rule = Rule("aro", 0.2, 6.0, "prediction")
    example = Example(description, rule, "squared_error", "feedforward", 2, [wakes], seed=seed)
    example.compute = compute
    pair = simulate(example)
    assert not any(n.tie for n in pair.networks)
    check(pair)
    before = simulate(replace(example, wakes=[wakes[:3]]))
    changed = [
        network.winner(now) != earlier.winner(then)
        for network, earlier in zip(pair.networks, before.networks, strict=True)
        for now, then in zip(network.afferents("c2"), earlier.afferents("c2"), strict=True)
    ]
    assert sum(changed) > 5


def test_the_reference_is_torch_when_fed_forward() -> None:
    description = POOL | {"layers": [dict(layer) for layer in POOL["layers"]]}
    description["layers"].insert(3, {"name": "p", "pool": {"kind": "avg", "kernel": [2, 1]}})
    description["layers"][0] |= {"stride": [1, 2], "kernel": [3, 2], "padding": 1}
    description["layers"][2]["pool"] = {"kind": "max", "kernel": 2, "stride": 1, "padding": 1}
    example = Example(
        description, Rule("aro", 0.5, 1.0, "potential"), "squared_error", "zero", 1, []
    )
    values = model_of(example).state_dict()
    f = torch.nn.functional
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 6, 6)))
    h = f.conv2d(x, values["c1.weight"], values["c1.bias"], stride=(1, 2), padding=1)
    h = torch.relu(f.max_pool2d(h, 2))
    h = f.conv2d(h, values["c2.weight"], values["c2.bias"], padding=1)
    h = torch.relu(f.max_pool2d(h, 2, 1))
    h = f.conv2d(h, values["c3.weight"], values["c3.bias"], padding=1)
    h = torch.relu(f.max_pool2d(h, 2, 1, 1))
    h = f.avg_pool2d(h, (2, 1))
    h = f.linear(h.flatten(1), values["out.weight"], values["out.bias"])
    literal = Network(description, values, example.rule, "squared_error")
    literal.start(x, None, init="feedforward")
    assert error(h, literal.states("out")[0][None]) < 1e-14


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_reference_back_propagates(loss: str) -> None:
    """With DP⊤ and a small linearized nudge one downward sweep is back-propagation (DP24)."""
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 2, 6, 6)))
    y = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    rule = Rule("lagrangian", 0.25, 1e-3, "prediction")
    model = model_of(Example(POOL, rule, loss, "feedforward", 1, []))
    literal = Network(
        POOL, {k: v.detach().numpy() for k, v in model.state_dict().items()}, rule, loss
    )
    literal.start(x, y, init="feedforward")
    literal.replay([(float(t), p, None) for t, p in enumerate(("out", "c3", "c2", "c1"), 1)])
    prediction = model(x)
    value = 0.5 * (prediction - y).square().sum()
    if loss == "cross_entropy":
        value = -(y * torch.log_softmax(prediction, 1)).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(value, parameters), strict=True):
        assert error(gradient, literal.gradients()[name]) < 1e-11


def test_the_reference_on_paper() -> None:
    """One linear neuron per layer: x = 2, W = 3 and 5, b = 1 and y = 27, α = ¼, β = ½."""
    description = {
        "input": 1,
        "activation": "identity",
        "layers": [{"name": "h", "dense": 1}, {"name": "o", "dense": 1}],
    }
    weights = {"h.weight": [[3.0]], "h.bias": [0.0], "o.weight": [[5.0]], "o.bias": [1.0]}
    literal = Network(description, weights, Rule("aro", 0.25, 0.5, "potential"), "squared_error")
    (h,), (o,) = literal.neurons["h"], literal.neurons["o"]
    literal.start([2.0], [27.0])
    literal.step([("h", None), ("o", None)])  # o sees nothing yet: a = 1, g = −26
    assert (h.plus, h.minus) == (6.0, 6.0)
    assert (o.plus, o.minus) == (1.0 + 0.25 * 13.0, 1.0 - 0.75 * 13.0)
    literal.step([("h", None), ("o", None)])  # h sees δ = 13, Δ = 65; o sees 6: a = 31, g = 4
    assert (h.plus, h.minus) == (6.0 + 0.25 * 65.0, 6.0 - 0.75 * 65.0)
    assert (o.plus, o.minus) == (31.0 - 0.25 * 2.0, 31.0 + 0.75 * 2.0)
    literal.deliver()  # the mean of h is 6 − ½·65 = −26.5
    gradients = literal.gradients()
    assert gradients["o.weight"] == 2.0 / 0.5 * -26.5
    assert gradients["o.bias"] == 2.0 / 0.5
    assert gradients["h.weight"] == -65.0 / 0.5 * 2.0
    assert literal.counts == {"wakes": 4, "mean": 2, "difference": 2, "synaptic": 4}


# ---- what this found -----------------------------------------------------------------------------


def test_dense_onto_a_plane_with_a_bias() -> None:
    description = {
        "populations": {
            "input": {"shape": [3], "role": "input"},
            "h": {"shape": [2, 2, 3]},
            "output": {"shape": [2], "role": "output"},
        },
        "projections": [{"from": "input", "to": "h"}, {"from": "h", "to": "output"}],
    }
    wakes = [(1.0, "h", None), (2.0, "output", None), (3.0, "h", [0, 5, 7]), (4.0, "output", [1])]
    rule = Rule("aro", 0.5, 1.0, "potential")
    for compute in ("auto", "dense"):
        for init in ("zero", "feedforward"):
            example = Example(description, rule, "squared_error", init, 2, [wakes])
            example.compute = compute
            check(simulate(example))


def test_average_pooling_with_padding_from_torch() -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.AvgPool2d(2, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(18, 3),
    ).double()
    model = ns.Model(ns.Network.from_torch(module, (1, 4, 4)), dtype=torch.float64)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 4, 4)))
    assert torch.allclose(model(x), module(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("op", ["identity", "dense"])
def test_outputs_that_never_woke_have_no_potential(op: str) -> None:
    """Cross-entropy at an output whose neighbours have not woken yet, with and without weights."""
    description = {
        "populations": {
            "input": {"shape": [3], "role": "input"},
            "h": {"shape": [3]},
            "output": {"shape": [3], "role": "output", "bias": True},
        },
        "projections": [{"from": "input", "to": "h"}, {"from": "h", "to": "output", "op": op}],
    }
    wakes = [(1.0, "h", None), (2.0, "output", [1]), (3.0, "h", None), (4.0, "output", [2])]
    rule = Rule("aro", 0.5, 1.0, "potential")
    check(simulate(Example(description, rule, "cross_entropy", "zero", 2, [wakes])))


# ---- the spectral norm, which the reference takes from neurosim ----------------------------------


@settings(RANDOM, max_examples=100)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20))
def test_spectral_norm_of_dense(height: int, width: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((height, width))
    network = ns.Network.from_dict({"input": width, "layers": [{"name": "o", "dense": height}]})
    value = spectral_norm(network.projections[0].operator, torch.from_numpy(matrix))
    assert value == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-12)


@settings(RANDOM, max_examples=25)
@given(windows([2, 5, 4], pools="maybe"), st.integers(0, 2**20))
def test_spectral_norm_of_conv(spec: dict[str, Any], seed: int) -> None:
    """σ of the convolution without its pooling, against the matrix of all its synapses."""
    layer = {k: v for k, v in spec.items() if k not in ("op", "channels")}
    layer |= {"name": "c", "conv": spec["channels"]}
    shape = (spec["channels"], 2, *np.broadcast_to(spec["kernel"], 2))
    weight = np.random.default_rng(seed).standard_normal(shape)
    network = ns.Network.from_dict({"input": [2, 5, 4], "layers": [layer]})
    value = spectral_norm(network.projections[0].operator, torch.from_numpy(weight))
    layer.pop("pool", None)
    _, (pathway,) = structure({"input": [2, 5, 4], "layers": [layer]})
    matrix = np.zeros((len(pathway.branches), 40))
    for post, (branch,) in enumerate(pathway.branches):
        for synapse in branch:
            matrix[post, synapse.pre] += weight[synapse.key]
    assert value == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-12)
