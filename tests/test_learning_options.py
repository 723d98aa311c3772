"""What a training may be told besides its optimizer: clipping, averages, smoothing, an end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from small_trainings import NETWORK, Stop, events, make
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import neurosim as ns
from neurosim.base.errors import ConfigurationError, DocumentError
from neurosim.cli.main import main
from neurosim.data.dataset import Split
from neurosim.learning.evaluation import Evaluator, SoFar
from neurosim.learning.plan import EarlyStopping, TrainingPlan
from neurosim.maths.optimizers import Clip
from neurosim.runs import run as runner
from neurosim.scenario.scenario import Scenario

PARALLEL = Path(__file__).parents[1] / "scenarios/parallel.yaml"


def weights(trainer: ns.Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


# ---- clipping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_every", [None, 2])
@pytest.mark.parametrize("clip", [Clip(norm=0.05), Clip(norm=1e3), Clip(value=0.01)], ids=str)
def test_clipping_as_torch_does_it(clip: Clip, learn_every: int | None) -> None:
    """After the listeners, who see the whole gradients."""
    seen: list[dict[str, Tensor]] = []

    class Look:
        def on_gradients(self, gradients: dict[str, Tensor]) -> None:
            gradients["h.bias"].mul_(2.0)
            seen.append({name: value.clone() for name, value in gradients.items()})

    plasticity = ns.Plasticity.of("contrastive_hebbian", clip=clip, every=learn_every)
    trainer = make(TrainingPlan(1, max_steps=1, batch_size=20), plasticity=plasticity)
    expected = {name: torch.nn.Parameter(value) for name, value in weights(trainer).items()}
    trainer.fit([Look()])
    for gradients in seen:
        for name, parameter in expected.items():
            parameter.grad = gradients[name]
        if clip.norm is not None:
            torch.nn.utils.clip_grad_norm_(expected.values(), clip.norm)
        else:
            torch.nn.utils.clip_grad_value_(expected.values(), clip.value or 0.0)
        torch.optim.SGD(expected.values(), lr=0.1).step()
    assert len(seen) == (learn_every or 1)
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, expected[name].data, rtol=1e-12, atol=1e-14)


def test_gradients_whose_squares_overflow_are_clipped_all_the_same() -> None:
    gradients = [torch.full((2, 2), 3e30), torch.full((3,), -4e30)]
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = ns.maths.finite_norm(dict(zip("ab", gradients, strict=True)), "the gradient of", "")
    Clip(norm=2.0).apply(parameters, norm)
    found = torch.cat([parameter.grad.flatten() for parameter in parameters])  # type: ignore[union-attr]
    assert float(found.norm()) == pytest.approx(2.0)
    assert float(found[0] / found[-1]) == pytest.approx(-0.75)


@pytest.mark.parametrize("options", [{}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}])
def test_refuses_to_clip(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="norm"):
        Clip(**options)


# ---- averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_every", [None, 2])
@pytest.mark.parametrize("validation", [0, 20])
def test_an_average_is_what_is_evaluated_and_saved(
    learn_every: int | None, validation: int
) -> None:
    """It is that of torch's AveragedModel, and training does not know of it."""
    options: Any = {"validation": validation, "learn_every": learn_every, "images": 100}
    plan = {"epochs": 3, "batch_size": 20, "loss_every": 1}
    plain = make(TrainingPlan(**plan), **options)
    trainer, again = (make(TrainingPlan(**plan, ema=0.8), **options) for _ in range(2))
    averaged = AveragedModel(trainer.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    models = trainer.model, averaged.module
    trainer.optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(trainer.model))
    other = make(TrainingPlan(**plan), **options).simulation
    kept: list[dict[str, Tensor]] = []
    for event in trainer.events():
        if isinstance(event, ns.EvaluationEvent):  # is not told in the middle of a swap
            assert not torch.equal(*(model.get_submodule("h").weight for model in models))
        if isinstance(event, ns.EpochEvent):
            other.model.load_state_dict(averaged.module.state_dict())
            kept.append({name: v.clone() for name, v in other.model.state_dict().items()})
            assert (event.test_accuracy, event.test_loss) == Evaluator(other).evaluate(trainer.test)
            assert trainer.evaluate(trainer.test) == (event.test_accuracy, event.test_loss)
    losses = [event["loss"] for event in events(plain, "step")]
    assert weights(trainer).keys() == weights(plain).keys()
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(trainer).items())
    assert [event["loss"] for event in events(again, "step")] == losses
    best = trainer.best()
    assert (best is None) == (not validation)
    expected = kept[-1 if best is None else best - 1]
    assert all(torch.equal(value, expected[name]) for name, value in weights(trainer).items())
    assert trainer.evaluate(trainer.test) == Evaluator(trainer.simulation).evaluate(trainer.test)


@pytest.mark.parametrize("name", ["lazy", "parallel"])
def test_simulations_do_not_notice_an_average(name: str) -> None:
    """Not those that carry their states over an evaluation, and wake by news of weights."""
    path = PARALLEL.with_name(f"{name}.yaml")
    more = ["data.limit=100", "training.epochs=2", "training.max_steps=3", "init=carry"]
    more += ["dtype=float64", "training.evaluation=settled", "data.batch_size=50"]
    found = []
    for ema in ("null", "0.5"):
        scenario = Scenario.load(path, [*more, f"training.ema={ema}"])
        found.append(events(scenario.trainer(scenario.data())))
    for plain, averaged in zip(*found, strict=True):
        scores = {"test_accuracy", "test_loss"}
        assert {k: plain[k] for k in plain.keys() - scores} == {
            k: averaged[k] for k in averaged.keys() - scores
        }
    assert found[0][-1]["test_loss"] != found[1][-1]["test_loss"]


# ---- label smoothing -----------------------------------------------------------------------------


def test_label_smoothing_as_torch_has_it() -> None:
    plan = TrainingPlan(2, batch_size=20, label_smoothing=0.2)
    rule = ns.DualPropagation(beta=1e-6, nudge="prediction")
    options: Any = {"rule": rule, "loss": "cross_entropy"}
    trainer = make(plan, schedule=ns.schedules.Sweep("backward"), **options)
    found = events(trainer, "epoch")
    other = ns.Model(ns.Network.from_dict(NETWORK), dtype=torch.float64)
    optimizer, batches = torch.optim.SGD(other.parameters(), lr=0.1), make(plan).batches
    for _ in range(6):
        x, labels = batches.next()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(other(x), labels, label_smoothing=0.2).backward()
        optimizer.step()
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-8, atol=1e-9)
    test = trainer.test  # whose labels are as they are
    output = other(test.take(slice(None))).detach()
    loss = torch.nn.functional.cross_entropy(output, test.labels)
    assert found[-1]["test_loss"] == pytest.approx(float(loss), rel=1e-6)


# ---- early stopping ------------------------------------------------------------------------------

NEVER = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("options", "scores", "epochs"),
    [
        ({"patience": 2}, NEVER, 6),
        ({"patience": 2}, [0.5, 0.4, 0.6, 0.6, 0.5, 0.9], 5),
        ({"patience": 1}, [0.5, 0.5, 0.6, 0.7, 0.8, 0.9], 2),
        ({"patience": 2, "min_delta": 0.15}, NEVER, 6),
        ({"patience": 1, "min_delta": 0.15}, NEVER, 2),
        ({"patience": 2, "monitor": "loss"}, NEVER, 3),
        ({"patience": 2, "monitor": "loss"}, NEVER[::-1], 6),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_early_stopping(
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    scores: list[float],
    epochs: int,
    resumed: bool,
) -> None:
    """It ends after that epoch, whose test accuracy is measured; the best epoch is put back."""
    stopping = EarlyStopping(**options)
    plan = TrainingPlan(6, batch_size=20, accuracy_every=6, early_stopping=stopping)

    def scripted(self: Evaluator, split: Split, **how: Any) -> Iterator[SoFar]:
        score = scores[trainer.epoch - 1]
        yield SoFar(len(split), score * len(split), score * len(split))

    monkeypatch.setattr(Evaluator, "batches", scripted)
    trainer, found = make(plan, validation=20), list[dict[str, Any]]()
    while not trainer.done:
        step = trainer.step
        for event in trainer.events(lambda: resumed and trainer.step > step):  # noqa: B023
            if isinstance(event, ns.EpochEvent):
                found.append(event.record())
        if resumed:
            state, trainer = trainer.state_dict(), make(plan, validation=20)
            trainer.load_state_dict(state)
    assert [event["epoch"] for event in found] == [*range(1, epochs + 1)]
    assert ["test_accuracy" in event for event in found] == [False] * (epochs - 1) + [True]
    assert trainer.stopped == (epochs < 6)
    best = max(range(epochs), key=lambda n: (scores[n], -n))
    assert trainer.best() == best + 1


def test_early_stopping_needs_validation() -> None:
    with pytest.raises(ConfigurationError, match="no samples are held out"):
        make(TrainingPlan(early_stopping=EarlyStopping()))
    with pytest.raises(
        DocumentError, match=r"training\.early_stopping: early .*; say training\.valid"
    ):
        Scenario.load(PARALLEL, ["training.early_stopping={patience: 3}"])


# ---- runs ----------------------------------------------------------------------------------------

EVERYTHING = [
    "data={name: digits, limit: 120, batch_size: 20}",
    "training={epochs: 6, validation: 20, early_stopping: {patience: 1, min_delta: 0.02}}",
    "training.ema=0.7",
    "training.label_smoothing=0.1",
    "plasticity.clip={norm: 0.5}",
    "plasticity.optimizer={kind: sgd, lr: 0.2, momentum: 0.9, nesterov: true, decoupled: true}",
    "plasticity.optimizer.weight_decay=0.01",
    "plasticity.optimizer.groups=[{parameters: '*.bias', weight_decay: 0.0}, "
    "{parameters: [output, h1.weight], lr: 0.1}]",
    "plasticity.learning_rate={kind: torch, name: StepLR, options: {step_size: 1, gamma: 0.8}}",
    "plasticity.learning_rate.warmup_epochs=1",
    "schedule.ticks=6",
]


def test_a_run_with_all_of_it_is_resumed(tmp_path: Path) -> None:
    scenario, console = Scenario.load(PARALLEL, EVERYTHING), Console(quiet=True)
    again = Scenario.of(ns.documents.loads(scenario.resolved(), ""))
    assert (again.file.plasticity, again.file.training) == (
        scenario.file.plasticity,
        scenario.file.training,
    )
    folder = runner.run(scenario, tmp_path, console, "one", [Stop(3)])
    for after in (7, 8):
        runner.resume(folder, console, [Stop(after)])
        assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    runner.resume(folder, console, [Stop(99)])
    whole = runner.run(scenario, tmp_path, console, "two")
    one, two = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for key in ("weights_sha256", "metrics_sha256", "test_accuracy", "epochs", "best_epoch"):
        assert one[key] == two[key]
    assert one["epochs"] < 6


def test_optimizers_and_rates_of_torch_in_a_sweep(tmp_path: Path) -> None:
    rates = "{kind: torch, name: ExponentialLR, options: {gamma: 0.5}},{kind: constant}"
    arguments = ["sweep", str(PARALLEL), "data.limit=100", "training.epochs=1", "--jobs", "0"]
    arguments += [f"plasticity.learning_rate={rates}", "--out", str(tmp_path), "--quiet"]
    arguments += ["plasticity.optimizer={kind: torch, name: NAdam},{kind: torch, name: Adagrad}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    found = list(tmp_path.rglob("summary.json"))
    assert len({json.loads(path.read_text())["weights_sha256"] for path in found}) == 2
    assert len(found) == 4


@pytest.mark.parametrize(
    ("override", "where", "said"),
    [
        ("optimizer.groups=[{parameters: h9, lr: 1}]", "optimizer.groups[0]", "'h9'; did you mean"),
        ("optimizer={kind: torch, name: LBFGS}", "optimizer.name", "LBFGS asks for the loss"),
        ("optimizer={kind: torch, name: Muon}", "optimizer", "Muon only supports 2D"),
        ("learning_rate={kind: torch, name: StepLR}", "learning_rate.options", "step_size"),
        ("clip={}", "clip", "clip by a norm, or by a value"),
    ],
)
def test_what_is_wrong_has_a_line(override: str, where: str, said: str) -> None:
    result = CliRunner().invoke(main, ["validate", str(PARALLEL), f"plasticity.{override}"])
    assert result.exit_code == 2
    assert f"plasticity.{where}" in result.stderr
    assert said in result.stderr
