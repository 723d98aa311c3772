"""Learning rates, against torch and their formulas."""

from __future__ import annotations

import re
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainings import events, make

import neurosim as ns
from neurosim.base.errors import ConfigurationError
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.trainer import TrainingPlan
from neurosim.maths.learning_rates import ConstantRate, CosineRate, LearningRate, TorchRate
from neurosim.maths.optimizers import (
    SGD,
    OptimizerChoice,
    ParameterGroup,
)

CHAIN, PLATEAU = "ChainedScheduler", "ReduceLROnPlateau"
NAMED: Any = {
    "input": [1, 8, 8],
    "layers": [{"name": "h", "dense": 9}, {"name": "output", "dense": 10}],
}


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


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_cosine_that_ends_before_the_training(warmup: float) -> None:
    rate = CosineRate(warmup, 0.01, 0.002, end_epoch=4.0)
    whole = CosineRate(warmup, 0.01, 0.002)
    found = [rate.at(step, 0.5, 5, 7) for step in range(35)]
    assert found[:20] == [whole.at(step, 0.5, 5, 4) for step in range(20)]
    assert found[20:] == [0.002] * 15
    assert [rate.at(step, 0.5, 5, 2) for step in range(10)] == found[:10]  # a shorter training


def test_a_rate_of_every_epoch() -> None:
    by_step, by_epoch = CosineRate(1.0, 0.01), CosineRate(1.0, 0.01, every="epoch")
    assert [by_epoch.at(step, 0.5, 5, 4) for step in range(20)] == [
        by_step.at(step - step % 5, 0.5, 5, 4) for step in range(20)
    ]


def of_torch(optimizer: torch.optim.Optimizer, name: str, options: dict[str, Any]) -> Any:
    """A scheduler as a user of torch writes it, and those that it is made of."""
    kind, options = getattr(torch.optim.lr_scheduler, name), dict(options)
    if "schedulers" not in options:
        return kind(optimizer, **options)
    others = [
        of_torch(optimizer, one["name"], one.get("options", {})) for one in options["schedulers"]
    ]
    if name == "ChainedScheduler":
        return kind(others)
    return kind(optimizer, others, options["milestones"])


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize(
    "rate", [r for r in TorchRate.example() if r.name != PLATEAU], ids=lambda rate: rate.name
)
def test_the_schedulers_of_torch(rate: TorchRate, every: Any) -> None:
    """Step by step, asked for any step at first, and after a warm-up."""
    rate = replace(rate, every=every)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = of_torch(optimizer, rate.name, rate.options)
    expected = []
    for step in range(24):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if every == "step" or step % 4 == 3:
            scheduler.step()
    assert len(set(expected)) > 1
    assert [rate.at(step, 0.1, 4, 6) for step in range(24)] == expected
    assert replace(rate).at(17, 0.1, 4, 6) == expected[17]
    later = replace(rate, warmup_epochs=2.0, warmup_from=0.02)
    assert [later.at(step, 0.1, 4, 8) for step in range(8, 32)] == expected
    ramp = [0.02 + 0.08 * (step if every == "step" else step - step % 4) / 8 for step in range(8)]
    assert [later.at(step, 0.1, 4, 8) for step in range(8)] == pytest.approx(ramp)


def test_schedulers_within_schedulers() -> None:
    """A chain of a sequence and another, as torch has it."""
    sequence = {
        "name": "SequentialLR",
        "options": {
            "schedulers": [
                {"name": "LinearLR", "options": {"total_iters": 2}},
                {"name": "ExponentialLR", "options": {"gamma": 0.9}},
            ],
            "milestones": [2],
        },
    }
    step = {"name": "MultiStepLR", "options": {"milestones": [4], "gamma": 0.1}}
    rate = TorchRate(name=CHAIN, options={"schedulers": [sequence, step]})
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler, expected = of_torch(optimizer, rate.name, dict(rate.options)), []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert [rate.at(step, 0.1, 1, 6) for step in range(6)] == expected
    assert len(set(expected)) == 6


@pytest.mark.parametrize(("mode", "validation"), [("min", 0), ("max", 20), ("min", 20)])
def test_a_plateau_goes_by_scores(mode: str, validation: int, tmp_path: Path) -> None:
    """Those of the validation, or without one of the training; also in a training that goes on
    elsewhere, bit for bit. torch's own goes the same way by the same scores."""
    options = {"mode": mode, "patience": 0, "threshold": 0.3, "factor": 0.5}
    plan = TrainingPlan(
        5, batch_size=20, loss_every=1, learning_rate=TorchRate(name=PLATEAU, options=options)
    )
    how: Any = {"validation": validation, "images": 60 + validation}
    trainer = make(plan, **how)
    records = events(trainer)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)  # type: ignore[arg-type]
    expected: list[float] = []
    score = ("validation_" if validation else "train_") + ("loss" if mode == "min" else "accuracy")
    epochs = [record for record in records if record["event"] == "epoch"]
    for epoch in epochs:
        expected += [optimizer.param_groups[0]["lr"]] * 3
        scheduler.step(epoch[score])
    assert [record["lr"] for record in records if record["event"] == "step"] == expected
    assert len(set(expected)) > 1
    first, second, ticks = make(plan, **how), make(plan, **how), iter([False] * 15 + [True])
    ended = first.fit(interrupted=lambda: next(ticks))
    assert not first.done
    save_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state"))
    assert ended + second.fit() == epochs
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_every_group_has_its_own_rate() -> None:
    rate = TorchRate(name="ExponentialLR", options={"gamma": 0.5})
    groups = (ParameterGroup("output", lr=0.3),)
    trainer = make(
        TrainingPlan(2, batch_size=20, learning_rate=rate),
        optimizer=SGD(0.1, groups=groups),
        network=NAMED,
    )
    events(trainer)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.05, 0.15]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (CosineRate, {"warmup_epochs": -1.0}, "warmup_epochs"),
        (CosineRate, {"final": float("nan")}, "final"),
        (CosineRate, {"warmup_from": -0.1}, "warmup_from"),
        (CosineRate, {"warmup_epochs": 3.0, "end_epoch": 3.0}, "ends at epoch 3, in a warm-up"),
        (
            TorchRate,
            {"name": "StepLr"},
            "unknown scheduler of torch 'StepLr'; did you mean 'StepLR'",
        ),
        (TorchRate, {"name": "StepLR"}, "missing 1 required positional argument: 'step_size'"),
        (TorchRate, {"name": "StepLR", "options": {"step": 3}}, "did you mean 'step_size'"),
        (TorchRate, {"name": "StepLR", "options": {"last_epoch": 3}}, "unknown option of StepLR"),
        (TorchRate, {"name": "LambdaLR"}, "takes a function"),
        (TorchRate, {"name": "SequentialLR"}, "SequentialLR needs schedulers, a list such as"),
        (TorchRate, {"name": CHAIN, "options": {"schedulers": ["StepLR"]}}, "needs schedulers, a"),
        (TorchRate, {"name": CHAIN, "options": {"schedulers": [{"name": "StepLR"}]}}, "step_size"),
        (TorchRate, {"name": CHAIN, "options": {"schedulers": [{"name": "StepR"}]}}, "mean 'StepL"),
        (TorchRate, {"name": CHAIN, "options": {"schedulers": [{"name": PLATEAU}]}}, CHAIN),
        (TorchRate, {"name": PLATEAU, "warmup_epochs": 2.0}, "leave warmup_epochs out"),
        (TorchRate, {"name": PLATEAU, "every": "step"}, "leave every out"),
        (TorchRate, {"name": PLATEAU, "options": {"mode": "least"}}, "mode least is unknown"),
        (
            TorchRate,
            {"name": "OneCycleLR", "options": {"max_lr": 1.0, "total_steps": 9}},
            "cycle_momentum: false",
        ),
        (TorchRate, {"name": "CosineAnnealingWarmRestarts", "options": {"T_0": 0}}, "T_0"),
    ],
)
def test_refuses_a_rate(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        kind(**options)


def test_a_schedule_that_does_not_last() -> None:
    options = {"max_lr": 0.3, "total_steps": 3, "cycle_momentum": False}
    rate = TorchRate(name="OneCycleLR", options=options, every="step")
    make(TrainingPlan(1, batch_size=20, learning_rate=rate))
    with pytest.raises(ConfigurationError, match="number of total steps is 3"):
        make(TrainingPlan(2, batch_size=20, learning_rate=rate))


def test_the_families() -> None:
    assert set(LearningRate.family) == {"constant", "cosine", "torch"}
    assert set(OptimizerChoice.family) == {"sgd", "adam", "adamw", "torch"}
    with pytest.raises(ConfigurationError, match="unknown learning_rate 'cosin'"):
        LearningRate.of("cosin")


@pytest.mark.parametrize(
    ("name", "options"), [("StepLR", {"step_size": 0}), ("CosineAnnealingLR", {"T_max": 0})]
)
def test_a_scheduler_that_cannot_take_a_step(name: str, options: dict[str, object]) -> None:
    """Is refused as it is said, and not in the middle of a training."""
    with pytest.raises(ns.ConfigurationError, match=f"torch's {name}: integer modulo by zero"):
        ns.LearningRate.of("torch", name=name, options=options)
