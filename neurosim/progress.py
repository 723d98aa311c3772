"""What a user sees of a run under way: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from neurosim.results import Results, Row
from neurosim.training import Event, Trainer

PLAIN_SECONDS = 10.0  # between plain lines within an epoch


class Display:
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

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def event(self, event: Event) -> None:
        """Takes note of an event of the trainer."""
        if event["event"] == "trace":
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

    def _news(self) -> str:
        ticks = self._trainer.totals["ticks"] - self._first_tick
        rate = ticks / max(1e-9, time.perf_counter() - self._began)
        return f"accuracy {self._accuracy}  loss {self._loss}  {rate:,.0f} ticks/s"

    def _left(self, now: float) -> str:
        done = max(1, self._trainer.step - self._first_step)
        left = (now - self._began) * (self._trainer.steps - self._trainer.step) / done
        return f"{now - self._began:.0f} s, {left:.0f} s left"


class SweepDisplay:
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
                TextColumn("{task.description}", markup=False),
                console=console,
            )
            self._task = self._bar.add_task("", total=len(results.rows))

    def __enter__(self) -> SweepDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

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
            names = ", ".join(folder.rpartition("/")[2] for folder in self._under_way)
            told = f"{failed} failed  {names}" if failed else names
            self._bar.update(self._task, completed=ended, description=told)


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The last lines of a run: accuracy, time, and what it cost."""
    accuracy = summary.get("test_accuracy")
    shown = "not measured" if accuracy is None else f"{accuracy:.2%}"
    return [
        f"status         {summary['status']}",
        f"test accuracy  {shown}",
        f"time           {summary['seconds']:.1f} s",
        f"simulated      {summary['ticks']:,.0f} ticks, {summary['wakes']:,.0f} wakes, "
        f"{summary['messages']:,.0f} messages",
    ]
