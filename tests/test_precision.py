"""Products in bfloat16: against the casts written out, and what stays float32."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from away import AWAY, Elsewhere
from torch import Tensor
from torch.nn import grad

import neurosim as ns
from neurosim import metrics
from neurosim.conformance.simulations import batches_of
from neurosim.learning.memory import estimate
from neurosim.maths.activations import Activation
from neurosim.maths.operators.dense import Dense
from neurosim.maths.operators.planes import Conv2d, Pool
from neurosim.maths.products import Products
from neurosim.rules import Woken
from neurosim.scenario.scenario import Scenario
from tests.conformance.cases import RULES, SCHEDULES, UNITS, differing, make_model

ROOT = Path(__file__).parents[1]
BF16 = torch.bfloat16
MIXED: dict[str, Any] = {"precision": "bf16-mixed"}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def simulate(
    network: str, schedule: str = "parallel", unit: str = "population", **options: Any
) -> ns.Simulation:
    model = make_model(network, torch.float32)
    clock = SCHEDULES[schedule](UNITS[unit], model.network)
    arguments: dict[str, Any] = {"rule": RULES["aro"], "loss": "cross_entropy", "schedule": clock}
    return ns.Simulation(model, **(arguments | {"init": "zero"} | options))


# ---- the casts written out -----------------------------------------------------------------------


def test_dense() -> None:
    operator = Dense((7,), (5,))
    mean, difference, weight, bias = drawn(4, 7), drawn(4, 5), drawn(5, 7), drawn(5)
    products = Products(operator, rounded=True)
    value, winners = products.basal(mean, weight, bias, None)
    assert winners is None
    assert torch.equal(value, F.linear(mean.to(BF16), weight.to(BF16)).float() + bias)
    back = products.apical(difference, weight, None, None)
    assert torch.equal(back, (difference.to(BF16) @ weight.to(BF16)).float())
    gradient = products.weight_gradient(difference, mean, None)
    assert torch.equal(gradient, (difference.to(BF16).T @ mean.to(BF16)).float())
    assert value.dtype == back.dtype == gradient.dtype == torch.float32


@pytest.mark.parametrize("kind", [None, "max", "avg"])
def test_convolution(kind: Any) -> None:
    pool = None if kind is None else Pool(kind)
    operator = Conv2d((3, 8, 8), (4, 4, 4) if pool else (4, 8, 8), pool=pool)
    mean, weight, bias = drawn(2, 3, 8, 8), drawn(4, 3, 3, 3), drawn(4)
    products = Products(operator, rounded=True)
    value, winners = products.basal(mean, weight, bias, None)
    middle = F.conv2d(mean.to(BF16), weight.to(BF16), padding=1)
    expected, won = middle if pool is None else pool.forward(middle)[0], None
    if kind == "max":
        expected, won = F.max_pool2d(middle, 2, return_indices=True)
        assert winners is not None
        assert torch.equal(winners, won)
    assert torch.equal(value, expected.float() + bias[:, None, None])
    difference = drawn(*value.shape, seed=1)
    spread = difference.to(BF16)
    if pool is not None:
        spread = pool.adjoint(spread, (4, 8, 8), winners)
    back = products.apical(difference, weight, winners, None)
    into = grad.conv2d_input((2, 3, 8, 8), weight.to(BF16), spread, padding=1)  # type: ignore[no-untyped-call]
    assert torch.equal(back, into.float())
    found = products.weight_gradient(difference, mean, winners)
    by = grad.conv2d_weight(mean.to(BF16), weight.shape, spread, padding=1)  # type: ignore[no-untyped-call]
    assert torch.equal(found, by.float())
    assert value.dtype == back.dtype == found.dtype == torch.float32


def test_a_step_written_out() -> None:
    """Up, down, gradient: the sweep that costs a back-propagation step."""
    sim = simulate("mlp", schedule="forward", **MIXED)
    model, (x, y) = sim.model, batches_of(sim.model, 1)[0]
    rule = ns.DualPropagation(alpha=0.5, beta=1.0)
    sim = ns.Simulation(model, rule=rule, schedule=ns.schedules.Sweep("forward_backward"), **MIXED)
    sim.infer(x, y)
    names = ["h1", "h2", "out"]
    weight = {n: model.state_dict()[f"{n}.weight"] for n in names}
    bias = {n: model.state_dict()[f"{n}.bias"] for n in names}
    below, basal, mean = x, {}, {"input": x}
    for name in names:
        product = below.to(BF16) @ weight[name].to(BF16).T
        basal[name] = product.float() + bias[name]
        below = basal[name] if name == "out" else basal[name].relu()
        mean[name] = below
    wake = rule.wake(Woken(Activation.of("identity"), basal["out"], force=y - basal["out"]))
    difference = {"out": wake.difference}
    for name, above in (("h2", "out"), ("h1", "h2")):
        sent = difference[above]
        assert sent is not None
        apical = (sent.to(BF16) @ weight[above].to(BF16)).float()
        wake = rule.wake(Woken(Activation.of("relu"), basal[name], apical))
        difference[name], mean[name] = wake.difference, wake.mean
    found = sim.gradients()
    for name, pre in zip(names, ("input", "h1", "h2"), strict=True):
        sent = difference[name]
        assert sent is not None
        sent = sent * (-1.0 / 3)
        assert torch.equal(found[f"{name}.weight"], (sent.to(BF16).T @ mean[pre].to(BF16)).float())
        assert torch.equal(found[f"{name}.bias"], sent.sum(0))


# ---- what stays float32 --------------------------------------------------------------------------


def dtypes(tree: Any) -> set[torch.dtype]:
    if isinstance(tree, Tensor):
        return {tree.dtype} if tree.is_floating_point() else set()
    items = tree.values() if isinstance(tree, dict) else tree
    return set().union(*map(dtypes, items)) if isinstance(tree, dict | list | tuple) else set()


@pytest.mark.parametrize("network", ["mlp", "conv", "skip"])
def test_all_else_is_float32(network: str) -> None:
    channel = ns.Channel(delay=1.0, noise=0.01)
    sim = simulate(network, channels=ns.Channels(channel, channel), **MIXED)
    optimizer = torch.optim.Adam(sim.model.parameters())
    outcome = sim.infer(*batches_of(sim.model, 1)[0])
    sim.learn(optimizer)
    for tree in (asdict(outcome), sim.state_dict()["state"], sim.gradients()):
        assert dtypes(tree) == {torch.float32}
    assert dtypes(dict(sim.model.state_dict())) == {torch.float32}
    assert dtypes(optimizer.state_dict()) == {torch.float32}


def test_what_multiplies_nothing_rounds_nothing() -> None:
    sim = simulate("skip", **MIXED)
    rounded = {link.name: link.products.rounded for link in sim.state.links}
    assert not rounded.pop("residual")
    assert set(rounded.values()) == {True}


def test_the_prediction_is_that_of_the_model() -> None:
    sim = simulate("conv", init="feedforward", **MIXED)
    x, y = batches_of(sim.model, 1)[0]
    with torch.no_grad():
        prediction = sim.predict(x)
        assert torch.equal(prediction, sim.model(x))
    settled = sim.infer(x).prediction
    assert settled.dtype == prediction.dtype == torch.float32
    assert not torch.equal(settled, prediction)
    assert torch.allclose(settled, prediction, atol=0.05)
    del y


def test_a_float32_simulation_has_no_copies() -> None:
    for precision in (None, "float32"):
        sim = simulate("mlp", precision=precision)
        assert all(link.copied_bytes == 0 for link in sim.state.links)
        assert not any(link.products.rounded for link in sim.state.links)


# ---- close to float32 ----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["digits_mlp", "digits_conv"])
def test_gradients_are_close(network: str) -> None:
    description = ns.Network.from_yaml(ROOT / f"networks/{network}.yaml")
    found = []
    for precision in ("float32", "bf16-mixed"):
        model = ns.Model(description, seed=0)
        sim = ns.Simulation(model, schedule=ns.schedules.Parallel(12), precision=precision)  # type: ignore[arg-type]
        x, y = drawn(32, *description.input.shape).sigmoid(), torch.eye(10)[torch.arange(32) % 10]
        sim.infer(x, y)
        found.append(sim.gradients())
    aligned = metrics.alignment(found[1], found[0])
    assert max(one.angle for one in aligned.values()) < 3.0
    assert all(abs(one.norm_ratio - 1) < 0.01 for one in aligned.values())
    assert aligned[""].angle > 0.01  # it does round


@pytest.mark.parametrize("unit", ["neuron", "channel", "tile", "column"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_partial_operations(network: str, unit: str) -> None:
    """They differ from dense ones by roundings to bfloat16, of which there are a few."""
    states = []
    for compute in ("auto", "dense"):
        sim = simulate(network, "random_order", unit, compute=compute, **MIXED)
        states.append(sim.infer(batches_of(sim.model, 1)[0][0]))
    for name, values in states[0].plus.items():
        other = states[1].plus[name]
        assert (values - other).abs().max() <= 0.03 * other.abs().max()


# ---- copies of weights ---------------------------------------------------------------------------


def test_a_weight_is_rounded_once() -> None:
    sim = simulate("mlp", **MIXED)
    link, (x, y) = sim.state.links[0], batches_of(sim.model, 1)[0]
    sim.infer(x, y)
    first = link.forward_weight
    assert link.weight is not None
    assert first is link.forward_weight is link.feedback_weight
    assert first is not None
    assert first.dtype == BF16
    assert torch.equal(first, link.weight.to(BF16))
    sim.learn(torch.optim.SGD(sim.model.parameters(), lr=0.5))
    second = link.forward_weight
    assert second is not None
    assert second is not first
    assert torch.equal(second, link.weight.to(BF16))
    with torch.no_grad():
        link.weight.mul_(2.0)
    assert torch.equal(link.forward_weight, 2 * second)  # type: ignore[arg-type]
    link.weight.data = 3 * link.weight.data  # past torch's count of writes
    sim.infer(x, y)
    assert torch.equal(link.forward_weight, link.weight.to(BF16))  # type: ignore[arg-type]


def test_weights_that_change_within_an_inference() -> None:
    """A fused optimizer would write past the count of writes."""
    sim = simulate("mlp", learn_every=2, **MIXED)
    x, y = batches_of(sim.model, 1)[0]
    sim.infer(x, y, optimizer=torch.optim.SGD(sim.model.parameters(), lr=0.1))
    for link in sim.state.links:
        assert link.weight is not None
        assert torch.equal(link.forward_weight, link.weight.to(BF16))  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [False, True])
def test_mismatched_synapses(shared: bool) -> None:
    faults = ns.Faults(weight_noise=0.1, weight_noise_shared=shared)
    sim = simulate("mlp", faults=faults, **MIXED)
    link, name = sim.state.links[1], sim.state.links[1].name
    assert link.weight is not None
    forward = sim.state.damage.forward_weight(name, link.weight)
    feedback = sim.state.damage.feedback_weight(name, link.weight)
    assert torch.equal(link.forward_weight, forward.to(BF16))  # type: ignore[arg-type]
    assert torch.equal(link.feedback_weight, feedback.to(BF16))  # type: ignore[arg-type]
    assert link.copied_bytes == (2 if shared else 4) * link.weight.numel()
    assert (link.forward_weight is link.feedback_weight) == shared


def test_memory_has_the_copies() -> None:
    plain, mixed = simulate("conv"), simulate("conv", **MIXED)
    weights = sum(link.weight.numel() for link in mixed.state.links if link.weight is not None)
    without, found = estimate(plain, 10), estimate(mixed, 10)
    assert found.weights == without.weights + 2 * weights
    assert found.work >= without.work
    assert estimate(simulate("mlp", **MIXED), 10).work > estimate(simulate("mlp"), 10).work
    for name in ("gradients", "optimizer", "states", "caches", "rings"):
        assert getattr(found, name) == getattr(without, name)


# ---- as every simulation -------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["forward_backward", "parallel", "poisson", "lazy"])
@pytest.mark.parametrize("network", ["mlp", "conv", "skip"])
def test_processes_and_saved_states(network: str, schedule: str) -> None:
    """Bit for bit the same in either way to run units, and after a pause in the middle."""
    options: dict[str, Any] = {"probes": ["residual"], "learn_every": 2, **MIXED}
    found = []
    for processes, pause in (("population", None), ("neuron", None), ("population", 3)):
        sim = simulate(network, schedule, "block", processes=processes, **options)
        optimizer = torch.optim.SGD(sim.model.parameters(), lr=0.01)
        sim.start(*batches_of(sim.model, 1)[0], optimizer=optimizer)
        if pause is not None:
            sim.advance(pause)
            saved, weights = sim.state_dict(), dict(sim.model.state_dict())
            sim = simulate(network, schedule, "block", processes=processes, **options)
            sim.model.load_state_dict(weights)
            optimizer = torch.optim.SGD(sim.model.parameters(), lr=0.01)
            sim.load_state_dict(saved, optimizer=optimizer)
        sim.advance()
        found.append((sim.finish(), dict(sim.model.state_dict())))
    for outcome, weights in found[1:]:
        assert not differing(outcome.plus, found[0][0].plus)
        assert outcome.trace.state_dict() == found[0][0].trace.state_dict()
        assert not differing(weights, found[0][1])


def test_the_residual_is_that_of_what_is_computed() -> None:
    """Without a target the feed-forward states are at rest, to the last bit."""
    sim = simulate("conv", init="feedforward", probes=["residual"], **MIXED)
    trace = sim.infer(batches_of(sim.model, 1)[0][0]).trace["residual"]
    assert trace[-1]["total_mean"] == 0.0


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_elsewhere(network: str) -> None:
    """On a device a product in bfloat16 is waited for no more than another."""
    here = simulate(network, unit="tile", schedule="random_order", **MIXED)
    x, y = batches_of(here.model, 1)[0]
    expected = here.infer(x, y)
    with Elsewhere() as mode:
        sim = simulate(network, unit="tile", schedule="random_order", device=AWAY, **MIXED)
        sim.start(x, y)
        while not sim.done:
            assert len(mode.during(lambda: sim.advance(1))) <= 1
        outcome = sim.finish()
        for name, values in outcome.plus.items():
            assert torch.equal(values.cpu(), expected.plus[name])


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed"])
def test_needs_float32(precision: Any) -> None:
    model = make_model("mlp")
    message = f"precision is '{precision}', but the model is of dtype float64"
    with pytest.raises(ns.ConfigurationError, match=message) as found:
        ns.Simulation(model, schedule=ns.schedules.Parallel(4), precision=precision)
    assert found.value.option == ("precision",)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_of_less(dtype: torch.dtype) -> None:
    model = make_model("mlp").to(dtype)
    with pytest.raises(ns.ConfigurationError, match=r"needs float32 or float64 .*'bf16-mixed'"):
        ns.Simulation(model, schedule=ns.schedules.Parallel(4))


def test_unknown_ones() -> None:
    with pytest.raises(ns.ConfigurationError, match="precision is 'bf16'; it must be one of"):
        simulate("mlp", precision="bf16")


def test_in_a_scenario() -> None:
    path = ROOT / "scenarios/sweep.yaml"
    scenario = Scenario.load(path, ["precision=bf16-mixed"])
    again = Scenario.of(scenario.document)
    assert "precision: bf16-mixed" in scenario.resolved()
    assert again.simulation(again.model()).precision == "bf16-mixed"
    assert Scenario.load(path).simulation(scenario.model()).precision is None
    with pytest.raises(ns.DocumentError, match=r"precision: precision is 'bf16-mixed', but the"):
        Scenario.load(path, ["precision=bf16-mixed", "dtype=float64"])
    with pytest.raises(ns.DocumentError, match="expected 'float32' or 'bf16-mixed', got 'bf16'"):
        Scenario.load(path, ["precision=bf16"])
