"""neurosim against the literal simulation of `reference.py`, and that against pencil and paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from reference import Network, Rule, result_shape

import neurosim as ns
from neurosim.rules.dual_propagation import spectral_norm

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
    tick: float = 1.0
    seed: int = 0
    scale: float = 1.0
    compute: str = "auto"
    processes: str = "population"
    thresholds: dict[str, float] = field(default_factory=dict)


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


def simulate(example: Example) -> Pair:
    model = model_of(example)
    network = model.network
    rule = example.rule
    generator = np.random.default_rng(example.seed + 1)
    channels = ns.Channels(**{k: ns.Channel(threshold=v) for k, v in example.thresholds.items()})
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
            thresholds=example.thresholds,
        )
        for _ in range(example.batch)
    ]
    outcome, simulation = None, None
    for number, wakes in enumerate(example.wakes):
        x = generator.standard_normal((example.batch, *network.input.shape))
        y = generator.standard_normal((example.batch, *network.output.shape))
        if example.loss == "cross_entropy":
            y = np.exp(y)
            y /= y.reshape(example.batch, -1).sum(1).reshape(-1, *[1] * (y.ndim - 1))
        if simulation is None:
            simulation = ns.Simulation(
                model,
                rule=ns.DualPropagation(
                    alpha=rule.alpha, beta=rule.beta, variant=rule.variant, nudge=rule.nudge
                ),
                loss=example.loss,
                schedule=ns.schedules.Replay(wakes, tick=example.tick),
                channels=channels,
                init=example.init,
                nudge_after=example.nudge_after,
                compute=example.compute,
                processes=example.processes,
            )
        target = torch.from_numpy(y) if example.targeted else None
        outcome = simulation.infer(torch.from_numpy(x), target)
        for sample, literal in enumerate(networks):
            init = "carry" if number else example.init
            literal.start(
                x[sample],
                y[sample] if example.targeted else None,
                init=init,
                nudge_after=example.nudge_after,
            )
            literal.replay(wakes, example.tick)
    assert outcome is not None
    assert simulation is not None
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
    draw: st.DrawFn, variants: Sequence[str] = ("aro", "lagrangian"), pools: bool = True
) -> Example:
    init = draw(st.sampled_from(["zero", "feedforward", "carry"]))
    kinds = [chains(pools=pools), graphs(pools=pools, cycles=init != "feedforward")]
    description = draw(st.one_of(kinds))
    rule, loss = draw(rules(variants, init))
    try:
        network = ns.Network.from_dict(description)
    except ns.NetworkError as problem:
        event(f"not a network: {str(problem)[:60]}")
        assume(False)
    for q in network.dyadic:  # TEMP
        c = ns.Model(network).bias_carrier(q)
        assume(not (c is None and q.role == "output" and q.bias))
        assume(not (c and len(q.shape) == 3 and type(c.operator).__name__ == "Dense"))
    sizes = {p.name: p.size for p in network.dyadic}
    tick = draw(st.sampled_from([1.0, 0.5]))
    wakes = [draw(replays(sizes, tick))]
    if init == "carry":
        wakes.append(wakes[0])
    last = max(-(-time // tick) for time, _, _ in wakes[0])
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
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@RANDOM
@given(examples())
def test_random_networks(example: Example) -> None:
    pair = simulate(example)
    ops = sorted(
        {
            type(p.operator).__name__
            + ("+" + p.operator.pool.kind if getattr(p.operator, "pool", None) else "")
            for p in pair.simulation.model.network.projections
        }
    )
    for o in ops:
        event("op " + o)
    event(f"init {example.init}")
    event(f"pops {len(pair.outcome.plus)}")
    event(f"wakes {len(example.wakes[0]) // 5}")
    event(
        f"hidden difference {sum(bool(((pair.outcome.plus[k] - pair.outcome.minus[k]).abs() > 1e-9).any()) for k in pair.outcome.plus)}"
    )
    event(f"cyc {pair.simulation.model.network.cycle is not None}")
    event(f"tie {any(n.tie for n in pair.networks)}")
    assume(not any(n.tie for n in pair.networks))
    check(pair)


@settings(RANDOM, max_examples=300)
@given(examples(variants=["damped"], pools=False))
def test_damped(example: Example) -> None:
    check(simulate(example))
