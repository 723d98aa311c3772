"""Metrics of an evaluation, against literal definitions; schedulers of torch in a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import events, make
from torch.optim import lr_scheduler

import neurosim as ns
from neurosim.learning import evaluation, load_state, save_state
from neurosim.learning.metrics import R2, Metric
from neurosim.learning.trainer import Trainer, TrainingPlan

SOME = ("confusion_matrix", "exact_match", "f1", "mse", "r2", "top_k")


def literal(prediction: Any, labels: Any) -> dict[str, Any]:
    """By loops over samples."""
    target = np.eye(10)[labels]
    matrix = np.zeros((10, 10), dtype=int)
    hits = 0
    for p, label in zip(prediction, labels, strict=True):
        matrix[label, p.argmax()] += 1
        hits += label in np.argsort(-p)[:5]
    left = ((prediction - target) ** 2).sum(0)
    spread = ((target - target.mean(0)) ** 2).sum(0)
    return {
        "top_5": hits / len(labels),
        "exact_match": np.trace(matrix) / len(labels),
        "f1_macro": np.mean([f1(matrix, one) for one in range(10)]),
        "confusion_matrix": matrix.tolist(),
        "mse": ((prediction - target) ** 2).mean(),
        "r2": (1 - left / spread).mean(),
    }


def f1(matrix: Any, one: int) -> float:
    precision = matrix[one, one] / max(1, matrix[:, one].sum())
    recall = matrix[one, one] / max(1, matrix[one].sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_metrics_are_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summed over batches of another size, too."""
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 7)
    trainer = make(TrainingPlan(1, batch_size=20, metrics=SOME))  # type: ignore[arg-type]
    trainer.fit()
    found = trainer.evaluator.scores(trainer.test)
    prediction = trainer.model(trainer.test.images).detach().numpy()
    for name, value in literal(prediction, trainer.test.labels.numpy()).items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12, err_msg=name)
    assert found["accuracy"] == np.trace(found["confusion_matrix"]) / 30


def test_the_share_of_variance_of_an_output_that_is_constant() -> None:
    y = torch.tensor([[1.0, 0.1], [2.0, 0.1], [4.0, 0.1]], dtype=torch.float64)
    metric = R2()
    assert metric.value(metric.sums(y, y), 3) == 1.0
    assert metric.value(metric.sums(y[:, 1:], y[:, 1:]), 3) is None


@pytest.mark.parametrize(("loss", "above"), [("binary_cross_entropy", 0.0), ("squared_error", 0.5)])
def test_several_labels_of_a_sample(loss: str, above: float, tmp_path: Path) -> None:
    """Against loops; the run says them, and no accuracy."""
    draws = np.random.default_rng(0)
    x, y = draws.random((40, 6)), draws.integers(0, 2, (40, 3))
    y[:, 2] = 0
    network = ns.Network.from_dict({"input": [6], "layers": [{"dense": 3}]})
    rule = ns.DualPropagation(nudge="potential")
    sim = ns.Simulation(ns.Model(network), rule=rule, loss=loss, schedule="sweep")
    metrics: Any = ["exact_match", "f1", Metric.of("f1", average="micro")]
    data = (x, y.astype(np.float32))
    trainer = ns.Trainer(sim, "adam", data, data, epochs=1, batch_size=10, metrics=metrics)
    summary = ns.run(trainer, out=tmp_path, progress=False).summary
    with torch.no_grad():
        said = sim.predict(torch.tensor(x, dtype=torch.float32)).numpy() > above
    pairs = list(zip(said, y, strict=True))
    right = [[bool(a) and bool(b) for a, b in zip(*rows, strict=True)] for rows in pairs]
    counts = [(sum(r[j] for r in right), said[:, j].sum() + y[:, j].sum()) for j in range(3)]
    each = [2 * hit / all_ for hit, all_ in counts if all_]
    assert summary["test_f1_macro"] == pytest.approx(np.mean(each), abs=1e-12)
    micro = 2 * sum(hit for hit, _ in counts) / sum(all_ for _, all_ in counts)
    assert summary["test_f1_micro"] == pytest.approx(micro, abs=1e-12)
    exact = sum(all(a == b for a, b in zip(*rows, strict=True)) for rows in pairs) / 40
    assert summary["test_exact_match"] == exact
    assert summary["test_accuracy"] is None


def test_labels_that_are_none_have_no_f1() -> None:
    network = ns.Network.from_dict({"input": [2], "layers": [{"dense": 1}]})
    sim = ns.Simulation(ns.Model(network), schedule="sweep")
    data = np.zeros((9, 2)), np.arange(9.0)[:, None]
    with pytest.raises(ns.ConfigurationError, match="f1 is of labels, 0 or 1"):
        ns.Trainer(sim, "adam", data, data, batch_size=3, metrics=["f1"])


def test_metrics_are_in_the_records_of_epochs() -> None:
    plan = TrainingPlan(2, batch_size=20, metrics=(Metric.of("top_k", k=3), "mse"))  # type: ignore[arg-type]
    found = make(plan, validation=20).fit()
    assert [set(epoch) & {"test_top_3", "validation_mse"} for epoch in found] == [
        {"test_top_3", "validation_mse"}
    ] * 2
    assert all(epoch["test_top_3"] >= epoch["test_accuracy"] for epoch in found)


@pytest.mark.parametrize(
    ("metric", "message"), [("top5", "top_k"), (Metric.of("top_k", k=10), "k is 10")]
)
def test_refuses_a_metric(metric: Any, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        make(TrainingPlan(metrics=(metric,)))


# ---- schedulers ----------------------------------------------------------------------------------

SCHEDULERS: dict[str, Any] = {
    "step": (lambda o: lr_scheduler.StepLR(o, 1, 0.5), "epoch"),
    "milestones": (lambda o: lr_scheduler.MultiStepLR(o, [1, 3], 0.1), "epoch"),
    "lambda": (lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)), "step"),
    "multiplied": (lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.8), "epoch"),
    "sequence": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [2]
        ),
        "epoch",
    ),
    "chain": (
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)]
        ),
        "step",
    ),
    "cycle": (
        lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20, cycle_momentum=False),
        "step",
    ),
    "plateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.3), "epoch"),
}


def scheduled(name: str, epochs: int = 4) -> Trainer:
    make_one, every = SCHEDULERS[name]
    parts = make(TrainingPlan(1, batch_size=20))
    optimizer = torch.optim.SGD(parts.model.parameters(), lr=0.1)
    train, test = parts.train, parts.test
    return Trainer(
        parts.simulation,
        optimizer,
        train,
        test,
        TrainingPlan(epochs, batch_size=20, loss_every=1),
        scheduler=make_one(optimizer),
        scheduler_every=every,
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_of_torch_has_its_way(name: str, tmp_path: Path) -> None:
    """The rates are those of torch's own loop, also of a training that goes on elsewhere."""
    trainer = scheduled(name)
    records = events(trainer)
    found = [record["lr"] for record in records if record["event"] == "step"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    make_one, every = SCHEDULERS[name]
    scheduler, expected = make_one(optimizer), []
    for epoch in (record for record in records if record["event"] == "epoch"):
        for _ in range(3):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if every == "step":
                scheduler.step()
        if every == "epoch":
            scheduler.step(*([epoch["train_loss"]] if name == "plateau" else []))
    assert found == expected
    assert len(set(found)) > 1

    first, second, ticks = scheduled(name), scheduled(name), iter([False] * 15 + [True])
    ended = first.fit(interrupted=lambda: next(ticks))
    assert not first.done
    save_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state"))
    assert ended + second.fit() == [record for record in records if record["event"] == "epoch"]


def test_refuses_a_scheduler() -> None:
    trainer = make(TrainingPlan(1, batch_size=20))
    other = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    own = lr_scheduler.ExponentialLR(trainer.optimizer, 0.9)
    plateau = lr_scheduler.ReduceLROnPlateau(trainer.optimizer)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("of another optimizer", {"scheduler": lr_scheduler.StepLR(other, 1)}),
        ("must be one of torch.optim", {"scheduler": "cosine"}),
        ("leave one of them out", {"scheduler": own, "learning_rate": "cosine"}),
        ("goes by the scores", {"scheduler": plateau, "scheduler_every": "step"}),
        ("must be one of", {"scheduler": own, "scheduler_every": "batch"}),
        ("did you mean 'epochs'", {"epoch": 3}),
        ("unknown learning_rate 'cosin'", {"learning_rate": "cosin"}),
    ]
    for message, options in cases:
        with pytest.raises(ns.ConfigurationError, match=message):
            Trainer(
                *(trainer.simulation, trainer.optimizer, trainer.test, trainer.test),
                **{"batch_size": 20} | options,
            )
    for data in (trainer.test.images, "digits", (1, 2, 3)):
        with pytest.raises(ns.DataError):
            Trainer(trainer.simulation, "adam", data, trainer.test)  # type: ignore[arg-type]
    with pytest.raises(ns.ConfigurationError, match="it must be a Simulation"):
        Trainer(torch.nn.Linear(2, 3), "adam", trainer.test, trainer.test)  # type: ignore[arg-type]
