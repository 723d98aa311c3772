"""How far a long operation is, as somebody sees it who has called it from Python."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_trainings import make

import neurosim as ns
from neurosim.learning import display
from neurosim.learning.display import TrainingDisplay, Unasked, console_of
from neurosim.learning.plan import TrainingPlan
from neurosim.records import Results, Row
from neurosim.runs import SweepDisplay

PLAN = TrainingPlan(epochs=1, batch_size=10)
SHORT = ["training.max_steps=4", "data.limit=100"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_script_on_a_terminal_shows_bars(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    for call in (
        lambda **how: make(PLAN).fit(**how),
        lambda **how: ns.run(root / "scenarios/parallel.yaml", SHORT, **how),
        lambda **how: ns.sweep(root / "scenarios/parallel.yaml", {"seed": [1]}, SHORT, **how),
    ):
        monkeypatch.setattr(sys, "stderr", err := Terminal())
        call()
        assert re.search(r"(training|runs) .*━", err.getvalue())
        assert "run folder" not in err.getvalue()
        monkeypatch.setattr(sys, "stderr", err := Terminal())
        call(progress=False)
        assert err.getvalue() == ""


def test_what_is_short_says_nothing_in_a_pipe(
    capfd: pytest.CaptureFixture[str],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(PLAN).fit()
    ns.run(root / "scenarios/parallel.yaml", SHORT)
    assert capfd.readouterr() == ("", "")


def test_what_is_long_says_a_line_every_ten_seconds_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now, simulation = 0.0, Any
    monkeypatch.setattr("time.perf_counter", lambda: now)
    shown = TrainingDisplay(console_of(None))
    shown.on_start(ns.StartEvent(0, 0, 10, simulation))
    for step in range(1, 6):
        now += 4.0
        shown.on_step(ns.StepEvent(1, step, 0.25, 0.9, 0.1, 20, False))
        shown.on_epoch(ns.EpochEvent(1, step, 0.3, 0.9, {}))
    shown.on_end(ns.EndEvent(1, 5, "interrupted"))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch 1  step 3/10  accuracy –  loss 0.2500  5 ticks/s  12 s, 28 s left"
    ]


def test_a_sweep_says_in_a_pipe_every_ten_seconds_how_far_its_runs_are(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    rows = [Row(("0.1",), seed, f"parallel/beta-0.1_seed-{seed}_0123456789", "") for seed in (0, 1)]
    with SweepDisplay(console_of(True), Results("sweep", [("beta", [0.1])], rows, {})) as shown:
        shown.began(rows[0], "a")
        shown.began(rows[1], "b")
        for step in range(1, 6):
            now += 4.0
            for row in rows:
                shown.moved(row, (step, 9, f"epoch 1  step {step}/9"))
        rows[1].summary = {"status": "finished"}
        shown.ended(rows[1])
    words = "beta-0.1_seed-0 on worker a  epoch 1  step {}/9; beta-0.1_seed-1 on worker b  epoch 1"
    assert capfd.readouterr().out.splitlines() == [
        f"0/2  {words.format(3)}  step 2/9  12 s",
        f"1/2  finished  {rows[1].folder} on worker b  20 s",
    ]


def test_a_sweep_shows_a_bar_for_each_run_on_a_terminal() -> None:
    rows = [Row((), seed, f"parallel/seed-{seed}_0123456789", "") for seed in (0, 1)]
    console = Console(file=io.StringIO(), force_terminal=True)
    with SweepDisplay(console, Results("sweep", [], rows, {})) as shown:
        shown.began(rows[0], "a")
        shown.moved(rows[0], (4, 9, "epoch 1  step 4/9"))
        shown.began(rows[1], None)
        lines = lines_of(shown)
        assert re.search(r"^runs .* 0/2 ", lines[0])
        assert re.search(r"^run .* 4/9 .* seed-0 on worker a  epoch 1  step 4/9 *$", lines[1])
        assert re.search(r"^run .* 0/\? .* seed-1 *$", lines[2])
        shown.began(rows[0], "b")  # a was lost
        rows[1].summary = {"status": "failed"}
        shown.ended(rows[1])
        lines = lines_of(shown)
        assert re.search(r"^runs .* 1/2 .* 1 failed *$", lines[0])
        assert [line for line in lines if "seed-" in line] == lines[1:]
        assert re.search(r"^run .* 0/\? .* seed-0 on worker b *$", lines[1])


def lines_of(shown: SweepDisplay) -> list[str]:
    page = Console(file=io.StringIO(), width=120)
    with page.capture() as captured:
        page.print(shown._progress.get_renderable())
    return captured.get().splitlines()


def test_a_notebook_shows_bars_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Cell:
        def update(self, what: Any) -> None:
            shown.append(what)

    def show(what: Any, display_id: bool) -> Cell:
        assert display_id
        assert not shown
        shown.append(what)
        return Cell()

    pytest.importorskip("IPython")
    monkeypatch.setattr("IPython.display.display", show)
    monkeypatch.setattr(display, "NOTEBOOK_SECONDS", 0.0)
    console = Unasked(file=io.StringIO(), force_jupyter=True)
    make(PLAN).fit([TrainingDisplay(console)], progress=False)
    assert len(shown) > 2
    text = shown[-1]._repr_mimebundle_([], [])["text/html"]
    assert re.search(r"training .*━.*(\d+)/\1", text)


@pytest.mark.slow
def test_a_real_notebook(root: Path, tmp_path: Path) -> None:
    """A bar stays in the cell, with what it came to."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    scenario = str(root / "scenarios/parallel.yaml")
    call = f"import neurosim as ns; run = ns.run({scenario!r}, {SHORT!r}"
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(f"{call}{how})") for how in ("", ", progress=False")]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, resources=resources).execute()
    (shown,), nothing = (cell.outputs for cell in book.cells)
    assert nothing == []
    assert re.search(r"training .*━.*4/4", shown["data"]["text/html"])
