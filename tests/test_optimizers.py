"""Learning rates and optimizers, against torch and their formulas."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from small_trainings import events, make
from torch import Tensor

from neurosim.base.errors import ConfigurationError
from neurosim.learning.trainer import TrainingPlan
from neurosim.maths.optimizers import (
    SGD,
    Adam,
    AdamW,
    ConstantRate,
    CosineRate,
    LearningRate,
    OptimizerChoice,
)

# ---- the learning rate -------------------------------------------------------------------------


def test_a_constant_rate() -> None:
    assert [ConstantRate().at(step, 0.3, 5, 2) for step in range(10)] == [0.3] * 10


def test_half_a_cosine() -> None:
    rate = CosineRate(final=0.01)
    for step in range(40):
        expected = 0.01 + (0.5 - 0.01) * (1 + cos(pi * step / 40)) / 2
        assert rate.at(step, 0.5, 10, 4) == pytest.approx(expected, rel=1e-12)


@given(
    warmup=st.integers(0, 3),
    after=st.integers(1, 4),
    per_epoch=st.integers(1, 7),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 1)),
)
def test_warm_up_and_cosine_as_torch_has_them(
    warmup: int, after: int, per_epoch: int, ends: tuple[float, float, float]
) -> None:
    start, final, peak = ends
    rate = CosineRate(float(warmup), start, final)
    ramp = warmup * per_epoch
    rest = after * per_epoch
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rest, eta_min=final)
    for step in range(ramp + rest):
        found = rate.at(step, peak, per_epoch, warmup + after)
        if step < ramp:
            assert found == pytest.approx(start + (peak - start) * step / ramp, abs=1e-12)
        else:
            assert found == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
            optimizer.step()
            cosine.step()
    assert rate.at(ramp + rest, peak, per_epoch, warmup + after) == pytest.approx(final)
    assert rate.at(10**6, peak, per_epoch, warmup + after) == pytest.approx(final)


def test_a_warm_up_longer_than_the_training_never_ends() -> None:
    rate = CosineRate(warmup_epochs=4.0)
    assert [rate.at(step, 1.0, 2, 2) for step in range(4)] == [0.0, 1 / 8, 2 / 8, 3 / 8]


def test_the_trainer_sets_the_rate_before_every_step() -> None:
    rate = CosineRate(1.0, 0.02, 0.01)
    trainer = make(TrainingPlan(3, batch_size=20, learning_rate=rate, loss_every=1))
    found = [event["lr"] for event in events(trainer, "step")]
    assert found == [rate.at(step, 0.1, 3, 3) for step in range(9)]
    assert found[0] == 0.02


@pytest.mark.parametrize(
    "options",
    [{"warmup_epochs": -1.0}, {"final": float("nan")}, {"warmup_from": -0.1}],
)
def test_refuses_a_rate(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        CosineRate(**options)


def test_the_families() -> None:
    assert set(LearningRate.family) == {"constant", "cosine"}
    assert set(OptimizerChoice.family) == {"sgd", "adam", "adamw"}
    with pytest.raises(ConfigurationError, match="unknown learning_rate 'cosin'"):
        LearningRate.of("cosin")


# ---- optimizers --------------------------------------------------------------------------------


def sgd(choice: SGD) -> Callable[[Tensor, Tensor, int], Tensor]:
    velocity: list[Tensor] = []

    def step(weight: Tensor, gradient: Tensor, number: int) -> Tensor:
        gradient = gradient + choice.weight_decay * weight
        velocity[:] = [choice.momentum * velocity[0] + gradient if number > 1 else gradient]
        return weight - choice.lr * velocity[0]

    return step


def adam(choice: Adam | AdamW) -> Callable[[Tensor, Tensor, int], Tensor]:
    first, second = choice.betas
    moments: list[Tensor] = [torch.zeros(()), torch.zeros(())]

    def step(weight: Tensor, gradient: Tensor, number: int) -> Tensor:
        if choice.kind == "adam":
            gradient = gradient + choice.weight_decay * weight
        else:
            weight = weight * (1 - choice.lr * choice.weight_decay)
        moments[0] = first * moments[0] + (1 - first) * gradient
        moments[1] = second * moments[1] + (1 - second) * gradient**2
        mean, variance = moments[0] / (1 - first**number), moments[1] / (1 - second**number)
        return weight - choice.lr * mean / (variance.sqrt() + choice.eps)

    return step


@pytest.mark.parametrize(
    "choice",
    [
        SGD(lr=0.1),
        SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
        Adam(lr=0.01),
        Adam(lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-3),
        AdamW(lr=0.01, weight_decay=0.1),
    ],
    ids=str,
)
def test_the_optimizers_take_the_steps_of_their_formulas(choice: OptimizerChoice) -> None:
    trainer = make(TrainingPlan(1, batch_size=20, loss_every=1), optimizer=choice)
    model, simulation = trainer.model, trainer.simulation
    formula = sgd if choice.kind == "sgd" else adam
    rules = {name: formula(choice) for name in model.state_dict()}
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    batches = make(TrainingPlan(1, batch_size=20)).batches  # the same order, drawn anew
    for number, _ in enumerate(events(trainer, "step"), 1):
        x, labels = batches.next()
        simulation.model.load_state_dict(expected)
        simulation.infer(x, torch.nn.functional.one_hot(labels, 10).double())
        gradients = simulation.gradients()
        expected = {k: rules[k](expected[k], gradients[k], number) for k in expected}
    fresh = make(TrainingPlan(1, batch_size=20), optimizer=choice)
    events(fresh)
    for name, value in fresh.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(SGD, {"lr": 0.0}), (SGD, {"momentum": -1.0}), (Adam, {"betas": (0.9, 1.0)})],
)
def test_refuses_an_optimizer(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        kind(**options)
