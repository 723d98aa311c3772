"""Tables of the papers: what they say, what is run, and what a reader gets to see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from shipped import SCENARIOS

from neurosim.base.errors import ConfigurationError, DocumentError
from neurosim.base.words import spread
from neurosim.cli.main import main
from neurosim.learning import How
from neurosim.records.sweep import Row
from neurosim.runs import sweep
from neurosim.tables.table import (
    TABLES,
    Choice,
    Table,
    chosen,
    measured,
    numbers_of,
    plan_table,
    table_named,
)

pytestmark = [pytest.mark.drawn, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scenarios"
TINY = ("training.max_steps=2", "data.limit=150")
EVERY = list(TABLES.values())
PARALLEL = "schedule={kind: parallel, ticks: 8}"
DELAYS = ("P-DP, delay 1", "P-DP, delay 4")


def quick(*overrides: str, epochs: int | None = 1, **more: Any) -> Choice:
    return Choice(quick=True, epochs=epochs, overrides=(*TINY, *overrides), **more)


def table(*arguments: str | Path, code: int = 0) -> Result:
    given = ["table", *map(str, arguments), "--scenarios", str(FOLDER), "--jobs", "0"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ---- what the tables say -----------------------------------------------------------------------


@pytest.mark.parametrize("found", EVERY, ids=lambda table: table.name)
def test_every_row_is_another_run_of_a_shipped_scenario(found: Table) -> None:
    assert {row.scenario for row in found.rows} <= {path.stem for path in SCENARIOS}
    assert len({row.values for row in found.rows}) == len(found.rows)
    assert {len(row.values) for row in found.rows} == {len(found.axes)}
    streams = found.name == "streams"  # as long as their horizon says
    planned = plan_table(found, FOLDER, quick(epochs=None if streams else 1))
    digests = [row.digest for row in planned.sweep.results.rows]
    assert len(set(digests)) == len(digests) == len(found.rows)


def test_the_published_figures() -> None:
    """DP23: test accuracy on MNIST."""
    published = {r.label: r.published for r in TABLES["mnist"].rows if r.published is not None}
    assert {label: (p.accuracy, p.std) for label, p in published.items()} == {
        "BP": (98.45, 0.04),
        "DP": (98.43, 0.03),
        "MS-DP": (98.40, 0.02),
        "L-DP": (98.42, 0.07),
        "P-DP": (98.47, 0.04),
        "R-DP-100": (98.48, 0.11),
    }
    assert {(p.seeds, p.epochs) for p in published.values()} == {(5, 100)}


def test_the_table_of_variants_is_complete() -> None:
    rows = {row.values for row in TABLES["alpha"].rows}
    alphas, betas = ("0", "0.25", "0.5", "0.75", "1"), ("0.01", "0.1", "1")
    variants = ("aro", "damped", "lagrangian")
    assert rows == {(a, b, v) for a in alphas for b in betas for v in variants}


def test_full_tables_fit_real_data(shared_data: Path) -> None:
    """All of MNIST, with the budget of the table: one learning rate for all rows."""
    root = f"data.root={json.dumps(str(shared_data))}"
    for name in ("mnist", "alpha"):
        planned = plan_table(TABLES[name], FOLDER, Choice(overrides=(root,)))
        assert len(planned.sweep.results.rows) == len(planned.rows) * TABLES[name].seeds
        rates = {re.search(r" lr: (\S+)", text)[1] for text, *_ in planned.sweep.runs}  # type: ignore[index]
        assert rates == {"0.0003"}
    assert planned.stem == "alpha"


# ---- what is run -------------------------------------------------------------------------------


def test_what_is_said_last_holds() -> None:
    found = table_named("mnist")
    row = next(row for row in found.rows if row.label == "R-DP-20")
    choice = Choice(epochs=7, overrides=("schedule.updates=30", "data.root=here"))
    assert choice.overrides_of(found, row) == (
        "name=mnist-r-dp-20",
        "plasticity.optimizer.lr=3e-4",
        "plasticity.learning_rate={kind: cosine}",
        "training.epochs=7",
        "schedule.updates=30",
        "data.root=here",
    )


def test_rows_by_name() -> None:
    systems = table_named("systems")
    assert chosen(systems, ()) == systems.rows
    found = [row.label for row in chosen(systems, ["DP, perceptron"])]
    assert found == ["BP, perceptron", "DP, perceptron"]  # what it is compared with
    assert {row.values[1] for row in chosen(systems, ["conv net"])} == {"conv net"}
    assert len(chosen(table_named("alpha"), ["aro"])) == 15


def test_streams_that_go_on_and_those_that_wait() -> None:
    planned = plan_table(table_named("streams"), FOLDER, quick("costs=loihi", epochs=None))
    waits = {row.values: "stream.episodes=true" in row.quick for row in planned.rows}
    assert len(waits) == 15
    assert all(("one by one" in system) == wait for (system, _), wait in waits.items())


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(only=("R-PD-100",)), "unknown row of table mnist 'R-PD-100'; did you mean 'R-DP-1"),
        (
            quick("data.limit=99,150", only=("DP",)),
            r"data\.limit: a table takes one value of a key",
        ),
        (
            quick("channels={}", PARALLEL, "nudge_after=4", "name=x", only=DELAYS),
            "the rows P-DP, delay 1 and P-DP, delay 4 would be the same runs",
        ),
    ],
)
def test_choices_that_do_not_fit(choice: Choice, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        plan_table(table_named("mnist"), FOLDER, choice)


def test_what_is_wrong_is_said_once() -> None:
    with pytest.raises(DocumentError) as caught:
        plan_table(table_named("alpha"), FOLDER, quick("rule.gamma=1"))
    (problem,) = caught.value.problems
    assert "unknown key 'gamma'" in problem.message
    assert problem.message.endswith("(row 0, 0.01, aro and 44 more)")


def test_errors_of_the_command(tmp_path: Path) -> None:
    assert "unknown table 'mnits'; did you mean 'mnist'?" in table("mnits", code=2).stderr
    nowhere = ["table", "mnist", "--scenarios", str(tmp_path / "no")]
    result = CliRunner().invoke(main, nowhere)
    assert (result.exit_code, "no such folder" in result.stderr) == (2, True)
    root = f"data.root={json.dumps(str(tmp_path))}"
    assert "neurosim download mnist" in table("mnist", root, code=2).stderr


def test_the_command_is_given_without_where_things_are() -> None:
    choice = Choice(True, 2, 3, ("DP", "10 %"), ("data.root=/home/me", "rule.beta=0.5"))
    wanted = "neurosim table mnist rule.beta=0.5 --quick --seeds 2 --epochs 3 --row DP --row '10 %'"
    assert choice.command("mnist") == wanted


# ---- numbers -----------------------------------------------------------------------------------


def test_numbers_of_a_run() -> None:
    summary: dict[str, Any] = {
        "status": "finished",
        "test_accuracy": 0.5,
        "steps": 10,
        "ticks": 40,
        "wakes": 200,
        "messages": 6000,
        "epoch_seconds": [1.0, 3.0, 13.0],
        "epoch_cpu_seconds": [0.5, 1.0, 3.5],
        "residual_mean": 0.1,
        "residual_difference": 0.3,
        "spectral_norms": {"h1": 2.0, "output": 5.0},
        "gradient_angle": None,
    }
    found = numbers_of([Row((), 0, "", "", summary)], 20)
    assert found["test_accuracy"] == (0.5,)
    assert "gradient_angle" not in found
    assert {key: value for key, (value,) in found.items() if key not in summary} == {
        "seconds_per_epoch": 2.0,  # the median of 1, 2 and 10
        "cpu_seconds_per_epoch": 0.5,
        "residual": 0.3,
        "largest_norm": 5.0,
        "ticks_per_step": 4.0,
        "wakes_per_step": 20.0,
        "messages_per_sample": 30.0,
    }


def summary_of(seed: int, accuracy: float | None, seconds: float) -> dict[str, Any]:
    if accuracy is None:
        return {"status": "failed", "diverged": True, "error": "no longer finite"}
    return {
        "status": "finished",
        "test_accuracy": accuracy + seed / 100,
        "epoch_cpu_seconds": [seconds],
    }


def test_rows_are_compared_with_their_baseline() -> None:
    planned = plan_table(table_named("systems"), FOLDER, quick(seeds=2, only=("DP",)))
    given = {
        "BP, perceptron": (0.9, 2.0),
        "DP, perceptron": (0.85, 3.0),
        "DP, conv net": (None, 0.0),
    }
    for row in planned.sweep.results.rows:
        accuracy, seconds = given.get(", ".join(row.values), (0.4, 5.0))
        row.summary = summary_of(row.seed, accuracy, seconds)
    found = {one.row.label: one for one in measured(planned)}
    assert found["DP, perceptron"].values["difference"] == (pytest.approx(-5.0),)
    assert found["DP, perceptron"].values["time_over_baseline"] == (1.5,)
    assert "difference" not in found["BP, perceptron"].values
    assert spread(found["DP, perceptron"].values["test_accuracy"]) == pytest.approx(
        (0.855, 0.5**0.5 / 100)
    )
    assert (found["DP, conv net"].values, found["DP, conv net"].state) == ({}, "0 of 2, 2 diverged")


# ---- the command, end to end -------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a tiny table of the systems, and what the command said."""
    folder = tmp_path_factory.mktemp("tables")
    values = ["systems", *TINY, "--quick", "--epochs", "1", "--out", folder]
    output = table(*values, "--results", folder / "results").output
    return folder, output


def test_the_table_on_the_terminal(made: tuple[Path, str]) -> None:
    _, output = made
    lines = [line for line in output.splitlines() if re.match(r"│ (BP|DP) ", line)]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [row[:3] for row in cells[:2]] == [["BP", "perceptron", "1"], ["BP", "conv net", "1"]]
    assert re.fullmatch(r"[+-]\d+\.\d\d", cells[2][4])
    assert "published" not in output  # a quick look is at other data
    assert "runs           16: 16 finished, 0 failed" in output


def test_the_files_of_a_table(made: tuple[Path, str]) -> None:
    folder, _ = made
    names = sorted(path.name for path in (folder / "results").iterdir())
    assert "systems-quick.json" in names
    assert "systems-quick-test-accuracy-perceptron.svg" in names
    text = (folder / "results/systems-quick.md").read_text(encoding="utf-8")
    assert "$ neurosim table systems" in text
    assert "published*" not in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures
    assert set(pictures) == {name for name in names if name.endswith(".svg")}
    for name in pictures:
        ElementTree.parse(folder / "results" / name)
    report = folder / "table-systems-quick/report.html"
    assert "Learning systems" in text
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_json_of_a_table(made: tuple[Path, str]) -> None:
    folder, _ = made
    found = json.loads((folder / "results/systems-quick.json").read_text())
    assert (found["table"], found["quick"], found["baseline"]) == ("systems", True, "BP")
    (machine,) = found["machines"]
    assert machine["threads"] == 1
    row = next(r for r in found["rows"] if (r["system"], r["network"]) == ("DP", "perceptron"))
    (run,) = row["runs"]
    assert row["numbers"]["test_accuracy"]["mean"] == run["test_accuracy"]
    summary = json.loads(
        (folder / "table-systems-quick" / run["folder"] / "summary.json").read_text()
    )
    assert summary["weights_sha256"] == run["weights_sha256"]
    assert summary["peak_memory_bytes"] is None or summary["peak_memory_bytes"] > 10**6
    assert run["epoch_cpu_seconds"] == summary["epoch_cpu_seconds"]
    assert str(folder) not in json.dumps(found)


def test_it_runs_nothing_twice(made: tuple[Path, str]) -> None:
    folder, first = made
    runs = sorted((folder / "table-systems-quick").glob("*/*/summary.json"))
    before = [path.stat().st_mtime_ns for path in runs]
    assert len(before) == 16
    values = ["systems", *TINY, "--quick", "--epochs", "1", "--out", folder]
    again = table(*values, "--results", folder / "results", "--quiet").output
    assert [path.stat().st_mtime_ns for path in runs] == before
    marks = [line for line in first.splitlines() if line.startswith("│")]
    assert [line for line in again.splitlines() if line.startswith("│")] == marks


class Nobody:
    def began(self, row: Row, worker: str | None) -> None: ...

    def moved(self, row: Row, how: How) -> None: ...

    def ended(self, row: Row) -> None: ...


def test_an_interrupted_table_goes_on(tmp_path: Path) -> None:
    choice = quick(only=("DP",))
    planned = plan_table(table_named("mnist"), FOLDER, choice)
    folder = tmp_path / "table-mnist-quick"
    asked = iter([False, True])
    sweep.run(planned.sweep, folder, Nobody(), stop=lambda: next(asked, True))
    assert [one.state for one in measured(planned)] == ["1", "0 of 1, 1 not run"]
    (done,) = folder.glob("*/*/summary.json")
    before = done.stat().st_mtime_ns
    values = ["mnist", *TINY, "--quick", "--epochs", "1", "--row", "DP", "--out", tmp_path]
    output = table(*values, "--seeds", "2").output
    assert "runs           4: 4 finished" in output
    assert done.stat().st_mtime_ns == before
    assert "98.43" not in output  # published of other data; the file names it
    row = json.loads((folder / "mnist-quick.json").read_text())["rows"][1]
    assert (row["system"], row["published"]["accuracy"]) == ("DP", 98.43)
    values = [run["test_accuracy"] for run in row["runs"]]
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    assert row["numbers"]["test_accuracy"]["mean"] == pytest.approx(sum(values) / 2)


def test_what_diverges_is_a_result(tmp_path: Path) -> None:
    values = ["alpha", *TINY, "--quick", "--epochs", "1", "--row", "aro", "--out", tmp_path]
    more = ["plasticity.optimizer={kind: sgd, lr: 1.0e+20}", "--quiet"]
    output = table(*values, *more).output
    assert output.count("0 of 1, 1 diverged") == 15
    found = json.loads((tmp_path / "table-alpha-quick/alpha-quick.json").read_text())
    (run,) = found["rows"][0]["runs"]
    assert (run["status"], run["diverged"]) == ("failed", True)
    assert "no longer finite" in run["error"]
    assert "0 of 1, 1 diverged" in (tmp_path / "table-alpha-quick/alpha-quick.md").read_text()


def test_what_fails_otherwise_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "carry_out", lambda task, tell: "the disk is full")
    values = ["mnist", *TINY, "--quick", "--row", "DP", "--out", tmp_path, "--quiet"]
    assert table(*values, code=1).output.count("0 of 1, 1 failed") == 2
