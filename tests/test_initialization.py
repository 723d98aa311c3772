"""Initial weights and biases: their distributions, and what they depend on."""

from __future__ import annotations

from dataclasses import replace
from math import erf, inf, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosim as ns


def double(network: ns.Network, seed: int = 0) -> ns.Model:
    return ns.Model(network, seed=seed, dtype=torch.float64)


def wide(initialization: Any) -> tuple[Tensor, Tensor]:
    """A weight of 24 · 15 inputs and 64 · 15 outputs per dyad, and 4096 biases of 4."""
    layers = [{"name": "c", "conv": 64, "kernel": [3, 5]}, {"name": "d", "dense": 4096}]
    description = {"input": [24, 2, 2], "initialization": initialization, "layers": layers}
    found = double(ns.Network.from_dict(description), seed=1).state_dict()
    return found["c.weight"], found["d.bias"]


FAN_IN, FAN_OUT, COUNT = 24 * 15, 64 * 15, 64 * 24 * 15
CUT = 0.8796256610342398  # of a normal distribution that is cut at ±2: √(1 − 4φ(2) / erf √2)
# The form of the distribution, its variance, and where it ends.
DISTRIBUTIONS: dict[str, tuple[Any, str, float, float]] = {
    "glorot": ("glorot_uniform", "uniform", 2 / (FAN_IN + FAN_OUT), inf),
    "weak": ("weak_uniform", "uniform", 1 / (12 * FAN_IN), inf),
    "lecun": ("lecun_normal", "normal", 1 / FAN_IN, inf),
    "he": ("he_normal", "normal", 2 / FAN_IN, inf),
    "flax": ({"kind": "lecun_normal", "truncated": True}, "cut", 1 / FAN_IN, inf),
    "flax he": ({"kind": "he_normal", "truncated": True}, "cut", 2 / FAN_IN, inf),
    "haiku": ("truncated_normal", "cut", CUT**2 / FAN_IN, 2 / sqrt(FAN_IN)),
    "std": ({"kind": "truncated_normal", "std": 0.3}, "cut", (0.3 * CUT) ** 2, 0.6),
    "torch": ("fan_in_uniform", "uniform", 1 / (3 * FAN_IN), 1 / sqrt(FAN_IN)),
    "gain": ({"kind": "fan_in_uniform", "gain": 0.6}, "uniform", 0.12 / FAN_IN, inf),
    "gaussian": ({"kind": "normal", "std": 0.2}, "normal", 0.04, inf),
    "scaled": ({"kind": "variance_scaling", "scale": 3.0}, "cut", 3 / FAN_IN, inf),
    "averaged": (
        {"kind": "variance_scaling", "mode": "fan_avg", "distribution": "normal"},
        "normal",
        2 / (FAN_IN + FAN_OUT),
        inf,
    ),
    "out": (
        {"kind": "variance_scaling", "mode": "fan_out", "distribution": "uniform"},
        "uniform",
        1 / FAN_OUT,
        inf,
    ),
}
# Of a distribution with variance 1: its end, and how often a value is below 1 in size.
FORMS = {
    "uniform": (sqrt(3), 1 / sqrt(3)),
    "normal": (inf, erf(sqrt(0.5))),
    "cut": (2 / CUT, erf(sqrt(0.5) * CUT) / erf(sqrt(2))),
}


def kurtosis(form: str) -> float:
    """The fourth moment of a distribution with variance 1, by torch's own draws where it has no
    simple form."""
    if form == "cut":
        draws = torch.nn.init.trunc_normal_(torch.empty(10**6), generator=generator(0))
        return float((draws / CUT).pow(4).mean())
    return {"uniform": 9 / 5, "normal": 3.0}[form]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_of_initial_weights(name: str) -> None:
    """Mean, variance, bounds and form, to five standard errors."""
    said, form, variance, end = DISTRIBUTIONS[name]
    weight = wide(said)[0] / sqrt(variance)
    bound, share = FORMS[form]
    assert weight.abs().max() <= min(bound, end / sqrt(variance)) * (1 + 1e-12)
    if form != "normal":
        assert -weight.min() > 0.995 * bound
        assert weight.max() > 0.995 * bound
    assert abs(weight.mean()) < 5 / sqrt(COUNT)
    assert abs(weight.var() - 1) < 5 * sqrt((kurtosis(form) - 1) / COUNT)
    within = (weight.abs() < 1).double().mean()
    assert abs(within - share) < 5 * sqrt(share * (1 - share) / COUNT)


def test_initial_biases() -> None:
    """Zero, or as in torch's layers."""
    without = [said for said, *_ in DISTRIBUTIONS.values() if "fan_in_uniform" not in str(said)]
    assert not any(wide(said)[1].any() for said in without)
    found = wide("fan_in_uniform")[1]
    layer = torch.nn.Linear(64 * 4, 4096)
    assert found.abs().max() <= 1 / 16
    assert found.abs().max() == pytest.approx(float(layer.bias.detach().abs().max()), rel=0.01)
    assert found.std() == pytest.approx(float(layer.bias.detach().std()), rel=0.05)
    assert not wide({"kind": "fan_in_uniform", "bias_gain": 0.0})[1].any()


def test_each_projection_may_have_its_own_initialization() -> None:
    layers = [
        {"name": "a", "conv": 3, "initialization": {"kind": "normal", "std": 0.0}},
        {"pool": "avg"},
        {"name": "b", "dense": 5, "initialization": "fan_in_uniform"},
        {"name": "c", "dense": 5},
    ]
    network = ns.Network.from_dict({"input": [2, 4, 4], "layers": layers})
    found = double(network).state_dict()
    assert not found["a.weight"].any()
    assert found["b.bias"].all()
    assert found["b.weight"].abs().max() <= 1 / sqrt(12)
    assert not found["c.bias"].any()
    assert network.projection("c").initialization is None
    with pytest.raises(ns.NetworkError, match="has no weight to be initialized"):
        replace(network.projections[1], initialization="normal")


def test_the_seed_decides() -> None:
    network = ns.Network.from_dict({"input": 4, "layers": [{"dense": 5}, {"dense": 5}]})
    first, again, other = (ns.Model(network, seed=s).state_dict() for s in (7, 7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[k], other[k]) for k in first if k.endswith("weight"))
    assert not first["layer1.bias"].any()
    assert not torch.equal(first["layer1.weight"][:, :4], first["output.weight"][:, :4])


def test_the_global_generator_does_not_matter() -> None:
    network = ns.Network.from_dict({"input": 4, "layers": [{"dense": 5}]})
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = ns.Model(network)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first.state_dict()["output.weight"], ns.Model(network).output.weight)


def test_a_layer_more_does_not_change_the_others() -> None:
    few = [{"name": "a", "dense": 5}, {"name": "b", "dense": 5}, {"name": "out", "dense": 2}]
    more = [few[0], {"name": "new", "dense": 5}, *few[1:]]
    one, two = (
        ns.Model(ns.Network.from_dict({"input": 5, "layers": layers})).state_dict()
        for layers in (few, more)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_type_rounds_but_does_not_draw() -> None:
    network = ns.Network.from_dict({"input": [1, 4, 4], "layers": [{"conv": 3}, {"dense": 2}]})
    exact = ns.Model(network, seed=2, dtype=torch.float64)
    rounded = ns.Model(network, seed=2)
    assert exact.dtype == torch.float64
    assert rounded.dtype == torch.float32
    for key, value in exact.state_dict().items():
        assert torch.equal(value.float(), rounded.state_dict()[key])
