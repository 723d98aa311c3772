"""Training: events, the best epoch, evaluation, and going on from a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import NETWORK, events, make

import neurosim as ns
from neurosim import schedules
from neurosim.base.errors import ConfigurationError
from neurosim.data import digits
from neurosim.data.dataset import Split
from neurosim.learning import evaluation
from neurosim.learning.evaluation import Evaluator, SoFar
from neurosim.learning.trainer import Trainer, TrainingPlan
from neurosim.maths.losses import Loss
from neurosim.maths.optimizers import (
    SGD,
)
from neurosim.scenario.scenario import Scenario
from neurosim.simulation.simulation import Simulation


def test_a_sweep_trains_as_back_propagation_does() -> None:
    """The nudge 'prediction' with one downward sweep costs and gives what autograd gives."""
    model = ns.Model(ns.Network.from_dict(NETWORK), dtype=torch.float64)
    data = digits(dtype=torch.float64).limit(60, 30)
    simulation = Simulation(
        model,
        schedule=schedules.Sweep("backward"),
        rule=ns.DualPropagation(beta=1e-6, nudge="prediction"),
    )
    choice = SGD(lr=0.1, momentum=0.9)
    plan = TrainingPlan(2, batch_size=20)
    events(Trainer(simulation, choice, data.train, data.test, plan))

    other = ns.Model(ns.Network.from_dict(NETWORK), dtype=torch.float64)
    optimizer = choice.make(other.parameters())
    batches = make(plan).batches
    for _ in range(6):
        x, labels = batches.next()
        optimizer.zero_grad()
        target = torch.nn.functional.one_hot(labels, 10).double()
        Loss.of("squared_error").mean(other(x), target).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-9, atol=1e-10)


# ---- events ------------------------------------------------------------------------------------


# A carried inference goes up first: nothing was computed for this batch.
@pytest.mark.parametrize(("init", "due"), [("feedforward", [2, 4]), ("carry", [2, 4, 5])])
def test_which_events_there_are_and_when(init: str, due: list[int]) -> None:
    plan = TrainingPlan(5, batch_size=10, loss_every=4, accuracy_every=2, trace_epochs=3)
    probes = [ns.Probe("residual", every=2), ns.Probe("messages", every=100)]
    found = events(make(plan, probes=probes, init=init))
    assert Counter(event["event"] for event in found) == {
        "trace": 2 * len(due) + 2,
        "step": 10,
        "epoch": 5,
    }
    steps = [event["step"] for event in found if event["event"] == "step"]
    # Every fourth, and the last of every epoch (of 6 steps), once.
    assert steps == [4, 6, 8, 12, 16, 18, 20, 24, 28, 30]
    epochs = [event for event in found if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4, 5]
    assert [event["step"] for event in epochs] == [6, 12, 18, 24, 30]
    # Every second epoch, and the last.
    assert ["test_accuracy" in event for event in epochs] == [False, True, False, True, True]
    traces = [event for event in found if event["event"] == "trace"]
    # Of the first and of the fourth epoch, the last inference.
    assert {event["step"] for event in traces} == {6, 24}
    ticks = [event["tick"] for event in traces if event["probe"] == "residual"]
    assert ticks == due * 2
    ends = [event["tick"] for event in traces if event["probe"] == "messages"]
    assert ends == [due[-1]] * 2
    assert all(event["time"] == event["tick"] for event in traces)


def test_an_epoch_has_one_number_in_all_of_its_events() -> None:
    plan = TrainingPlan(2, batch_size=30, loss_every=1)
    found = events(make(plan, probes=[ns.Probe("reach")]))
    number = {event["step"]: event["epoch"] for event in found if event["event"] == "epoch"}
    for event in found:
        if event["step"] in number:
            assert event["epoch"] == number[event["step"]], event["event"]


def test_the_progress_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 8)
    trainer = make(TrainingPlan(2, batch_size=30, accuracy_every=2), images=60, validation=10)
    found = [event for event in trainer.events() if isinstance(event, ns.EvaluationEvent)]
    assert all(event.total == len(getattr(trainer, event.split)) for event in found)
    seen = [(event.epoch, event.split, event.samples) for event in found]
    size = len(trainer.test)
    batches = [*range(8, size, 8), size]
    tested = [(2, "test", images) for images in batches]

    def held(epoch: int) -> list[tuple[int, str, int]]:
        return [(epoch, "validation", images) for images in (8, 10)]

    assert seen == [*held(1), *held(2), *tested]


def test_an_evaluation_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew, and nothing is lost or told twice."""
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 8)
    plan = TrainingPlan(1, batch_size=30)
    expected = events(make(plan, images=60))
    trainer, found = make(plan, images=60), list[ns.TrainingEvent]()

    def begun() -> int:
        return sum(isinstance(event, ns.EvaluationEvent) for event in found)

    for event in trainer.events(lambda: begun() == 2):
        found.append(event)
    assert (begun(), trainer.done) == (2, False)
    assert trainer.step == trainer.steps
    other = make(plan, images=60)
    other.load_state_dict(trainer.state_dict())
    found += other.events()
    assert other.done
    assert [record for event in found if (record := event.record())] == expected


def test_max_steps_ends_within_an_epoch() -> None:
    trainer = make(TrainingPlan(3, max_steps=8, batch_size=10, loss_every=100))
    assert (trainer.steps, len(trainer.batches)) == (8, 6)
    found = events(trainer)
    assert [(event["event"], event["step"]) for event in found] == [
        ("step", 6),
        ("epoch", 6),
        ("step", 8),
        ("epoch", 8),
    ]
    assert trainer.done
    assert "test_accuracy" in found[-1]
    assert make(TrainingPlan(2, max_steps=100, batch_size=10)).steps == 12


def test_the_numbers_of_an_epoch() -> None:
    trainer = make(TrainingPlan(2, batch_size=20, loss_every=1))
    found = events(trainer)
    losses = [event["loss"] for event in found if event["event"] == "step"]
    first, second = (event for event in found if event["event"] == "epoch")
    assert first["train_loss"] == pytest.approx(sum(losses[:3]) / 3)
    assert second["train_loss"] == pytest.approx(sum(losses[3:]) / 3)
    # Per inference: down, up and down through two populations, turning populations wake once.
    assert (first["ticks"], second["ticks"]) == (12, 24)
    assert first["time"] == 12.0
    accuracy, loss = trainer.evaluate(trainer.test)
    assert (second["test_accuracy"], second["test_loss"]) == (accuracy, loss)


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"max_steps": 0}, {"batch_size": 0}, {"loss_every": 0}, {"accuracy_every": -1}],
)
def test_refuses_a_plan(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        TrainingPlan(**options)


@pytest.mark.parametrize("learn_every", [None, 2])
def test_the_totals_count_what_learning_did(learn_every: int | None) -> None:
    """One weight gradient per layer and update; the sweeps of two layers take four ticks."""
    trainer = make(TrainingPlan(2, batch_size=10), images=60, learn_every=learn_every)
    found = events(trainer, "epoch")
    updates = 1 if learn_every is None else 2
    assert [event["weight_gradient"] for event in found] == [6 * 2 * updates, 12 * 2 * updates]


# ---- the best epoch ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.2, 0.9, 0.5), 2), ((0.9, 0.9, 0.9), 1), ((0.1, 0.2, 0.3), 3)]
)
def test_validation_chooses_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch, accuracies: tuple[float, ...], best: int
) -> None:
    # Every epoch may be the best, however rarely accuracy is asked for.
    trainer = make(TrainingPlan(3, batch_size=10, accuracy_every=3), images=60, validation=20)
    assert len(trainer.batches) == 4  # 20 of the 60 are held out
    given, weights = iter(accuracies), []
    batches = Evaluator.batches

    def scripted(self: Evaluator, split: Split, **how: Any) -> Iterator[SoFar]:
        if split is not trainer.validation:
            yield from batches(self, split, **how)
            return
        weights.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
        yield SoFar(len(split), next(given) * len(split), 1.0)

    monkeypatch.setattr(Evaluator, "batches", scripted)
    found = events(trainer, "epoch")
    assert tuple(event["validation_accuracy"] for event in found) == accuracies
    assert ["test_accuracy" in event for event in found] == [False, False, True]
    assert trainer.best() == best
    assert trainer.best_accuracy == max(accuracies)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, weights[best - 1][name])


def test_without_validation_the_last_weights_stay() -> None:
    trainer = make(TrainingPlan(2, batch_size=30))
    found = events(trainer, "epoch")
    assert trainer.best() is None
    assert trainer.evaluate(trainer.test) == (found[-1]["test_accuracy"], found[-1]["test_loss"])
    assert "validation_accuracy" not in found[-1]


# ---- evaluation --------------------------------------------------------------------------------

SETTLING = {
    "odd_even.yaml": [],
    "parallel.yaml": [],
    "random_order.yaml": ["schedule.passes=20"],
    "lazy.yaml": ["channels={}"],
    "skip.yaml": ["schedule.duration=20"],
    "sweep.yaml": [],
}


@pytest.mark.parametrize("name", SETTLING)
def test_the_settled_network_predicts_what_the_forward_pass_predicts(root: Path, name: str) -> None:
    overrides = ["data.limit=200", "training.max_steps=4", "dtype=float64", "probes=[]"]
    made = []
    for way in ("feedforward", "settled"):
        more = [*overrides, *SETTLING[name], f"training.evaluation={way}"]
        scenario = Scenario.load(root / "scenarios" / name, more)
        trainer = scenario.trainer(scenario.data())
        made.append(events(trainer, "epoch")[-1])
    assert made[0]["test_accuracy"] == made[1]["test_accuracy"]
    assert made[0]["test_loss"] == pytest.approx(made[1]["test_loss"], rel=1e-9)
    assert made[0]["wakes"] == made[1]["wakes"]  # evaluation is not counted as training


def test_evaluation_does_not_depend_on_when_it_is_done(root: Path) -> None:
    more = ["data.limit=100", "training.evaluation=settled", "training.max_steps=2", "probes=[]"]
    scenario = Scenario.load(root / "scenarios" / "poisson.yaml", more)
    trainer = scenario.trainer(scenario.data())
    assert trainer.evaluate(trainer.test) == trainer.evaluate(trainer.test)
    before = repr(trainer.state_dict()["simulation"])
    trainer.evaluate(trainer.test)
    assert repr(trainer.state_dict()["simulation"]) == before


def test_an_evaluation_must_be_one_that_the_network_has() -> None:
    """And ends with a prediction."""
    trainer = make(TrainingPlan())
    schedule = schedules.Parallel(4)
    simulation = Simulation(trainer.model, rule=ns.EquilibriumPropagation(), schedule=schedule)
    with pytest.raises(ConfigurationError, match="predicts by its free phase"):
        Evaluator(simulation)

    class Silent(ns.Prediction):
        kind = "silent"

        def predict(self, simulation: Simulation, x: torch.Tensor) -> Iterator[torch.Tensor | None]:
            yield None

    with pytest.raises(ConfigurationError, match="'silent' did not end with one"):
        Evaluator(trainer.simulation, Silent()).evaluate(trainer.test)
