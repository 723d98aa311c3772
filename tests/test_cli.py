"""The command line: help, what each command prints, exit codes, and what a pipe sees of a run."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from shipped import DIGITS, SCENARIOS

import neurosim as ns
from neurosim.base.words import duration
from neurosim.cli.main import main
from neurosim.documents import load
from neurosim.learning.display import TrainingDisplay
from neurosim.runs.listeners.display import summary_lines
from neurosim.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
NETWORKS = sorted((ROOT / "networks").glob("*.yaml"))
COMMANDS = (
    *("run", "converge", "resume", "sweep", "table", "validate", "download", "schema", "networks"),
    *("report", "compare", "figures", "bench", "check", "examples", "doctor", "completion"),
)
SHORT = ["training.max_steps=2", "data.limit=100", "probes=[accuracy, loss]"]


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def name_of(path: Path) -> str:
    return path.stem


# ---- help --------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    assert set(main.commands) == set(COMMANDS)
    for option in ("--help", "-h"):
        output = invoke(option).stdout
        for command in COMMANDS:
            assert re.search(rf"^  {command} ", output, re.M)
        assert "neurosim run scenarios/random_order.yaml" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    output = invoke(command, "--help").stdout
    assert output.startswith(f"Usage: main {command} ")
    assert invoke(command, "-h").stdout == output
    # Every option says what it does, with an example that is one.
    group = main.commands[command]
    for option in (part for part in group.params if isinstance(part, click.Option)):
        text, _, example = str(option.help).partition(" Example: ")
        assert text.endswith("."), option.name
        words = shlex.split(example.removeprefix(f"neurosim {command} "))
        given, *_ = group.make_parser(click.Context(group)).parse_args(words)
        assert option.name in given


def test_version() -> None:
    assert invoke("--version").stdout == f"neurosim, version {ns.__version__}\n"


def test_no_command_shows_the_help() -> None:
    assert "Commands:" in invoke(code=2).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate"], "No such command 'simulate'"),
        (["run"], "Missing argument 'FILE'"),
        (["validate"], "Missing argument 'FILE'"),
        (["resume"], "Missing argument 'FOLDER'"),
        (["run", "x.yaml", "--quick"], "No such option"),
        (["run", "x.yaml", "--epochs", "2"], "KEY=VALUE: training.epochs=VALUE."),
        (["run", "x.yaml", "--rule.beta=2"], "KEY=VALUE: rule.beta=VALUE."),
        (["run", "x.yaml", "--set", "seed=2"], "KEY=VALUE, without an option: seed=2."),
        (["run", "x.yaml", "--set=seed=2"], "KEY=VALUE, without an option: seed=2."),
        (["schema", "extra"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    result = invoke(*arguments, code=2)
    assert said in result.stderr
    assert "--help" in result.stderr


def test_help_is_instant() -> None:
    """Nothing heavy is imported before it is needed."""
    code = "import sys, neurosim.cli; print(sorted({'torch', 'numpy', 'rich'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


# ---- validate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DIGITS, ids=name_of)
def test_validate_says_what_it_found(path: Path) -> None:
    scenario = Scenario.load(path)
    line = (
        rf"{path}: valid; {len(scenario.network.populations)} populations, "
        rf"{scenario.network.dyads} dyads, schedule {scenario.file.schedule.kind}" + "\n"
    )
    assert invoke("validate", path).stdout == line


def test_validate_takes_overrides() -> None:
    path = ROOT / "scenarios/sweep.yaml"
    network = "network={input: 64, layers: [{dense: 5}, {dense: 10}]}"
    output = invoke("validate", path, network, "schedule={kind: lazy, duration: 4}").stdout
    assert output.endswith(": valid; 3 populations, 15 dyads, schedule lazy\n")


def test_an_error_has_no_traceback_and_nothing_on_stdout() -> None:
    result = invoke("validate", ROOT / "networks/digits_mlp.yaml", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {ROOT}/networks/digits_mlp.yaml:")


# ---- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Cannot allocate memory (os error 12)", ""])
def test_no_memory_is_an_error_in_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise MemoryError(text)

    monkeypatch.setattr(Scenario, "load", load)
    result = invoke("validate", DIGITS[0], code=2)
    assert "error: there is not enough memory for this command" in result.output


@pytest.mark.parametrize("path", NETWORKS + SCENARIOS, ids=name_of)
def test_networks_shows_a_network(path: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "drawing.svg"
    output = invoke("networks", path, "--drawing", drawing).stdout
    network = Scenario.load(path).network if path in SCENARIOS else ns.Network.from_yaml(path)
    model = ns.Model(network, device="meta")
    total = sum(parameter.numel() for parameter in model.parameters())
    assert f"{network.dyads:,} dyads, {total:,} parameters" in output
    for population in network.populations:
        assert re.search(rf"\b{population.name}\b", output)
    assert f"depth {network.depth}" in output
    assert output.rstrip().endswith(f"drawing: {drawing}")
    svg = drawing.read_text()
    assert svg.startswith(("<svg", "<?xml"))
    for population in network.populations:
        assert population.name in svg


def test_networks_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "parameters" in invoke("networks", NETWORKS[0]).stdout


def test_networks_with_a_cycle(tmp_path: Path) -> None:
    text = (ROOT / "networks/digits_skip.yaml").read_text()
    (tmp_path / "n.yaml").write_text(text + "  - {from: h2, to: h1, name: back}\n")
    assert (
        "has a cycle"
        in invoke("networks", tmp_path / "n.yaml", "--drawing", tmp_path / "n.svg").stdout
    )


def test_a_drawing_that_cannot_be_written(tmp_path: Path) -> None:
    result = invoke("networks", NETWORKS[0], "--drawing", tmp_path / "no" / "x.svg", code=2)
    assert result.stderr.startswith("error: ")
    assert str(tmp_path / "no") in result.stderr
    assert "No such file or directory" in result.stderr


# ---- run ---------------------------------------------------------------------------------------


def test_overrides_are_in_what_was_run(tmp_path: Path) -> None:
    path = ROOT / "scenarios/random_order.yaml"
    more = [
        "training.epochs=1",
        "seed=3",
        "schedule.groups=4",
        "schedule.passes=1",
        "probes[0]=loss",
    ]
    invoke("run", path, *SHORT[:2], *more, "--out", tmp_path, "--id", "x")
    found = load(tmp_path / "random_order/x/scenario.yaml").value
    assert found["training"]["epochs"] == 1
    assert found["seed"] == 3
    assert (found["schedule"]["groups"], found["schedule"]["passes"]) == (4, 1)
    kinds = [probe["kind"] for probe in found["probes"][:2]]
    assert kinds == ["loss", "gradient_angle"]
    assert found["network"] == load(ROOT / "networks/digits_mlp.yaml").value


def test_paths_of_overrides_are_relative_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("{input: 64, layers: [{dense: 7}, {dense: 10}]}")
    path = ROOT / "scenarios/sweep.yaml"
    assert "17 dyads" in invoke("validate", path, "network=mine.yaml").stdout


def test_overrides_reach_into_the_network_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("{input: 64, layers: [{dense: 7}, {dense: 10}]}")
    path = ROOT / "scenarios/parallel.yaml"
    changes = ["network.layers[0].dense=30", "network.activation=tanh"]
    invoke("run", path, *SHORT, *changes, "--out", tmp_path, "--id", "x", "--quiet")
    found = load(tmp_path / "parallel/x/scenario.yaml").value["network"]
    wanted = load(ROOT / "networks/digits_mlp.yaml").value
    wanted["layers"][0]["dense"], wanted["activation"] = 30, "tanh"
    assert found == wanted
    said = invoke("validate", path, "network=mine.yaml", "network.layers.0.dense=12").stdout
    assert "22 dyads" in said
    said = invoke("validate", path, "network=yours.yaml", "network.a=1", code=2).stderr
    assert "<command line>:1:1: network: 'yours.yaml': no such file" in said
    said = invoke("validate", path, "network.activation=relo", code=2).stderr
    assert "<command line>:1:1: network.activation: expected 'elu', 'gelu', 'hard_sigmoid'" in said


def test_folders_by_time_do_not_collide(tmp_path: Path) -> None:
    path = ROOT / "scenarios/parallel.yaml"
    for _ in range(2):
        invoke("run", path, *SHORT, "--out", tmp_path, "--quiet")
    names = sorted(folder.name for folder in (tmp_path / "parallel").iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"[0-9]{8}-[0-9]{6}(-[0-9]+)?", name) for name in names)


def test_the_summary_of_a_run(tmp_path: Path) -> None:
    path = ROOT / "scenarios/parallel.yaml"
    output = invoke("run", path, *SHORT, "--out", tmp_path, "--id", "x", "--quiet").stdout
    folder = tmp_path / "parallel/x"
    summary = json.loads((folder / "summary.json").read_text())
    assert output.splitlines() == [
        "status         finished",
        f"test accuracy  {100 * summary['test_accuracy']:.2f} %",
        f"duration       {duration(summary['seconds'])}",
        f"ticks          {summary['ticks']}",
        f"wakes          {summary['wakes']:,}",
        f"messages       {summary['messages']:,}",
        f"report         {folder / 'report.html'}",
    ]


def test_the_time_left_after_resuming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the ten steps that were left take ten seconds, so the last six take thirty."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    out, simulation = io.StringIO(), Any
    display = TrainingDisplay(Console(file=out, width=200))
    display.on_start(ns.StartEvent(5, 90, 100, simulation))
    for step in (92, 94):
        now += 10.0
        display.on_step(ns.StepEvent(5, step, 0.25, 0.9, 0.1, 20, False))
    now += 5.0
    display.on_epoch(ns.EpochEvent(5, 94, 0.3, 0.9, {}, test_accuracy=0.5))
    display.on_end(ns.EndEvent(5, 94, "interrupted"))
    assert out.getvalue().splitlines() == [
        "epoch 5  step 92/100  accuracy –  loss 0.2500  2 ticks/s  10 s",
        "epoch 5  step 94/100  accuracy –  loss 0.2500  2 ticks/s  20 s, 30 s left",
        "epoch 5  step 94/100  accuracy 50.00%  loss 0.2500  2 ticks/s  25 s, 30 s left",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_evaluation_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    display, simulation = TrainingDisplay(console), Any
    with console.capture() as capture:
        display.on_start(ns.StartEvent(2, 5, 10, simulation))
        for done in (500, 1500, 2000):
            now += 9.0
            display.on_evaluation(ns.EvaluationEvent(2, 5, "test", done, 10_000))
        display.on_end(ns.EndEvent(2, 5, "interrupted"))
    told = capture.get()
    if terminal:
        assert re.search(r"evaluating  test samples .* 2000/10000\b", told)
    else:
        assert told == "epoch 2  evaluating  test samples 1,500/10,000  9 s, 77 s left\n"


def test_a_bar_of_a_training() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    display, simulation = TrainingDisplay(console), Any
    with console.capture() as capture:
        display.on_start(ns.StartEvent(0, 0, 10, simulation))
        display.on_step(ns.StepEvent(1, 1, 0.25, 0.9, 0.1, 20, True))
        display.on_epoch(ns.EpochEvent(1, 1, 0.25, 0.9, {}, test_accuracy=0.5))
        display.on_end(ns.EndEvent(1, 1, "finished"))
        with display.evaluating("evaluating the best epoch") as watch:
            watch(5, 7)
    told = capture.get()
    assert "accuracy 50.00%  loss 0.2500" in told
    assert " 1/10" in told
    assert re.search(r"evaluating the best epoch .*5/7", told)


@pytest.fixture
def diverging(tmp_path: Path) -> list[str]:
    return [str(ROOT / "scenarios/parallel.yaml"), *SHORT, "--out", str(tmp_path), "--id", "x"]


@pytest.mark.parametrize(
    "override",
    [
        "plasticity.optimizer={kind: sgd, lr: 1.0e+20}",
        "rule={kind: dual_propagation, beta: 1.0e+30}",
    ],
)
@pytest.mark.parametrize("variant", ["aro", "damped"])
def test_divergence_is_an_error_and_leaves_a_valid_folder(
    diverging: list[str], tmp_path: Path, override: str, variant: str
) -> None:
    more = [override, f"rule.variant={variant}", "rule.alpha=0.2", "training.max_steps=4"]
    result = invoke("run", *diverging, *more, code=1)
    assert re.fullmatch(r"error: population '\w+' is no longer finite at tick .*\n", result.stderr)
    summary = json.loads((tmp_path / "parallel/x/summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["error"] in result.stderr
    assert (tmp_path / "parallel/x/report.html").is_file()
    for line in (tmp_path / "parallel/x/metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert invoke("resume", tmp_path / "parallel/x", code=2).stderr.startswith("error: ")


def test_best_epoch_by_validation(tmp_path: Path) -> None:
    path = ROOT / "scenarios/parallel.yaml"
    more = ["training={epochs: 3, validation: 100}", "data.limit=300", "probes=[accuracy]"]
    invoke("run", path, *more, "--out", tmp_path, "--id", "x")
    folder = tmp_path / "parallel/x"
    summary = json.loads((folder / "summary.json").read_text())
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    best = max(epochs, key=lambda event: event["validation_accuracy"])
    assert summary["best_epoch"] == best["epoch"]
    for key in ("test_accuracy", "test_loss"):
        assert summary[key] == best[key]


# ---- report ------------------------------------------------------------------------------------


def test_report_of_a_folder_that_is_damaged(tmp_path: Path) -> None:
    """The report says what is missing; it is what one looks at when something went wrong."""
    path = ROOT / "scenarios/parallel.yaml"
    invoke("run", path, *SHORT, "--out", tmp_path, "--id", "x")
    folder = tmp_path / "parallel/x"
    for name in ("summary.json", "scenario.yaml", "environment.json"):
        (folder / name).write_bytes(b"\xff not what it was")
        invoke("report", folder)
        (folder / name).unlink()
        invoke("report", folder)
    (folder / "metrics.jsonl").unlink()
    assert "is not a run folder" in invoke("report", folder, code=2).stderr


@pytest.mark.parametrize("command", ["report", "resume"])
def test_folders_that_are_none(command: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", ROOT / "README.md"):
        result = invoke(command, folder, code=2)
        assert result.stderr.startswith("error: ")
        assert str(folder) in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_numbers_stand_below_each_other() -> None:
    scores = {"test_accuracy": 0.5, "test_f1_macro": 0.25}
    first, *others = summary_lines({"status": "finished", **scores})
    assert {line.index(line.split()[-1]) for line in others[1:]} == {first.index("finished")}
