"""What a user sees of a run under way: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from neurosim.convergence import Record
from neurosim.data import Remote
from neurosim.learning import Event, Trainer
from neurosim.records import Results, Row, told

PLAIN_SECONDS = 10.0  # between plain lines within an epoch


class _Barred:
    """A context manager that shows a bar, where there is a terminal for one."""

    _bar: Progress | None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class Display(_Barred):
    """Shows a training: accuracy, loss, ticks per second, time left. Use as a context manager."""

    def __init__(self, console: Console, trainer: Trainer) -> None:
        self._console, self._trainer = console, trainer
        self._began = self._said = time.perf_counter()
        self._first_tick, self._first_step = trainer.totals["ticks"], trainer.step
        self._accuracy = "–"
        self._loss = "–"
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[news]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(
                "training", total=trainer.steps, completed=trainer.step, news=""
            )

    def event(self, event: Event) -> None:
        """Takes note of an event of the trainer."""
        if event["event"] == "trace":
            return
        if event["event"] == "evaluation":
            self._evaluation(event)
            return
        if event["event"] == "step":
            self._loss = f"{event['loss']:.4f}"
        elif event.get("test_accuracy") is not None:
            self._accuracy = f"{event['test_accuracy']:.2%}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._trainer.step, news=self._news())
            return
        now = time.perf_counter()
        if event["event"] == "epoch" or now - self._said >= PLAIN_SECONDS:
            self._said = now
            steps = f"step {self._trainer.step}/{self._trainer.steps}"
            epochs = f"epoch {event['epoch']}"
            line = f"{epochs}  {steps}  {self._news()}  {self._left(now)}"
            self._console.print(line, soft_wrap=True)

    def _evaluation(self, event: Event) -> None:
        told = f"evaluating  {event['split']} images {event['images']:,}/{event['of']:,}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._trainer.step, news=told)
        elif time.perf_counter() - self._said >= PLAIN_SECONDS:
            self._said = time.perf_counter()
            self._console.print(f"epoch {event['epoch']}  {told}", soft_wrap=True)

    def _news(self) -> str:
        ticks = self._trainer.totals["ticks"] - self._first_tick
        rate = ticks / max(1e-9, time.perf_counter() - self._began)
        return f"accuracy {self._accuracy}  loss {self._loss}  {rate:,.0f} ticks/s"

    def _left(self, now: float) -> str:
        done = max(1, self._trainer.step - self._first_step)
        left = (now - self._began) * (self._trainer.steps - self._trainer.step) / done
        return f"{now - self._began:.0f} s, {left:.0f} s left"


class SweepDisplay(_Barred):
    """Shows a sweep: how many runs have ended and failed, and those under way."""

    def __init__(self, console: Console, results: Results) -> None:
        self._console, self._results = console, results
        self._under_way: dict[str, None] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("runs"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                # What is left of the line: the bar stays whole however long the names are.
                TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task("", total=len(results.rows))

    def began(self, row: Row) -> None:
        """Takes note of a run that begins."""
        self._under_way[row.folder] = None
        self._update()

    def ended(self, row: Row) -> None:
        """Takes note of a run that has ended, as its summary says."""
        self._under_way.pop(row.folder, None)
        self._update()
        if self._bar is None or row.status == "failed":
            ended, _ = self._counts()
            why = f": {row.summary.get('error')}" if row.status == "failed" else ""
            line = f"{ended}/{len(self._results.rows)}  {row.status}  {row.folder}{why}"
            self._console.print(line, soft_wrap=True, markup=False)

    def _counts(self) -> tuple[int, int]:
        failed = self._results.count("failed")
        return self._results.count("finished") + failed, failed

    def _update(self) -> None:
        if self._bar is not None:
            ended, failed = self._counts()
            ids = (folder.rpartition("/")[2] for folder in self._under_way)
            names = ", ".join(name.rpartition("_")[0] for name in ids)  # without the digest
            told = f"{failed} failed  {names}" if failed else names
            self._bar.update(self._task, completed=ended, description=told)


class StudyDisplay(_Barred):
    """Shows a study: the search for the fixed point, then the inference. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.perf_counter()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[news]}"),
                TimeElapsedColumn(),
                console=console,
            )

    def __enter__(self) -> Self:
        super().__enter__()
        if self._bar is not None:
            self._task = self._bar.add_task("fixed point", total=None, news="")
        return self

    def sweep(self, sweep: int, residual: float) -> None:
        """After a sweep of the search for the fixed point."""
        self._show(f"fixed point  sweep {sweep}", sweep, None, f"residual {residual:.1e}")

    def reference(self, sweeps: int, residual: float, problem: str | None) -> None:
        """What the search came to."""
        found = f"residual {residual:.1e} after {sweeps} sweeps"
        self._console.print(f"fixed point  {problem or found}", soft_wrap=True)
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, description="inference", news="")

    def record(self, record: Record, last: int) -> None:
        """After a record of the inference, which ends at tick ``last``."""
        residual = max(record["residual_mean"], record["residual_difference"])
        tick = record["tick"]
        self._show(f"inference  tick {tick}/{last}", tick, last, f"residual {residual:.1e}")

    def _show(self, line: str, done: int, total: int | None, news: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, news=news)
            return
        now = time.perf_counter()
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            self._console.print(f"{line}  {news}", soft_wrap=True)


class DownloadDisplay(_Barred):
    """Shows what is downloaded from where, and how far it is. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.perf_counter()
        self._tasks: dict[Remote, TaskID] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=console,
            )

    def received(self, remote: Remote, done: int) -> None:
        """Takes note that so many bytes have arrived; 0 before the first."""
        if done == 0:
            line = f"downloading {remote.url} ({decimal(remote.size)})"
            self._console.print(line, soft_wrap=True, markup=False)
        if self._bar is not None:
            if remote not in self._tasks:
                self._tasks[remote] = self._bar.add_task(remote.name, total=remote.size)
            self._bar.update(self._tasks[remote], completed=done)
            return
        now = time.perf_counter()
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            so_far = f"{decimal(done)} of {decimal(remote.size)}"
            self._console.print(f"{remote.name}  {so_far}", soft_wrap=True, markup=False)


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Returns the last lines of a run: its status, its verdict, and what it found and cost."""
    lines = [("status", summary["status"])]
    if summary.get("verdict") is not None:
        lines.append(("verdict", f"{summary['verdict']}: {summary['reason']}"))
    return [f"{title:<14} {text}" for title, text in [*lines, *told(summary, "line")]]
