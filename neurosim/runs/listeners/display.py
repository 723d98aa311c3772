"""What a user sees of a long operation: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from typing import Any, Self

from rich import progress as bars
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column

from neurosim.base import harmless
from neurosim.data import Remote
from neurosim.learning import Listener, events
from neurosim.records import Results, Row, told

PLAIN_SECONDS = 10.0  # between plain lines
SPEED_SECONDS = 600.0  # over which the speed is measured that says how much time is left


class Display:
    """Shows how far an operation is, in one bar or several. Use as a context manager.

    ``amount`` are the columns that say how much is done.
    """

    def __init__(self, console: Console, amount: Sequence[bars.ProgressColumn] = ()) -> None:
        self._console, self._said = console, time.perf_counter()
        # What is left of the line is for the news: the bar stays whole however long they are.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._progress = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=16),
            *(amount or (bars.MofNCompleteColumn(),)),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[news]}", markup=False, table_column=rest),
            console=console,
            disable=not console.is_terminal,
            expand=True,
            get_time=time.perf_counter,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._tasks: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def begin(self, what: str, done: int, total: int | None) -> None:
        """Adds the bar of an operation of which some is ``done`` already."""
        self._tasks[what] = self._progress.add_task(what, completed=done, total=total, news="")

    def show(
        self, what: str, done: int, total: int | None, line: str, news: str, due: bool = False
    ) -> None:
        """Moves the bar of an operation on, or says ``line``, ``news`` and the time left where
        there is no terminal, if it is ``due`` or the last line was long enough ago. An empty
        ``line`` says nothing."""
        if what not in self._tasks:
            self.begin(what, 0, total)
        news = harmless(news, 200)
        self._progress.update(self._tasks[what], completed=done, total=total, news=news)
        now = time.perf_counter()
        if self._progress.disable and line and (due or now - self._said >= PLAIN_SECONDS):
            self._said = now
            self.say("  ".join(part for part in (line, news, self._times(what)) if part))

    def end(self, what: str) -> None:
        """Takes the bar of an operation away, if it has one."""
        if what in self._tasks:
            self._progress.remove_task(self._tasks.pop(what))

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self._console.print(harmless(line), soft_wrap=True, markup=False)

    def _times(self, what: str) -> str:
        """The time that an operation has taken, and how much is left as far as that is known."""
        task = next(task for task in self._progress.tasks if task.id == self._tasks[what])
        left = task.time_remaining
        return f"{task.elapsed or 0.0:.0f} s" + ("" if left is None else f", {left:.0f} s left")


class TrainingDisplay(Display, Listener):
    """Shows a training: accuracy, loss, ticks per second, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._accuracy = self._loss = "–"

    def on_start(self, event: events.StartEvent) -> None:
        self._steps, self._ticks, self._began = event.steps, 0, time.perf_counter()
        self._progress.start()
        self.begin("training", event.step, event.steps)

    def on_step(self, event: events.StepEvent) -> None:
        self._loss = f"{event.loss:.4f}"
        self._ticks += event.ticks
        self._move(event)

    def on_evaluation(self, event: events.EvaluationEvent) -> None:
        what = f"evaluating  {event.split} samples"
        line = f"epoch {event.epoch}  {what} {event.images:,}/{event.total:,}"
        self.show(what, event.images, event.total, line, "")
        if event.images == event.total:
            self.end(what)

    def on_epoch(self, event: events.EpochEvent) -> None:
        if event.test_accuracy is not None and not isnan(event.test_accuracy):
            self._accuracy = f"{event.test_accuracy:.2%}"
        self._move(event, due=True)

    def on_end(self, event: events.EndEvent) -> None:
        del event
        self._progress.stop()

    def _move(self, event: events.TrainingEvent, due: bool = False) -> None:
        rate = self._ticks / max(1e-9, time.perf_counter() - self._began)
        news = f"accuracy {self._accuracy}  loss {self._loss}  {rate:,.0f} ticks/s"
        line = f"epoch {event.epoch}  step {event.step}/{self._steps}"
        self.show("training", event.step, self._steps, line, news, due)

    @contextmanager
    def evaluating(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Shows an evaluation after the training, which calls what this yields."""
        self.end("training")
        with self:
            yield lambda done, total: self.show(
                what, done, total, f"{what}  {done:,}/{total:,}", ""
            )
        self.end(what)


class SweepDisplay(Display):
    """Shows a sweep: how many runs have ended and failed, and those under way."""

    def __init__(self, console: Console, results: Results) -> None:
        super().__init__(console)
        self._results = results
        self._under_way: dict[str, str | None] = {}  # by which worker, where that is known
        self.begin("runs", 0, len(results.rows))

    def began(self, row: Row, worker: str | None = None) -> None:
        """Takes note of a run that begins, or goes on with another ``worker``."""
        self._under_way[row.folder] = worker
        self._move("")

    def ended(self, row: Row) -> None:
        """Takes note of a run that has ended, as its summary says."""
        worker = self._under_way.pop(row.folder, None)
        error = row.summary.get("error")
        why = f": {error}" if error or row.status == "failed" else ""
        by = f"  on worker {worker}" if worker else ""
        line = f"{row.status}  {row.folder}{by}{why}"
        self._move(line)
        if why and not self._progress.disable:
            self.say(line)

    def _move(self, line: str) -> None:
        failed, total = self._results.count("failed"), len(self._results.rows)
        ended = self._results.count("finished") + failed
        names = ", ".join(
            folder.rpartition("/")[2].rpartition("_")[0]
            + (f" on worker {worker}" if worker else "")
            for folder, worker in self._under_way.items()  # without the digest
        )
        shown = "" if self._progress.disable else f"{failed} failed  {names}" if failed else names
        self.show("runs", ended, total, line and f"{ended}/{total}  {line}", shown, due=True)


class StudyDisplay(Display):
    """Shows a study: the search for the fixed point, then the inference."""

    def sweep(self, sweep: int, residual: float) -> None:
        """Takes note of a sweep of the search for the fixed point."""
        news = f"residual {residual:.1e}"
        self.show("fixed point", sweep, None, f"fixed point  sweep {sweep}", news)

    def reference(self, sweeps: int, residual: float, problem: str | None) -> None:
        """Says what the search came to."""
        found = f"residual {residual:.1e} after {sweeps} sweeps"
        self.say(f"fixed point  {problem or found}")
        self.end("fixed point")

    def record(self, record: dict[str, Any], last: int) -> None:
        """Takes note of a record of the inference, which ends at tick ``last``."""
        residual = max(record["residual_mean"], record["residual_difference"])
        tick, news = record["tick"], f"residual {residual:.1e}"
        self.show("inference", tick, last, f"inference  tick {tick}/{last}", news)


class DownloadDisplay(Display):
    """Shows what is downloaded from where, and how far it is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, (bars.DownloadColumn(), bars.TransferSpeedColumn()))

    def received(self, remote: Remote, done: int) -> None:
        """Takes note that so many bytes have arrived; 0 before the first."""
        if done == 0:
            self.say(f"downloading {remote.url} ({decimal(remote.size)})")
        line = f"{remote.name}  {decimal(done)} of {decimal(remote.size)}"
        self.show(remote.name, done, remote.size, line, "")


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Returns the last lines of a run: its status, its verdict, and what it found and cost."""
    lines = [("status", summary["status"])]
    if summary.get("verdict") is not None:
        lines.append(("verdict", f"{summary['verdict']}: {summary['reason']}"))
    lines += told(summary, "line")
    return [f"{title:<14} {harmless(str(text))}" for title, text in lines]
