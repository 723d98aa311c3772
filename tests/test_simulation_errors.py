"""What a simulation refuses: options, inputs, calls out of turn, and states that diverge."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.schedules import Lazy, Parallel, RandomOrder, Sweep

DOUBLE = {"dtype": torch.float64}


def chain(*sizes: int, activation: str = "relu") -> ns.Model:
    layers = [{"name": f"h{i}", "dense": size} for i, size in enumerate(sizes[1:-1], 1)]
    layers.append({"name": "out", "dense": sizes[-1]})
    description = {"input": sizes[0], "activation": activation, "layers": layers}
    return ns.Model(ns.Network.from_dict(description), **DOUBLE)


def cyclic() -> ns.Model:
    populations = {
        "input": {"shape": 2, "role": "input"},
        "h": {"shape": 2},
        "out": {"shape": 2, "role": "output"},
    }
    ends = [("input", "h"), ("h", "out"), ("out", "h")]
    edges = [{"from": a, "to": b} for a, b in ends]
    return ns.Model(ns.Network.from_dict({"populations": populations, "projections": edges}))


MODEL = chain(3, 4, 2)
X, Y = torch.ones(5, 3), torch.zeros(5, 2)


def simulation(model: ns.Model = MODEL, schedule: Any = None, **options: Any) -> ns.Simulation:
    return ns.Simulation(model, schedule=schedule or Sweep("forward"), **options)


@pytest.mark.parametrize("kind", ["mean", "difference"])
@pytest.mark.parametrize(
    "channel",
    [
        ns.Channel(threshold=0.1),
        ns.Channel(delay=2.0),
        ns.Channel(delay=ns.Uniform(0.0, 2.0)),
        ns.Channel(jitter=ns.Uniform(0.0, 2.0)),
        ns.Channel(loss=0.1),
        ns.Channel(noise=0.1),
        ns.Channel(quantize=ns.Quantize(4, 2.0)),
    ],
    ids=lambda channel: str(channel)[:60],
)
def test_winners_at_plus_need_ideal_channels(channel: ns.Channel, kind: str) -> None:
    """No message tells of s⁺. Other projections may have any channel."""
    pool = {"kind": "max", "winners": "plus"}
    layers = [{"name": "c", "conv": 2}, {"name": "d", "conv": 2, "pool": pool}]
    layers.append({"name": "out", "dense": 2})
    model = ns.Model(ns.Network.from_dict({"input": [1, 4, 4], "layers": layers}))
    elsewhere = ns.Channels(overrides={"out": {kind: channel}, "c": {"mean": channel}})
    simulation(model, channels=elsewhere)
    said = f"'d' has the winners 'plus', .* the {kind} channel of 'd' is not ideal; .* 'mean'"
    with pytest.raises(ns.ConfigurationError, match=said):
        simulation(model, channels=ns.Channels(**{kind: channel}))


def test_weights_see_the_activation_where_nothing_hides_it() -> None:
    plasticity = ns.Plasticity.of("contrastive_hebbian", presynaptic="activation")
    late = ns.Channel(delay=3.0)
    simulation(plasticity=plasticity, channels=ns.Channels(difference=late))
    said = "presynaptic is 'activation', but .* mean channel of '.*' is not ideal; use .* 'mean'"
    with pytest.raises(ns.ConfigurationError, match=said):
        simulation(plasticity=plasticity, channels=ns.Channels(mean=late))
    with pytest.raises(ns.ConfigurationError, match="contrasts the states of its phases"):
        simulation(plasticity=plasticity, rule=ns.EquilibriumPropagation())


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0; it must be greater than 0"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": nan}, "beta is nan"),
        ({"beta": inf}, "beta is inf"),
        ({"alpha": -0.01}, "alpha is -0.01; it must be at least 0"),
        ({"alpha": 1.01}, "alpha is 1.01"),
        ({"alpha": nan}, "alpha is nan"),
        ({"variant": "relaxed"}, "variant is 'relaxed'; it must be one of 'aro', 'lagrangian'"),
        ({"nudge": "clamp"}, "nudge is 'clamp'; it must be one of 'prediction', 'potential'"),
        ({"damping": "weak"}, "damping is 'weak'"),
    ],
)
def test_rules_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        ns.DualPropagation(**options)


@pytest.mark.parametrize(
    ("variant", "alpha", "beta", "fits"),
    [
        ("aro", 0.5, 2.0, False),
        ("aro", 0.5, 1.99, True),
        ("aro", 0.0, 1.0, False),
        ("aro", 0.0, 0.99, True),
        ("aro", 1.0, 100.0, True),
        ("damped", 0.25, 4.0 / 3.0, False),
        ("lagrangian", 1.0, 1.0, False),
        ("lagrangian", 0.0, 100.0, True),
        ("lagrangian", 0.25, 3.99, True),
        ("lagrangian", 0.25, 4.0, False),
    ],
)
def test_the_proximal_nudge_needs_a_small_beta(
    variant: Any, alpha: float, beta: float, fits: bool
) -> None:
    """w⁻β < 1, or s⁻ has no minimum."""
    if fits:
        ns.DualPropagation(alpha, beta, variant, "proximal")
        return
    with pytest.raises(ns.ConfigurationError, match=r"proximal nudge needs w⁻·beta < 1, but w⁻ = "):
        ns.DualPropagation(alpha, beta, variant, "proximal")
    ns.DualPropagation(alpha, beta, variant, "potential")


@pytest.mark.parametrize("init", ["zero", "carry"])
def test_the_prediction_nudge_needs_a_feed_forward_start(init: str) -> None:
    rule = ns.DualPropagation(nudge="prediction")
    with pytest.raises(ns.ConfigurationError, match=f"'prediction' needs .* not '{init}'"):
        simulation(rule=rule, init=init)
    simulation(rule=rule, init="feedforward")


def test_the_proximal_nudge_is_of_the_squared_error() -> None:
    rule = ns.DualPropagation(nudge="proximal")
    with pytest.raises(ns.ConfigurationError, match="closed form of squared_error, not of cross_"):
        simulation(rule=rule, loss="cross_entropy")


def test_cycles() -> None:
    with pytest.raises(ns.NetworkError, match=r"without cycles; this one has .*out -> h.*'zero'"):
        simulation(cyclic(), init="feedforward")
    with pytest.raises(ns.ConfigurationError, match="give nudge_after"):
        simulation(cyclic(), Parallel(), init="zero")
    with pytest.raises(ns.ConfigurationError, match="gradient_angle compares with back-prop"):
        simulation(cyclic(), init="zero", probes=["gradient_angle"])
    ns.Simulation(cyclic(), schedule=Parallel(), init="zero", nudge_after=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "warm"}, "init is 'warm'; it must be one of 'zero', 'feedforward', 'carry'"),
        ({"loss": "mse"}, "unknown loss 'mse'; did you mean 'squared_error'"),
        ({"loss": "xyz"}, "'xyz'; it is one of binary_cross_entropy, cross_entropy, squared_error"),
        ({"compute": "sparse"}, "compute is 'sparse'"),
        ({"processes": "thread"}, "processes is 'thread'"),
        ({"device": "tpu9"}, "device is 'tpu9'"),
        ({"learn_every": 0}, "learn_every is 0"),
        ({"nudge_after": -1}, "nudge_after is -1; it must be at least 0"),
        ({"probes": ["residuals"]}, "unknown probe 'residuals'; did you mean 'residual'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        simulation(**options)


@pytest.mark.parametrize(("residual", "every"), [(0.0, 1), (-1.0, 1), (nan, 1), (1e-3, 0)])
def test_stops_that_cannot_be(residual: float, every: int) -> None:
    with pytest.raises(ns.ConfigurationError, match="it must be"):
        ns.Stop(residual, every)


def test_a_target_that_would_never_act() -> None:
    sim = simulation(schedule=Sweep("forward"), nudge_after=3, init="zero")
    with pytest.raises(
        ns.ConfigurationError, match="nudge_after is 3, but the schedule ends after"
    ):
        sim.start(X, Y)
    sim.infer(X)  # there is no target that could act
    assert simulation(schedule=Sweep("forward"), nudge_after=2, init="zero").infer(X, Y).ticks == 2


# ---- inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :2], Y, r"the input has shape \[5, 2\]; it must be \[B, 3\]"),
        (X[0], Y, r"the input has shape \[3\]"),
        (X[:, :, None], Y, r"the input has shape \[5, 3, 1\]"),
        (X[:0], Y[:0], r"the input has shape \[0, 3\]"),
        (X, Y[:, :1], r"the target has shape \[5, 1\]; it must be \[B, 2\]"),
        (X, Y[:4], "there are 5 inputs but 4 targets"),
        ("X", Y, "the input must be a torch tensor or an array of numbers, not str"),
        (X, [0.0, 1.0], r"the target has shape \[2\]; it must be \[B, 2\]"),
        (X + 1j, Y, "the input must be real, not torch.complex64"),
    ],
)
def test_inputs_that_do_not_fit(x: Any, y: Any, message: str) -> None:
    sim = simulation()
    with pytest.raises(ns.InputError, match=message):
        sim.infer(x, y)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("what", ["input", "target"])
def test_values_that_are_not_finite(what: str, value: float) -> None:
    image = {"input": [2, 3, 4], "layers": [{"name": "out", "conv": 1}]}
    model = ns.Model(ns.Network.from_dict(image))
    arrays = {"input": torch.zeros(5, 2, 3, 4), "target": torch.zeros(5, 1, 3, 4)}
    arrays[what][3, 0, 2, 1] = arrays[what][4, 0, 0, 0] = value
    message = rf"the {what} is not finite: first at sample 3, index \[0, 2, 1\]"
    with pytest.raises(ns.InputError, match=message):
        simulation(model).infer(arrays["input"], arrays["target"])


def test_a_number_that_the_models_type_cannot_hold() -> None:
    model = ns.Model(MODEL.network)
    with pytest.raises(ns.InputError, match=r"not finite: first at sample 0, index \[0\]"):
        simulation(model).infer(torch.full((1, 3), 1e39, **DOUBLE))


def test_an_input_refused_leaves_the_inference_alone() -> None:
    one, two = (simulation(schedule=Parallel(6), init="zero") for _ in range(2))
    expected = one.infer(X, Y)
    two.start(X, Y)
    two.advance(3)
    with pytest.raises(ns.InputError):
        two.start(X[:, :1], Y)
    two.advance()
    assert torch.equal(two.finish().plus["out"], expected.plus["out"])


# ---- calls out of turn -------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["advance", "finish", "gradients", "objective"])
def test_before_there_is_anything(call: str) -> None:
    with pytest.raises(ns.StateError, match="start first"):
        getattr(simulation(), call)()


@pytest.mark.parametrize("name", ["counts", "done"])
def test_asked_before_there_is_anything(name: str) -> None:
    with pytest.raises(ns.StateError):
        getattr(simulation(), name)


def test_learning_before_there_is_anything() -> None:
    with pytest.raises(ns.StateError, match="no states yet"):
        simulation().learn(torch.optim.SGD(MODEL.parameters(), 0.1))


def test_after_the_end() -> None:
    sim = simulation()
    sim.infer(X, Y)
    for call in (sim.advance, sim.finish):
        with pytest.raises(ns.StateError, match="no inference under way"):
            call()
    sim.gradients()  # the states are still there
    sim.start(X, Y)
    assert sim.advance() == 2
    assert sim.advance() == 0  # it is over, but not yet finished
    sim.finish()


def test_after_a_start_that_failed() -> None:
    sim = simulation(nudge_after=3, init="zero")
    with pytest.raises(ns.ConfigurationError):
        sim.start(X, Y)
    for call in (sim.advance, sim.finish):
        with pytest.raises(ns.StateError, match="no inference under way"):
            call()


# ---- divergence --------------------------------------------------------------------------------


def set_weights(model: ns.Model, **values: Any) -> ns.Model:
    """Weights by population, all else zero."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.zero_()
            if key.endswith(".weight"):
                parameter.copy_(torch.as_tensor(values[key.removesuffix(".weight")], **DOUBLE))
    return model


HUGE = {"h1": np.eye(3) * 1e200, "h2": np.diag([1.0, 1e200, 1.0]), "out": np.eye(3)}


def diverging() -> tuple[ns.Model, Tensor]:
    """h2 overflows in its middle neuron where the input's second pixel is on."""
    x = torch.zeros(4, 3, **DOUBLE)
    x[:, 0] = 1.0
    x[2:, 1] = 1.0
    return set_weights(chain(3, 3, 3, 3), **HUGE), x


@pytest.mark.parametrize("processes", ["population", "neuron"])
@pytest.mark.parametrize(
    ("schedule", "tick"),
    [
        (Sweep("forward"), 2),
        (Sweep("backward", 2), 5),
        (Parallel(5), 2),
        (Lazy(9.0), 2),
        (Sweep("forward", unit="neuron"), 2),
    ],
)
def test_divergence_is_told_where_and_when(schedule: Any, tick: int, processes: str) -> None:
    model, x = diverging()
    sim = simulation(model, schedule, init="zero", processes=processes, nudge_after=0)
    sim.start(x, torch.zeros(4, 3))
    assert sim.advance(tick - 1) == tick - 1
    with pytest.raises(ns.DivergenceError) as caught:
        sim.advance()
    error = caught.value
    assert (error.population, error.tick, error.neuron, error.sample) == ("h2", tick, (1,), 2)
    assert "population 'h2' is no longer finite at tick" in str(error)
    assert sim.tick == tick
    sim.start(torch.zeros(4, 3), torch.zeros(4, 3))  # and it can be used again
    sim.advance()
    assert not sim.finish().plus["h2"].any()


def test_divergence_in_an_image() -> None:
    description = {"input": [1, 3, 4], "layers": [{"name": "out", "conv": 2, "kernel": 1}]}
    model = ns.Model(ns.Network.from_dict(description), **DOUBLE)
    set_weights(model, out=np.array([1.0, 1e200]).reshape(2, 1, 1, 1))
    x = torch.zeros(2, 1, 3, 4, **DOUBLE)
    x[1, 0, 1, 2] = 1e200
    with pytest.raises(ns.DivergenceError) as caught:
        simulation(model, RandomOrder("neuron", groups=1, passes=1), init="zero").infer(x)
    assert (caught.value.neuron, caught.value.sample) == ((1, 1, 2), 1)


def test_large_but_finite() -> None:
    """A sum over the population that overflows is no divergence."""
    model = set_weights(chain(2, 4, 1), h1=np.full((4, 2), 1e307), out=np.zeros((1, 4)))
    outcome = simulation(model, Parallel(3), init="zero").infer(torch.full((3, 2), 8.0))
    assert outcome.plus["h1"].isfinite().all()
    assert outcome.plus["h1"].sum().isinf()


def test_divergence_of_the_feed_forward_start() -> None:
    """h1 overflows, and h2 does not show it: relu(−∞) = 0."""
    model = set_weights(chain(1, 1, 1, 1), h1=[[1e200]], h2=[[-1.0]], out=[[1.0]])
    x, y = torch.tensor([[1e200]], **DOUBLE), torch.zeros(1, 1)
    with pytest.raises(ns.DivergenceError, match="population 'h1'"):
        simulation(model, Sweep("forward"), init="zero").infer(x, y)
    with pytest.raises(ns.DivergenceError, match="population 'h1'"):
        simulation(model, Sweep("backward"), init="feedforward").infer(x, y)


@pytest.mark.parametrize(
    ("rule", "help_"),
    [
        (ns.DualPropagation(), "beta, or another variant"),
        (ns.EquilibriumPropagation(), "weak_uniform"),
        (ns.BackPropagation(), "try a smaller learning rate."),
    ],
)
def test_what_helps_against_divergence(rule: ns.Rule, help_: str) -> None:
    model = set_weights(chain(1, 1, 1), h1=[[1e200]], out=[[1.0]])
    x, y = torch.tensor([[1e200]], **DOUBLE), torch.zeros(1, 1, **DOUBLE)
    with pytest.raises(ns.DivergenceError, match=help_):
        simulation(model, Parallel(4), rule=rule, init="zero").infer(x, y)
