"""An activation and a loss that define no more than they must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from own_maths import Hinge, SoftRamp, registered
from random_operators import TOLERANCE, random

import neurosim as ns
from neurosim.maths.activations import Activation

CHAIN = {
    "input": 4,
    "activation": {"kind": "soft_ramp", "sharpness": 2.0},
    "layers": [{"dense": 5}, {"dense": 4, "activation": "soft_ramp"}, {"dense": 3}],
}
X, Y = random(0, 2, 4), torch.eye(3, dtype=torch.float64)[:2]


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    with registered("soft_ramp", "hinge"):
        yield


def model() -> ns.Model:
    return ns.Model(ns.Network.from_dict(CHAIN), seed=1, dtype=torch.float64)


# ---- activations ---------------------------------------------------------------------------------


def test_activations_by_name_and_as_objects() -> None:
    network = ns.Network.from_dict(CHAIN)
    assert [p.activation for p in network.populations[1:3]] == [SoftRamp(2.0), SoftRamp()]
    assert ns.Population("h", (2,), SoftRamp()) == ns.Population("h", (2,), "soft_ramp")
    assert str(SoftRamp(2.0)) == "soft_ramp(sharpness=2.0)"
    assert str(Activation.of("tanh")) == "tanh"


def test_its_difference_is_that_of_the_states() -> None:
    plus, minus, apical = (random(seed, 3, 4) for seed in range(3))
    assert torch.equal(SoftRamp().difference(plus, minus, apical), plus - minus)


def test_its_slope_is_the_logistic_function() -> None:
    a, apical = random(0, 3, 4), random(1, 3, 4)
    with torch.no_grad():
        found = SoftRamp(2.0).backward(a, SoftRamp(2.0)(a), apical)
    torch.testing.assert_close(found, torch.sigmoid(2.0 * a) * apical, **TOLERANCE)


@pytest.mark.parametrize("name", ["relu", "identity", "hard_sigmoid", "tanh"])
def test_closed_forms_are_what_they_stand_for(name: str) -> None:
    """The members of the package against the defaults of the family."""
    f, a, apical = Activation.of(name), random(0, 50, 4), random(1, 50, 4)
    plus, minus = f(a + 0.3 * apical), f(a - 0.7 * apical)
    default = Activation.difference(f, plus, minus, apical)
    torch.testing.assert_close(f.difference(plus, minus, apical), default, **TOLERANCE)
    default = Activation.backward(f, a, f(a), apical)
    torch.testing.assert_close(f.backward(a, f(a), apical), default, **TOLERANCE)
    torch.testing.assert_close(f.backward(None, f(a), apical), default, **TOLERANCE)


def test_gradients_are_those_of_autograd() -> None:
    sim = ns.Simulation(
        model(),
        rule=ns.BackPropagation(),
        loss=Hinge(2.0),
        schedule=ns.schedules.Sweep("backward", 1),
    )
    sim.infer(X, Y)
    expected = ns.metrics.back_propagation(sim.model, Hinge(2.0), X, Y)
    for name, gradient in sim.gradients().items():
        torch.testing.assert_close(gradient, expected[name], **TOLERANCE)


def test_dual_propagation_with_them_approaches_the_gradient() -> None:
    errors = []
    for beta in (0.1, 0.01):
        sim = ns.Simulation(
            model(),
            rule=ns.DualPropagation(beta=beta),
            loss="hinge",
            schedule=ns.schedules.Parallel(60),
        )
        sim.infer(X, Y)
        expected = ns.metrics.back_propagation(sim.model, sim.loss, X, Y)
        off = [(g - expected[name]).norm() / g.norm() for name, g in sim.gradients().items()]
        errors.append(float(max(off)))
    assert errors[1] < errors[0] / 8
    assert errors[1] < 0.05


def test_what_it_does_not_say_is_asked_for_by_name() -> None:
    s = random(0, 2)
    with pytest.raises(ns.ConfigurationError, match=r"'soft_ramp.*define SoftRamp\.backward"):
        SoftRamp().backward(None, s, s)
    with pytest.raises(ns.ConfigurationError, match=r"define SoftRamp\.inverse_primitive"):
        SoftRamp().inverse_primitive(s)


def test_rules_ask_what_an_activation_is() -> None:
    with pytest.raises(ns.ConfigurationError, match=r"'soft_ramp\(.*not holomorphic"):
        ns.Simulation(model(), rule=ns.HolomorphicEP(), schedule=ns.schedules.Parallel(3))
    with pytest.raises(ns.NetworkError, match="input population 'x' has activation 'soft_ramp"):
        ns.Population("x", (2,), SoftRamp(), "input", bias=False)


@pytest.mark.parametrize("wrong", ["softplsu", 3, torch.relu])
def test_unknown_activations_are_refused(wrong: object) -> None:
    with pytest.raises(ns.NetworkError, match="activation"):
        ns.Population("h", (2,), wrong)  # type: ignore[arg-type]


def test_lines_of_errors(tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    said = "{kind: soft_ramp, sharpness: many}"
    path.write_text(f"input: 4\nlayers:\n  - dense: 3\n    activation: {said}\n")
    with pytest.raises(ns.DocumentError) as caught:
        ns.Network.from_yaml(path)
    assert str(caught.value).startswith(f"{path}:4:46: layers[0].activation.sharpness: expected a")


# ---- losses --------------------------------------------------------------------------------------


def test_its_gradient_by_hand() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0]])
    prediction = torch.tensor([[0.5, 0.5, 3.0]])
    assert Hinge().value(prediction, target).tolist() == [2.0]
    with torch.no_grad():
        assert Hinge().gradient(prediction, target).tolist() == [[-1.0, 1.0, 0.0]]
    assert Hinge().mean(prediction, target).item() == 2.0
    assert not Hinge().local


def test_it_has_no_gradient_at_complex_outputs() -> None:
    values = torch.zeros(1, 2, dtype=torch.complex64)
    with pytest.raises(ns.ConfigurationError, match=r"define Hinge\.gradient"):
        Hinge().gradient(values, torch.zeros(1, 2))


def test_closed_forms_need_the_squared_error() -> None:
    with pytest.raises(ns.ConfigurationError, match="squared_error, not of hinge"):
        ns.Simulation(
            model(),
            rule=ns.DualPropagation(nudge="proximal"),
            loss="hinge",
            schedule=ns.schedules.Parallel(3),
        )


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(ns.ConfigurationError, match="unknown loss 'hing'; did you mean 'hinge'"):
        ns.Simulation(model(), loss="hing", schedule=ns.schedules.Parallel(3))
