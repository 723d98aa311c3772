"""Training on streams: sources, drift, scores by hand, scenarios, the same bits when resumed."""

from __future__ import annotations

import subprocess
import sys
import time
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged import wrong
from rich.console import Console
from small_simulations import DOUBLE, build, random
from torch import Tensor

import neurosim as ns
from neurosim.data import DataSource, Drift, Source, Split, Target, digits, drifting
from neurosim.data.standardization import Standard
from neurosim.dynamics import Counts
from neurosim.learning import StreamPlan, StreamTrainer
from neurosim.measures import Prequential, cross_correlation_lag
from neurosim.runs import run as runner
from neurosim.scenario import Scenario
from neurosim.schedules import Parallel

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios/stream_digits.yaml"
QUIET = Console(quiet=True)
SHORT = ["stream.horizon=96", "stream.window=3", "data.limit=60"]


def split(count: int = 12, classes: int = 3) -> Split:
    return Split(random(count, 3), torch.arange(count) * 5 % classes)


# ---- sources and drift ---------------------------------------------------------------------------


def test_data_in_time_are_shown_in_their_order(tmp_path: Path) -> None:
    """Of a hyperplane: at random it would not drift. So they are when limited and reshaped."""
    data = DataSource.of("hyperplane", length=40, inputs=4).read(tmp_path)
    for split in (data.train, data.limit(20).train, data.train.reshaped((2, 2))):
        shown = Source.of("samples").samples(split, 2, 5)(3).x
        assert torch.equal(shown, split.images[[3, 3 + len(split) // 2]])
    drawn = Source.of("samples", order="random").samples(data.train, 1, 5)
    shown = torch.cat([drawn(n).x for n in range(32)])
    assert not torch.equal(shown, data.train.images)
    assert sorted(shown.tolist()) == sorted(data.train.images.tolist())


@pytest.mark.parametrize("order", ["random", "given", "sorted", "split"])
def test_every_pass_shows_every_sample_once(order: str) -> None:
    source, data = Source.of("samples", order=order, tasks=2), split()
    samples, length = source.samples(data, 2, 5), source.length(data, 2)
    assert length == 6
    for first in (0, 6):
        shown = [samples(n) for n in range(first, first + 6)]
        seen = torch.cat([sample.x for sample in shown])
        assert sorted(seen.tolist()) == sorted(data.images.tolist())
    labels = torch.stack([samples(n).y for n in range(6)])  # type: ignore[misc]
    again = source.samples(data, 2, 5)
    assert all(torch.equal(samples(n).x, again(n).x) for n in (11, 3, 7))
    if order == "sorted":
        assert torch.equal(labels.flatten(), labels.flatten().sort().values)
    if order == "split":  # the classes 0 and 1 (of 3 in 2 tasks), and then the other
        assert set(labels[:4].flatten().tolist()) == {0, 1}
        assert set(labels[4:].flatten().tolist()) == {2}
    if order == "given":
        assert torch.equal(samples(2).x, data.images[[2, 8]])


def test_drift_changes_what_is_shown_from_its_time_on() -> None:
    data = digits().train.limit(40)
    plain = Source.of("samples").samples(data, 4, 0)
    drift = (Drift.of("permute", at=20.0), Drift.of("relabel", at=40.0, every=20.0))
    shown = drifting(plain, drift, 10.0, 3, 10)
    for number in range(8):
        before, after = plain(number), shown(number)
        assert torch.equal(before.x, after.x) == (number < 2)
        assert torch.equal(before.x.flatten(1).sort().values, after.x.flatten(1).sort().values)
        times = 0 if number < 4 else 1 + (number - 4) // 2
        assert before.y is not None
        assert after.y is not None
        assert torch.equal((before.y + times) % 10, after.y)
    turned = drifting(plain, (Drift.of("rotate", at=0.0, degrees=90.0),), 1.0, 0, 10)(0).x
    torch.testing.assert_close(turned, plain(0).x.rot90(1, (2, 3)), rtol=0, atol=1e-5)


# ---- scores --------------------------------------------------------------------------------------


def one_hot(classes: list[int]) -> Tensor:
    return torch.eye(3, dtype=torch.float64)[classes]


def test_the_scores_by_hand() -> None:
    scores, labels = Prequential(0.5, hold=4.0), [0, 0, 1, 2]
    for label, answers in zip(labels, ([0, 0], [1, 0], [1, 2], [2, 2]), strict=True):
        y = torch.tensor([label, label])
        scores.look(one_hot([2, answers[1]]), y, 1.0)
        scores.look(one_hot(answers), y, 2.0)
        scores.add(one_hot(answers), y)
    counts = Counts(wakes=16, mean_messages=6, difference_messages=2, synaptic_operations=24)
    found = scores.scores(counts, 12, leaks=False)
    assert found["cumulative_accuracy"] == 6 / 8
    faded = (1 + 0.5 * 0.5 + 0.25 * 0.5 + 0.125) / (1 + 0.5 + 0.25 + 0.125)
    assert found["faded_accuracy"] == faded
    assert found["last_label_accuracy"] == 2 / 8
    assert found["answered"] == 6 / 8
    assert found["time_to_first_right"] == (2 + 1 + 1 + 2 + 1 + 1) / 6
    assert found["time_to_stable"] == (2 + 1 + 2 + 1 + 2 + 1 + 1 + 1) / 8
    assert found["wakes_per_sample"] == 2
    assert found["messages_per_right"] == 8 / 6
    assert found["updates_per_right"] == 2
    scores.add(one_hot([0, 1]), torch.tensor([0, 1]))
    after = scores.scores(Counts(wakes=18), 12, leaks=False)
    assert (after["wakes_per_sample"], after["cumulative_accuracy"]) == (1, 8 / 10)
    assert after["updates_per_sample"] == 0


@pytest.mark.parametrize("key", ["_labels", "_first", "_stable", "_answer"])
def test_saved_scores_that_are_none(key: str) -> None:
    scores, y = Prequential(0.5, 4.0, 2), torch.tensor([0, 1])
    scores.add(torch.eye(2), y)
    scores.look(torch.eye(2), y, 1.0)
    saved, refused = scores.state_dict(), 0
    for other in wrong(saved[key]):
        try:
            scores.load_state_dict(saved | {key: other})
        except ns.StateError:
            refused += 1
        else:
            scores.look(torch.eye(2), y, 2.0)
            scores.add(torch.eye(2), y)
    assert refused
    for table in ("sums", "window", "before"):
        with pytest.raises((KeyError, ns.StateError)):
            scores.load_state_dict(saved | {table: {}})


def test_the_lag_of_a_series_by_cross_correlation() -> None:
    values = np.cumsum(np.random.default_rng(0).standard_normal(200))
    for lag in (0, 3, 20):
        late = np.concatenate([np.full(lag, values[0]), values])[:200]
        assert cross_correlation_lag(values, -2 * -late + 1) == lag
    assert cross_correlation_lag(values, np.zeros(200)) == 0


def test_adaptation_counts_the_time_to_be_as_accurate_again() -> None:
    scores = Prequential(0.5, hold=10.0)
    y, right, wrong = torch.tensor([0]), one_hot([0]), one_hot([1])
    for _ in range(20):
        scores.add(right, y)
    scores.drifts()
    for answer in [wrong] * 5 + [right] * 12:
        scores.add(answer, y)
    found = scores.scores(Counts(), 0, leaks=False)
    # 1 − 2⁻ⁿ⁺¹ or so is within a hundredth of 1 after the seventh right answer.
    assert found["adaptation_time"] == (5 + 7) * 10.0


# ---- a training ----------------------------------------------------------------------------------


LAYERS = [{"name": "a", "dense": 4}, {"name": "out", "dense": 3}]


def trainer(leak: bool = False, **options: Any) -> StreamTrainer:
    spec = {"input": 3, "activation": "tanh", "layers": LAYERS}
    model = ns.Model(ns.Network.from_dict(spec), **DOUBLE)
    simulation = build(Parallel(5), model, learn_every=5)
    source = Source.of("samples", hold=10.0)
    plan = StreamPlan(source, streams=2, window=3, leak=leak, **options)
    return StreamTrainer(plan, simulation, "sgd", split(), split(6), seed=1)


def test_a_step_is_a_sample_and_an_epoch_a_window() -> None:
    """With labels so late that one acts when the next answer is read: else nothing leaks."""
    late = Target(delay=7.0)
    found = trainer(leak=True, target=late)
    epochs = found.fit()
    assert [epoch["step"] for epoch in epochs] == [3, 6]
    assert found.totals["ticks"] == 60 == found.stream.tick
    assert found.totals["updates"] == found.stream.updates == 11 * 31  # the last is still due
    assert found.totals["wakes"] == found.stream.counts.wakes == 60 * 7
    assert all(0 < epoch["leak"] < 1 for epoch in epochs)
    for target in (Target(delay=7.0, present=0.0), Target()):
        assert [epoch["leak"] for epoch in trainer(leak=True, target=target).fit()] == [0.0, 0.0]


@pytest.mark.parametrize("ticks", [1, 4, 5, 17, 33])
def test_a_training_goes_on_from_any_tick(ticks: int) -> None:
    whole = trainer(leak=True)
    expected = whole.fit()
    first = trainer(leak=True)

    def interrupted() -> bool:
        return first.stream.tick >= ticks

    before = first.fit(interrupted=interrupted)
    assert not first.done
    second = trainer(leak=True)
    second.load_state_dict(first.state_dict())
    assert [*before, *second.fit()] == expected
    for key, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[key], value)


def test_what_is_learned_is_learned_after_the_test() -> None:
    """The accuracy of a stream whose labels say nothing is that of chance, however it learns."""
    network = ns.Network.from_dict({"input": 3, "layers": [{"name": "out", "dense": 2}]})
    simulation = build(Parallel(6), ns.Model(network, **DOUBLE), learn_every=1)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 400))
    data = Split(random(400, 3), labels)
    plan = StreamPlan(Source.of("samples", hold=6.0), window=400)
    optimizer = torch.optim.SGD(simulation.model.parameters(), 0.3)
    (epoch,) = StreamTrainer(plan, simulation, optimizer, data, data).fit()
    assert abs(epoch["cumulative_accuracy"] - 0.5) < 0.08


# ---- scenarios -----------------------------------------------------------------------------------


def test_a_scenario_runs_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole = ns.run(SCENARIO, SHORT, out=tmp_path, run_id="whole")
    assert whole.summary["status"] == "finished"
    assert [record["step"] for record in whole.records["epoch"]] == [3, 6]
    scenario = Scenario.load(SCENARIO, SHORT)
    data = scenario.data()
    first = scenario.trainer(data)
    first.fit(interrupted=lambda: first.simulation.tick >= 37)
    second = scenario.trainer(data)
    second.load_state_dict(first.state_dict())
    second.fit()
    final = whole.model().state_dict()
    assert all(torch.equal(final[k], v) for k, v in second.model.state_dict().items())
    assert "stream" in runner.scenario_of(whole.folder).resolved()
    assert "<h3>Prequential accuracy" in whole.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_stream_that_is_killed_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    overrides = ["stream.horizon=4800", "stream.window=20", "stream.streams=2"]
    whole = ns.run(SCENARIO, overrides, out=tmp_path, run_id="whole")
    command = [sys.executable, "-m", "neurosim", "run", str(SCENARIO), *overrides]
    command += ["--out", str(tmp_path), "--id", "killed"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        folder = whole.folder.parent / "killed"
        while not list(folder.glob("checkpoints/last.*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (folder / "summary.json").exists()
    again = ns.resume(folder)
    assert again.records["epoch"] == whole.records["epoch"]
    final = whole.model().state_dict()
    assert all(torch.equal(final[k], v) for k, v in again.model().state_dict().items())


REFUSED = {
    "training.epochs=3": "a stream is as long as its horizon says",
    "data.batch_size=5": r"say stream\.streams",
    "nudge_after=2": r"say stream\.target\.window",
    "plasticity.every=null": "say after how many ticks they do",
    "stream.target.window=[0.5,0.3]": "begins where it ends",
    "stream.source.hold=1": "hold longer, or move the window",
    "training.label_smoothing=0.1": "does not smooth",
    "data.augment=flip": "does not augment",
    "stream.target={delay: 3, replay: 1}": "by whole holds",
    "schedule={kind: sweep, order: [h1, h2]}": "never wakes the population 'output'",
    "init=feedforward": "",
    "plasticity.every=24": "",
    "plasticity.learning_rate={kind: cosine, warmup_epochs: 12}": "",
    "stream={episodes: true, leak: true}": "leave no leak to measure",
    "stream={episodes: true, target: {delay: 16}}": "leave the delay out",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_a_stream_has_not_is_refused(override: str) -> None:
    if not REFUSED[override]:
        Scenario.load(SCENARIO, [override])
        return
    with pytest.raises(ns.DocumentError, match=REFUSED[override]):
        Scenario.load(SCENARIO, [override])


def test_a_series_is_foretold(tmp_path: Path) -> None:
    """By a linear filter of eight taps, whose weights are learned on the way."""
    network = "{input: [8], layers: [{name: out, dense: 1}]}"
    data = "{name: mackey_glass, length: 400, taps: 8}"
    stream = "{source: {hold: 4}, window: 160}"
    overrides = [f"network={network}", f"data={data}", f"stream={stream}", "schedule.ticks=4"]
    overrides += ["plasticity={every: 4, optimizer: {kind: sgd, lr: 0.05}}"]
    found = ns.run(SCENARIO, overrides, out=tmp_path).records["epoch"]
    assert found[-1]["smape"] < found[0]["smape"] < 20
    assert found[-1]["lag"] <= 4
    assert "cumulative_accuracy" not in found[-1]


def test_a_learning_rate_ends_with_the_stream() -> None:
    """An epoch of it is a window, of which there are as many as the stream has."""
    rates = "plasticity.learning_rate={kind: cosine, warmup_epochs: 12, every: epoch}"
    short = [*SHORT, "stream={horizon: 512, window: 2}", rates, "probes=[]"]
    scenario = Scenario.load(SCENARIO, short)
    events = list(scenario.trainer(scenario.data()).events())
    found = [event.lr for event in events if isinstance(event, ns.StepEvent)]
    rising, falling = (n / 12 for n in range(12)), (0.5 + 0.5 * cos(pi * n / 4) for n in range(4))
    expected = [1e-3 * rate for rate in [*rising, *falling] for _ in range(2)]
    assert found == pytest.approx(expected, rel=1e-12)
    tests = [event.test_accuracy for event in events if isinstance(event, ns.EpochEvent)]
    assert len(tests) == 16
    assert tests[:-1] == [None] * 15  # nothing asks for more than the last


def test_a_rate_that_is_replayed_needs_an_end() -> None:
    rate = "plasticity.learning_rate={kind: torch, name: StepLR, options: {step_size: 2}}"
    with pytest.raises(ns.DocumentError, match=r"learning_rate: .* say a horizon"):
        Scenario.load(SCENARIO, [rate, "stream.horizon=forever"])
    Scenario.load(SCENARIO, [rate])


def test_what_is_foretold_is_of_the_averaged_weights() -> None:
    """Those that count after a training, see `Trainer.best`."""
    found = foretelling(torch.arange(1.0, 12.0, dtype=torch.float64), 5, rate=0.01, ema=0.9)
    said = found.fit()[-1]["foretold_smape"]
    assert found._foretold() != said  # of the weights that go on
    found.best()
    assert found._foretold() == said


# ---- a series foretold, and episodes -------------------------------------------------------------


def foretelling(
    values: Tensor,
    foretell: int,
    ahead: int = 1,
    rate: float = 0.0,
    ema: float | None = None,
    standard: Standard | None = None,
) -> StreamTrainer:
    """Of a linear network of two taps, which say the last value and half of its step, whatever the
    standard of what it sees."""
    network = ns.Network.from_dict({"input": 2, "layers": [{"name": "out", "dense": 1}]})
    model = ns.Model(network, **DOUBLE)
    end = len(values) - ahead - 1
    seen, view, mean, std = torch.stack([values[:end], values[1 : end + 1]], 1), None, 0.0, 1.0
    if standard is not None:
        seen, view, mean, std = seen.view(-1, 1, 2, 1), (2,), standard.mean, standard.std
    with torch.no_grad():
        model.state_dict()["out.weight"].copy_(std * torch.tensor([[-0.5, 1.5]]))
        model.state_dict()["out.bias"].fill_(mean)
    data = Split(seen, values[ahead + 1 :, None], standard, view)
    plan = StreamPlan(Source.of("samples", hold=4.0, order="given"), window=4, foretell=foretell)
    simulation = build(Parallel(4), model, learn_every=4)
    optimizer, training = torch.optim.SGD(model.parameters(), rate), ns.TrainingPlan(ema=ema)
    return StreamTrainer(plan, simulation, optimizer, data, data, training)


def test_a_series_is_foretold_by_its_own_answers() -> None:
    values = torch.arange(1.0, 12.0, dtype=torch.float64).square()
    found = foretelling(values, 5).fit()[-1]
    one, other, errors = 1.0, 4.0, []
    for y in values[2:7].tolist():
        one, other = other, other + (other - one) / 2
        errors.append(200 * abs(other - y) / (abs(other) + y))
    assert found["foretold_smape"] == pytest.approx(sum(errors) / 5, rel=1e-12)
    # What it answers is seen again as all values are, by their standard.
    found = foretelling(values, 5, standard=Standard(30.0, 8.0, 1)).fit()[-1]
    assert found["foretold_smape"] == pytest.approx(sum(errors) / 5, rel=1e-9)
    for lag, said in ((99, "the test has 9 samples"), (5, "go on with their targets")):
        with pytest.raises(ns.ConfigurationError, match=said):
            foretelling(values, lag, ahead=1 if lag == 99 else 2)
    with pytest.raises(ns.ConfigurationError, match="the targets are classes"):
        trainer(foretell=3)


EP = "rule={kind: equilibrium_propagation, variant: centered, beta: 0.25, free: 2}"
EPISODES = [*SHORT, EP, "stream.episodes=true", "plasticity.every=null", "schedule.ticks=5"]
EPISODES += ["training.evaluation=settled", "network.initialization=weak_uniform"]


def test_episodes_of_a_scenario_go_on_with_the_same_bits() -> None:
    """Equilibrium propagation takes 20 ticks, and holds of 16 bring six samples in 96."""
    scenario = Scenario.load(SCENARIO, EPISODES)
    data = scenario.data()
    whole, first, second = (scenario.trainer(data) for _ in range(3))
    expected = whole.fit()
    assert whole.simulation.inferences == 5  # at 0, 20, 40, 60 and 80
    assert whole.totals["ticks"] == whole.stream.tick == 96
    before = first.fit(interrupted=lambda: first.stream.tick >= 47)
    second.load_state_dict(first.state_dict())
    assert [*before, *second.fit()] == expected
    final = whole.model.state_dict()
    assert all(torch.equal(final[k], v) for k, v in second.model.state_dict().items())
