"""What the conformance tests run over: schedules, units, networks and rules, all of them small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

import neurosim as ns
from neurosim.conformance.simulations import Setup, model_of, simulated
from neurosim.rules import Rule

# ---- networks ------------------------------------------------------------------------------------

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {
        "input": 5,
        "layers": [{"name": n, "dense": d} for n, d in (("h1", 7), ("h2", 6), ("out", 3))],
    },
    # The difference of c2, which is linear, may stay as it is where its winners change.
    "conv": {
        "input": [2, 8, 6],
        "layers": [
            {"name": "c1", "conv": 3, "pool": "max"},
            {
                "name": "c2",
                "conv": 4,
                "pool": {"kind": "max", "kernel": 2, "stride": 1},
                "activation": "identity",
            },
            {"name": "out", "dense": 3},
        ],
    },
    "skip": {
        "populations": {
            "input": {"shape": [4], "role": "input"},
            "h1": {"shape": [6], "activation": "tanh"},
            "h2": {"shape": [6], "activation": "hard_sigmoid"},
            "output": {"shape": [3], "role": "output"},
        },
        "projections": [
            {"from": "input", "to": "h1"},
            {"from": "h1", "to": "h2"},
            {"from": "h1", "to": "h2", "op": "identity", "name": "residual"},
            {"from": "h2", "to": "output"},
            {"from": "h1", "to": "output"},
            {"from": "input", "to": "output"},
        ],
    },
}

# Differences come back through weights of their own: one that learns, and one that does not.
FEEDBACK: dict[str, dict[str, Any]] = {
    "feedback": {
        "input": [2, 6, 4],
        "feedback": "kolen_pollack",
        "layers": [
            {"name": "c1", "conv": 3},
            {"name": "c2", "conv": 4, "pool": "max", "activation": "tanh"},
            {"name": "h", "dense": 6},
            {"name": "out", "dense": 3, "feedback": "random"},
        ],
    },
}

# Those of difference target propagation, which learn by themselves.
FEEDBACK["jacobian"] = FEEDBACK["feedback"] | {"feedback": "local_jacobian"}

# Differences go back to winners among the states s⁺, which needs ideal channels.
ROUTED: dict[str, dict[str, Any]] = {
    "plus": {
        "input": [2, 8, 6],
        "layers": [
            {"name": "c1", "conv": 3, "activation": "tanh"},
            {"name": "c2", "conv": 4, "pool": {"kind": "max", "winners": "plus"}},
            {"name": "p", "pool": {"kind": "max", "kernel": 2, "stride": 1, "winners": "plus"}},
            {"name": "out", "dense": 3},
        ],
    },
}

RULES: dict[str, Rule] = {
    "aro": ns.DualPropagation(alpha=0.5, beta=0.6, variant="aro", nudge="potential"),
    "proximal": ns.DualPropagation(alpha=0.3, beta=0.5, variant="aro", nudge="proximal"),
    "prediction": ns.DualPropagation(alpha=0.2, beta=2.0, variant="aro", nudge="prediction"),
    "lagrangian": ns.DualPropagation(alpha=0.3, beta=0.8, variant="lagrangian", nudge="potential"),
    "damped": ns.DualPropagation(alpha=0.8, beta=0.4, variant="damped", nudge="potential"),
    "backprop": ns.BackPropagation(),
    "lpom": ns.LPOM(beta=0.7),
    "dtp": ns.DifferenceTargetPropagation(beta=0.5),
}

# Complex states need smooth activations and pooling.
SMOOTH: dict[str, dict[str, Any]] = {
    "smooth": {
        "input": [2, 6, 4],
        "activation": "tanh",
        "layers": [
            {"name": "c1", "conv": 3, "pool": {"kind": "softmax", "gain": 2, "padding": 1}},
            {"name": "p2", "pool": {"kind": "avg", "kernel": 2, "padding": 1}},
            {"name": "h2", "dense": 6},
            {"name": "out", "dense": 3},
        ],
    },
}


@dataclass(frozen=True)
class Phased:
    """A rule with phases, the networks for which it is defined, and a loss."""

    rule: Rule
    networks: tuple[str, ...]
    loss: str


PHASED = {
    "ep": Phased(ns.EquilibriumPropagation(0.3, free=2), ("mlp", "conv", "skip"), "squared_error"),
    "ep_static": Phased(
        ns.EquilibriumPropagation(0.4, "one_sided", "static", free=1),
        ("mlp", "conv", "skip"),
        "cross_entropy",
    ),
    "ep_random": Phased(
        ns.EquilibriumPropagation(0.3, "random_sign", free=1), ("mlp",), "squared_error"
    ),
    "coupled": Phased(ns.CoupledLearning(free=1, eta=0.4), ("mlp",), "squared_error"),
    "chl": Phased(ns.ContrastiveHebbian(0.5), ("mlp", "conv"), "squared_error"),
    "holomorphic": Phased(ns.HolomorphicEP(0.3, 3, free=1), ("smooth",), "cross_entropy"),
}

# The rule with which a network runs where a test does not go through the rules.
RULE_OF = {
    "mlp": "aro",
    "conv": "lagrangian",
    "skip": "damped",
    "feedback": "aro",
    "jacobian": "dtp",
    "plus": "lagrangian",
}


@cache
def network_named(name: str) -> ns.Network:
    return ns.Network.from_dict((NETWORKS | FEEDBACK | SMOOTH | ROUTED)[name])


def make_model(network: str, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> ns.Model:
    """A model of the network of that name with biases that are not zero."""
    return model_of(network_named(network), dtype, scale)


# ---- units and schedules -------------------------------------------------------------------------

UNITS: dict[str, ns.Unit] = {
    "neuron": ns.Unit("neuron"),
    "channel": ns.Unit("channel"),
    "column": ns.Unit("column"),
    "tile": ns.Unit("tile", 2),
    "block": ns.Unit("block", 4),
    "population": ns.Unit("population"),
}


def random_order(unit: ns.Unit, network: ns.Network) -> ns.schedules.Schedule:
    if unit.kind == "population":
        return ns.schedules.RandomOrder(unit=unit, updates=5 * len(network.dyadic))
    return ns.schedules.RandomOrder(unit=unit, groups=3, passes=4)


def replay(unit: ns.Unit, network: ns.Network) -> ns.schedules.Schedule:
    """Half of all units at each of ten ticks, two of which pass without a wake."""
    generator = np.random.default_rng(5)
    wakes: list[tuple[float, str, list[int] | None]] = []
    for tick in (1, 2, 3, 5, 6, 7, 8, 9, 11, 12):
        for population in network.dyadic:
            members = unit.membership(population)
            woken = generator.random(members.max() + 1) < 0.5
            if tick == 1 or woken.all():
                wakes.append((tick - 0.5, population.name, None))
            elif woken.any():
                wakes.append(
                    (float(tick), population.name, np.flatnonzero(woken[members]).tolist())
                )
    return ns.schedules.Replay(wakes)


SCHEDULES: dict[str, Callable[[ns.Unit, ns.Network], ns.schedules.Schedule]] = {
    "forward": lambda unit, _: ns.schedules.Sweep("forward", 3, unit=unit),
    "backward": lambda unit, _: ns.schedules.Sweep("backward", 3, unit=unit),
    "forward_backward": lambda unit, _: ns.schedules.Sweep("forward_backward", 2, unit=unit),
    "odd_even": lambda unit, _: ns.schedules.Sweep("odd_even", 5, unit=unit),
    "even_odd": lambda unit, _: ns.schedules.Sweep("even_odd", 5, unit=unit),
    "parallel": lambda unit, _: ns.schedules.Parallel(10, unit=unit),
    "random_order": random_order,
    "poisson": lambda unit, _: ns.schedules.Poisson(unit=unit, rate=0.7, duration=12.0),
    "periodic": lambda unit, _: ns.schedules.Periodic(
        unit=unit, period=1.2, spread=0.3, jitter=0.4, tick=0.5, duration=7.0
    ),
    "lazy": lambda unit, _: ns.schedules.Lazy(unit=unit, duration=14.0),
    "replay": replay,
}

# What is sent when a schedule listens to it: send-on-delta.
THRESHOLDS = {"lazy": 0.02}


# ---- channels ------------------------------------------------------------------------------------


def every_effect(network: ns.Network, threshold: float) -> ns.Channels:
    """Every effect of a channel, with every ordering and every kind of delay."""
    jittered = ns.Channel(
        threshold,
        refresh=3,
        delay=ns.Uniform(0.0, 3.0),
        jitter=ns.Exponential(0.7, 2.5),
        ordering="newest",
        loss=0.1,
        noise=ns.Noise(0.05, "relative"),
        quantize=ns.Quantize(8, 4.0, "stochastic"),
    )
    late = ns.Channel(
        threshold,
        refresh=2,
        delay=2.0,
        jitter=ns.Uniform(0.0, 1.5),
        loss=0.1,
        noise=0.02,
        quantize=ns.Quantize(7, (-2.0, 3.0)),
    )
    by_dyad = ns.Channel(threshold, delay=ns.Uniform(0.5, 4.0), loss=0.05, noise=0.01)
    second = network.projections[1].name
    last = network.incoming(network.output.name)[0]
    post, pre = last.operator.post[0], prod(last.operator.pre)
    given = torch.arange(post * pre).view(post, pre) % 3 * 1.3
    overrides: dict[str, Any] = {
        second: {"mean": by_dyad, "difference": ns.Channel(threshold, delay=by_dyad.delay)},
        last.name: {
            "mean": ns.Channel(
                threshold, delay=given, jitter=ns.Uniform(0.0, 2.0), ordering="arrival", noise=0.01
            ),
            "difference": ns.Channel(
                threshold, delay=ns.Uniform(0.0, 3.0, per="synapse"), noise=0.01, loss=0.1
            ),
        },
    }
    return ns.Channels(jittered, late, overrides)


def without_noise(channels: ns.Channels) -> ns.Channels:
    """The same, as far as it is defined for complex messages."""

    def exact(channel: ns.Channel) -> ns.Channel:
        return replace(channel, noise=0.0, quantize=None)

    overrides = {
        name: {kind: exact(channel) for kind, channel in kinds.items()}
        for name, kinds in channels.overrides.items()
    }
    return ns.Channels(exact(channels.mean), exact(channels.difference), overrides)


# ---- a case --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Names of the parts of a simulation. ``learn_every`` comes with an Adam optimizer,
    ``effects`` with the probes that look at messages."""

    network: str
    schedule: str
    unit: str = "population"
    init: str = "zero"
    rule: str | None = None
    learn_every: int | None = None
    effects: bool = False

    def __str__(self) -> str:
        parts = [self.network, self.schedule, self.unit, self.init, self.rule]
        learns = f"learn{self.learn_every}" if self.learn_every else None
        effects = "effects" if self.effects else None
        return "-".join(str(part) for part in (*parts, learns, effects) if part)

    def build(self, **options: Any) -> Setup:
        """The simulation, its optimizer, and data."""
        network = network_named(self.network)
        threshold = 0.0 if self.network in ROUTED else THRESHOLDS.get(self.schedule, 0.0)
        channel, probes = ns.Channel(threshold=threshold), ["wakes"]
        arguments: dict[str, Any] = {"channels": ns.Channels(channel, channel), "probes": probes}
        if self.rule in PHASED:
            rule, arguments["loss"] = PHASED[self.rule].rule, PHASED[self.rule].loss
        else:
            rule = RULES[self.rule or RULE_OF[self.network]]
        if self.effects:
            channels = every_effect(network, threshold)
            arguments["channels"] = without_noise(channels) if rule.holomorphic else channels
            probes += ["in_flight", "staleness"]
        schedule = SCHEDULES[self.schedule](UNITS[self.unit], network)
        build = simulated(network, schedule, rule, self.learn_every, init=self.init, **arguments)
        return build(**options)


def distinct(cases: Iterable[Case]) -> list[Case]:
    """Each once: on flat populations a channel is a neuron, a column and a tile the population."""
    same = {"channel": "neuron", "column": "population", "tile": "population"}
    found: dict[Case, None] = {}
    for case in cases:
        unit = same.get(case.unit, case.unit) if case.network in ("mlp", "skip") else case.unit
        rule = None if case.rule == RULE_OF.get(case.network) else case.rule
        found[replace(case, unit=unit, rule=rule)] = None
    return list(found)


def phased_cases(offset: int, every: int) -> list[Case]:
    """Every n-th of all phased rules on all their networks under all schedules; units, starts and
    channels take turns."""
    found = [
        (rule, network, schedule)
        for rule, phased in PHASED.items()
        for network in phased.networks
        for schedule in SCHEDULES
    ]
    inits = ("zero", "feedforward", "carry")
    return [
        Case(
            network,
            schedule,
            list(UNITS)[(turn + turn // len(UNITS)) % len(UNITS)],
            inits[(turn + turn // 3) % 3],
            rule,
            effects=turn % 4 == 0,
        )
        for turn, (rule, network, schedule) in enumerate(found)
    ][offset::every]


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names under which two sets of tensors differ in any bit."""
    assert set(one) == set(other)
    return [name for name in one if not torch.equal(one[name], other[name])]
