"""What a user sees of a long operation: bars on a terminal and in a notebook, else plain lines.

Whoever starts one from Python sees them unasked, on stderr, and switches them off by
``progress=False``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from typing import Any, Self

from rich import progress as bars
from rich.console import Console
from rich.table import Column

from neurosim.base import harmless
from neurosim.families import check
from neurosim.learning import events
from neurosim.learning.events import FOREVER, Listener

PLAIN_SECONDS = 10.0  # between plain lines
NOTEBOOK_SECONDS = 0.2  # between pictures of a bar in a notebook
SPEED_SECONDS = 600.0  # over which the speed is measured that says how much time is left
RELAY_SECONDS = 2.0  # between two things that a relay is told

How = tuple[int, int | None, str]  # how far: so many (steps, say), of so many, and in words


class Unasked(Console):
    """A console for what nobody has asked to see: bars, and a plain line where it takes long."""


class Relay(Console):
    """A console that shows nothing and ``tell``s somebody else now and then how far it is."""

    def __init__(self, tell: Callable[[How], None]) -> None:
        super().__init__(quiet=True, force_terminal=False)
        self.tell = tell


Progress = bool | Console | None


def console_of(progress: Progress) -> Console:
    """Returns where progress is shown: None unasked, True as on the command line, False nowhere."""
    if isinstance(progress, Console):
        return progress
    if progress is None:
        return Unasked(stderr=True, highlight=False)
    return Console(quiet=not check(bool, progress=progress), highlight=False)


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
        self._unasked = isinstance(console, Unasked)
        self._in_notebook = console.is_jupyter and not console.quiet
        self._cell: Any = None  # the place in a notebook
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._progress.stop()
        self._draw(now=True)

    def begin(self, what: str, done: int, total: int | None, title: str | None = None) -> None:
        """Adds the bar of an operation of which some is ``done`` already."""
        title = what if title is None else title
        self._tasks[what] = self._progress.add_task(title, completed=done, total=total, news="")

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
        if isinstance(self._console, Relay):
            if now - self._said >= RELAY_SECONDS:
                self._said = now
                self._console.tell((done, total, line))
        elif self._in_notebook:
            self._draw()
        elif not line or not self._progress.disable:
            return
        elif (due and not self._unasked) or now - self._said >= PLAIN_SECONDS:
            self._said = now
            self.say("  ".join(part for part in (line, news, self._times(what)) if part))

    def end(self, what: str) -> None:
        """Takes the bar of an operation away, if it has one."""
        if what in self._tasks:
            self._progress.remove_task(self._tasks.pop(what))

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self._console.print(harmless(line), soft_wrap=True, markup=False)

    def _draw(self, now: bool = False) -> None:
        """Shows the bars in a notebook as rich does there, in one place that is drawn anew."""
        if not self._in_notebook or not self._tasks:
            return
        if not now and time.perf_counter() - self._shown < NOTEBOOK_SECONDS:
            return
        from IPython.display import display  # which a notebook has

        table = self._progress.make_tasks_table(self._progress.tasks)
        if self._cell is None:
            self._cell = display(table, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._cell.update(table)
        self._shown = time.perf_counter()

    def _times(self, what: str) -> str:
        """The time that an operation has taken, and how much is left as far as that is known."""
        task = next(task for task in self._progress.tasks if task.id == self._tasks[what])
        left = task.time_remaining
        return f"{task.elapsed or 0.0:.0f} s" + ("" if left is None else f", {left:.0f} s left")


class TrainingDisplay(Display, Listener):
    """Shows a training: accuracy, loss, ticks per second, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._accuracy, self._loss = "accuracy –  ", "–"

    def on_start(self, event: events.StartEvent) -> None:
        self._steps = event.steps if event.steps < FOREVER else None
        self._ticks, self._began = 0, time.perf_counter()
        self._progress.start()
        self.begin("training", event.step, self._steps)

    def on_step(self, event: events.StepEvent) -> None:
        self._loss = f"{event.loss:.4f}"
        self._ticks += event.ticks
        self._move(event)

    def on_evaluation(self, event: events.EvaluationEvent) -> None:
        what = f"evaluating  {event.split} samples"
        line = f"epoch {event.epoch}  {what} {event.samples:,}/{event.total:,}"
        self.show(what, event.samples, event.total, line, "")
        if event.samples == event.total:
            self.end(what)

    def on_epoch(self, event: events.EpochEvent) -> None:
        if (accuracy := event.test_accuracy) is not None:
            self._accuracy = "" if isnan(accuracy) else f"accuracy {accuracy:.2%}  "
        self._move(event, due=True)

    def on_end(self, event: events.EndEvent) -> None:
        del event
        self._stop()

    def _move(self, event: events.TrainingEvent, due: bool = False) -> None:
        rate = self._ticks / max(1e-9, time.perf_counter() - self._began)
        news = f"{self._accuracy}loss {self._loss}  {rate:,.0f} ticks/s"
        of = "" if self._steps is None else f"/{self._steps}"
        line = f"epoch {event.epoch}  step {event.step}{of}"
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
