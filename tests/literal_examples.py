"""Networks, wakes and rules at which neurosim is compared with the literal simulation: random ones,
and some that are written down."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from literal import Example
from reference import Network
from reference_neurons import Rule
from reference_structure import result_shape

import neurosim as ns

ACTIVATIONS = ["relu", "identity", "hard_sigmoid", "tanh"]

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
                {"kind": "softmax", "gain": 2.0},
                {"kind": "softmax", "gain": 0.5, "kernel": 3, "stride": 1, "padding": 1},
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
# The difference of c2, which is linear, is Δ, and that of an output with a frozen nudge −βg.
STANDING = {
    "input": [2, 6, 6],
    "activation": "tanh",
    "layers": [
        {"name": "c1", "conv": 3},
        {"name": "c2", "conv": 3, "pool": "max", "activation": "identity"},
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
SOFT = {
    "input": [2, 6, 6],
    "layers": [
        {"name": "c1", "conv": 2, "pool": {"kind": "softmax", "gain": 2.0}},
        {"name": "p1", "pool": {"kind": "softmax", "kernel": 2, "stride": 1, "padding": 1}},
        {"name": "c2", "conv": 2, "pool": {"kind": "softmax", "gain": 4.0, "stride": 1}},
        {"name": "out", "dense": 3},
    ],
}


def at_plus(description: dict[str, Any]) -> dict[str, Any]:
    """The same network where differences go back to winners among the states s⁺."""

    def changed(spec: dict[str, Any]) -> dict[str, Any]:
        pool = spec.get("pool")
        pool = {"kind": pool} if isinstance(pool, str) else pool
        if pool is None or pool["kind"] != "max":
            return spec
        return spec | {"pool": pool | {"winners": "plus"}}

    part = "layers" if "layers" in description else "projections"
    return description | {part: [changed(spec) for spec in description[part]]}


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


def literally_lazy(
    networks: list[Network], init: str, ticks: int, seen: Collection[tuple[int, str, int]]
) -> list[tuple[int, str, int]]:
    """Neurons wake when a message reaches them, or a difference that they see goes another way;
    damped ones also when they have just changed. Whether (a + D a) / (1 + D) is a, or next to it,
    differs from machine to machine: a change of rounding alone counts where it was ``seen`` to."""
    first = networks[0]
    due = {(n.place.name, n.index) for n in first.dyads if n.place.role != "input"}
    if init == "feedforward":
        due = {(n.place.name, n.index) for n in first.output}
    wakes, doubtful = [], 0
    for tick in range(1, ticks + 1):
        wakes += [(tick, *neuron) for neuron in sorted(due)]
        exact, rounded = set[tuple[str, int]](), set[tuple[str, int]]()
        for network in networks:
            woken = [network.neurons[name][index] for name, index in due]
            before = [(n.plus, n.minus) for n in woken]
            routes = network.routes()
            network.step([(name, [index]) for name, index in due])
            news = [m.receiver for m in network.deliver()]
            news += network.rewired(routes)
            exact |= {(n.place.name, n.index) for n in news}
            for n, old in zip(woken, before, strict=True):
                if network.damping[n.place.name]:
                    change = max(abs(n.plus - old[0]), abs(n.minus - old[1]))
                    (exact if change > 1e-15 else rounded).add((n.place.name, n.index))
        due = exact | {neuron for neuron in rounded if (tick + 1, *neuron) in seen}
        doubtful += len(due - exact)
    assert doubtful <= len(wakes) // 50
    return wakes
