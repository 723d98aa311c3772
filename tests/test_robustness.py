"""Lipschitz bounds against what networks do, and attacks against their definition."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from own_maths import registered
from torch import Tensor

import neurosim as ns
from neurosim.base.errors import DocumentError, NetworkError
from neurosim.cli.main import main
from neurosim.data import digits
from neurosim.data.dataset import Split
from neurosim.data.standardization import Standard
from neurosim.learning.evaluation import Evaluator
from neurosim.maths.losses import Loss
from neurosim.measures.robustness import fgsm, largest_gradient, lipschitz_bound, spectral_norms
from neurosim.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
CHAIN: dict[str, Any] = {
    "input": [12],
    "layers": [{"name": "h1", "dense": 20}, {"name": "h2", "dense": 16}, {"name": "o", "dense": 4}],
}
SKIP: dict[str, Any] = {
    "populations": {
        "input": {"shape": [12], "role": "input"},
        "h1": {"shape": [9], "activation": "tanh"},
        "output": {"shape": [4], "role": "output"},
    },
    "projections": [
        {"from": "input", "to": "h1"},
        {"from": "h1", "to": "output"},
        {"from": "input", "to": "output"},
    ],
}
CONV: dict[str, Any] = {
    "input": [2, 6, 6],
    "activation": "relu",
    "layers": [
        {"name": "conv1", "conv": 4, "pool": {"kind": "max", "kernel": 3, "stride": 1}},
        {"name": "soft", "pool": {"kind": "softmax", "kernel": 2, "gain": 5.0}},
        {"name": "pooled", "pool": {"kind": "avg", "kernel": 2}},
        {"name": "o", "dense": 4},
    ],
}


def model_of(description: dict[str, Any]) -> ns.Model:
    network = ns.Network.from_dict(description)
    return ns.Model(network, seed=3, dtype=torch.float64)


@pytest.mark.parametrize("description", [CHAIN, SKIP, CONV], ids=["chain", "skip", "conv"])
def test_nothing_moves_by_more_than_the_bound(description: dict[str, Any]) -> None:
    model = model_of(description)
    bound = lipschitz_bound(model.network, spectral_norms(model))
    generator = torch.Generator().manual_seed(0)
    shape = model.network.input.shape
    worst = 0.0
    for _ in range(20):
        x = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(model, x).reshape(4, -1)
        worst = max(worst, float(torch.linalg.matrix_norm(jacobian, 2)))
    assert 0.02 * bound < worst <= bound * (1 + 1e-9)


@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_no_softmax_over_a_window_is_steeper(size: int) -> None:
    """Its slopes, p (1 + x − y), where one value is above others and where all are anywhere."""
    generator = torch.Generator().manual_seed(0)
    x = 3.0 * torch.randn(20_000, size, generator=generator, dtype=torch.float64)
    peaks = torch.zeros(10_000, size, dtype=torch.float64)
    peaks[:, 0] = torch.linspace(0.0, 10.0, len(peaks))
    x = torch.cat([x, peaks])
    p = x.softmax(1)
    steepest = (p * (1 + x - (p * x).sum(1, keepdim=True))).norm(dim=1).max()
    assert float(steepest) == pytest.approx(largest_gradient(size), abs=1e-6)
    assert steepest <= largest_gradient(size) + 1e-12


def test_the_bound_of_a_chain_is_the_product() -> None:
    model = model_of(CHAIN)
    norms = spectral_norms(model)
    assert list(norms) == ["h1", "h2", "o"]
    product = 1.0
    for name, norm in norms.items():
        weight = model.parameter(name, "weight")
        assert weight is not None
        exact = float(torch.linalg.matrix_norm(weight.detach(), 2))
        assert norm == pytest.approx(exact, rel=1e-9)
        product *= exact
    assert lipschitz_bound(model.network, norms) == pytest.approx(product)


def test_the_bound_adds_up_over_projections() -> None:
    model = model_of(SKIP)
    norms = {"input->h1": 2.0, "h1->output": 3.0, "input->output": 5.0}
    assert set(norms) == set(spectral_norms(model))
    assert lipschitz_bound(model.network, norms) == 2.0 * 3.0 + 5.0


def test_overlapping_windows_count() -> None:
    """A 3×3 window at stride 1 hands a value on up to nine times."""
    conv, _, *others = CONV["layers"]
    network = ns.Network.from_dict(CONV | {"layers": [conv, *others]})
    norms = {"conv1": 1.0, "pooled": 1.0, "o": 1.0}
    assert lipschitz_bound(network, norms) == 3.0


def test_slopes_count() -> None:
    """That of a user's activation may be anything: it is asked for, and multiplied."""
    norms = {"h1": 2.0, "h2": 1.0, "o": 5.0}
    with registered("soft_ramp", "steep"):
        steep = ns.Network.from_dict(CHAIN | {"activation": {"kind": "steep", "factor": 3.0}})
        assert lipschitz_bound(steep, norms) == 3.0 * 3.0 * 10.0
        silent = ns.Network.from_dict(CHAIN | {"activation": "soft_ramp"})
        with pytest.raises(ns.ConfigurationError, match=r"its largest slope .* SoftRamp\.large"):
            lipschitz_bound(silent, norms)


def test_a_scenario_asks_for_slopes_before_it_runs() -> None:
    path = ROOT / "scenarios/parallel.yaml"
    values = ["network.activation=soft_ramp", "robustness.eps=0.1"]
    with registered("soft_ramp"):
        with pytest.raises(DocumentError, match=r"robustness.*does not say its largest slope"):
            Scenario.load(path, values)
        Scenario.load(path, values[:1])


def test_a_cycle_has_no_bound() -> None:
    more = [*SKIP["projections"], {"from": "output", "to": "h1", "name": "back"}]
    network = ns.Network.from_dict(SKIP | {"projections": more})
    with pytest.raises(NetworkError, match="no feed-forward prediction to bound"):
        lipschitz_bound(network, {})


# ---- attacks -----------------------------------------------------------------------------------


def attack(model: ns.Model, x: Tensor, target: Tensor, eps: float, loss: str) -> Tensor:
    low, high = torch.tensor(0.0), torch.tensor(1.0)
    return fgsm(model, Loss.of(loss), x, target, eps, low.double(), high.double())  # type: ignore[index]


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_an_attack_follows_the_sign_of_the_gradient(loss: str) -> None:
    """Of a linear network, where the gradient is known: Wᵀ∇ℓ."""
    model = model_of({"input": [12], "layers": [{"name": "o", "dense": 4}]})
    x = torch.rand(5, 12, dtype=torch.float64) * 0.5 + 0.25
    target = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]]
    weight = model.parameter("o", "weight")
    assert weight is not None
    prediction = (x @ weight.T + model.parameter("o", "bias")).detach()
    gradient = prediction - target
    if loss == "cross_entropy":
        gradient = torch.softmax(prediction, 1) - target
    wanted = x + 0.1 * (gradient @ weight.detach()).sign()
    assert torch.allclose(attack(model, x, target, 0.1, loss), wanted, rtol=0, atol=1e-12)
    assert not any(p.grad is not None for p in model.parameters())


def test_an_attack_stays_in_the_range_and_hurts() -> None:
    model = model_of(CHAIN)
    x = torch.rand(50, 12, dtype=torch.float64)
    target = torch.eye(4, dtype=torch.float64)[torch.arange(50) % 4]
    loss = Loss.of("squared_error")
    values = [float(loss.mean(model(x).detach(), target))]
    for eps in (0.02, 0.05, 0.1):
        moved = attack(model, x, target, eps, "squared_error")
        assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
        assert float((moved - x).abs().max()) <= eps + 1e-12
        values.append(float(loss.mean(model(moved).detach(), target)))
    assert all(less < more for less, more in pairwise(values))


def test_the_range_of_the_data() -> None:
    data = digits()
    low, high = data.test.bounds
    assert (float(low), float(high)) == (0.0, 1.0)
    standard = Standard((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    images = torch.full((3, 3, 2, 2), 7, dtype=torch.uint8)  # neither end occurs
    split = Split(images, torch.zeros(3, dtype=torch.int64), standard)
    low, high = split.bounds
    assert low[:, 0, 0].tolist() == [-1.0, -1.0, 0.0]
    assert high[:, 1, 1].tolist() == [1.0, 3.0, 0.5]
    assert split.reshaped((12,)).bounds[0].shape == (12,)


# ---- of a run ----------------------------------------------------------------------------------


def run(tmp_path: Path, *values: str) -> dict[str, Any]:
    scenario = ROOT / "scenarios/parallel.yaml"
    given = ["training.epochs=2", "probes=[accuracy, residual]", *values]
    arguments = ["run", str(scenario), *given, "--out", str(tmp_path), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "parallel/it/summary.json").read_text())
    assert isinstance(found, dict)
    return found


def test_a_run_measures_it(tmp_path: Path) -> None:
    found = run(tmp_path, "robustness.eps=0.1")
    assert found["attack_accuracy"] < found["test_accuracy"] - 0.05
    assert found["attack_loss"] > found["test_loss"]
    assert list(found["spectral_norms"]) == ["h1", "h2", "output"]
    assert found["lipschitz_bound"] > max(found["spectral_norms"].values())
    assert (found["attack_eps"], found["residual_mean"] >= 0) == (0.1, True)


def test_a_run_without_it_has_none(tmp_path: Path) -> None:
    assert not {"attack_accuracy", "lipschitz_bound"} & set(run(tmp_path, "data.limit=200"))


def test_what_cannot_be_asked_for() -> None:
    path = ROOT / "scenarios/parallel.yaml"
    for eps in ("0", "-0.1", "1.5"):
        with pytest.raises(DocumentError, match=r"robustness\.eps"):
            Scenario.load(path, [f"robustness.eps={eps}"])


def test_a_mismatch_of_synapses_counts() -> None:
    """The bound of a linear layer is exact: the norm of what its synapses multiply by."""
    for layers in ([], [{"name": "h", "dense": 9, "activation": "identity"}]):
        model = model_of({"input": [1, 8, 8], "layers": [*layers, {"name": "o", "dense": 10}]})
        faults = ns.Faults(weight_noise=1.0)
        simulation = ns.Simulation(model, schedule=ns.schedules.Sweep(), faults=faults)
        images = digits(dtype=torch.float64).limit(10, 10).test
        bound = Evaluator(simulation).robustness(images, 0.1)["lipschitz_bound"]
        x = images.take(slice(1))
        jacobian = torch.autograd.functional.jacobian(simulation.predict, x).reshape(10, -1)
        exact = float(torch.linalg.matrix_norm(jacobian, 2))
        clean = lipschitz_bound(model.network, spectral_norms(model))
        assert (exact - clean) / clean > 0.3
        assert bound >= exact * (1 - 1e-12)
        assert layers or bound == pytest.approx(exact, rel=1e-12)
