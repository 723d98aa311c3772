"""What a user sees of sweeps, studies, downloads and the end of a run."""

from collections.abc import Sequence
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.filesize import decimal

from neurosim.base import harmless
from neurosim.data import Remote
from neurosim.learning import Display, How
from neurosim.records import Results, Row, told


class SweepDisplay(Display):
    """Shows a sweep: how many runs have ended and failed, and those under way."""

    def __init__(self, console: Console, results: Results) -> None:
        super().__init__(console)
        self._results = results
        self._workers: dict[str, str] = {}  # that have the runs under way, in words
        self._words: dict[str, str] = {}  # what is said of each
        self.begin("runs", 0, len(results.rows))

    def began(self, row: Row, worker: str | None = None) -> None:
        """Takes note of a run that begins, or goes on with another ``worker``."""
        self.end(row.folder)
        self.begin(row.folder, 0, None, "run")
        self._workers[row.folder] = f" on worker {worker}" if worker else ""
        self.moved(row, (0, None, ""))

    def moved(self, row: Row, how: How) -> None:
        """Takes note of how far a run is."""
        done, total, words = how
        self._words[row.folder] = f"{_name(row)}{self._workers[row.folder]}  {words}".rstrip()
        self.show(row.folder, done, total, "", self._words[row.folder])
        self._move("; ".join(self._words.values()))

    def ended(self, row: Row) -> None:
        """Takes note of a run that has ended, as its summary says."""
        self.end(row.folder)
        self._words.pop(row.folder, None)
        error = row.summary.get("error")
        why = f": {error}" if error or row.status == "failed" else ""
        line = f"{row.status}  {row.folder}{self._workers.pop(row.folder, '')}{why}"
        self._move(line, due=True)
        if why and not self._progress.disable:
            self.say(line)

    def _move(self, line: str, due: bool = False) -> None:
        failed, total = self._results.count("failed"), len(self._results.rows)
        ended = self._results.count("finished") + failed
        shown = f"{failed} failed" if failed and not self._progress.disable else ""
        self.show("runs", ended, total, f"{ended}/{total}  {line}", shown, due)


def _name(row: Row) -> str:
    """Returns the name of a run's folder without the digest."""
    return row.folder.rpartition("/")[2].rpartition("_")[0]


class StudyDisplay(Display):
    """Shows a study: the search for the fixed point, then the inference."""

    def sweep(self, sweep: int, residual: float) -> None:
        """Takes note of a sweep of the search for the fixed point."""
        news = f"residual {residual:.1e}"
        self.show("fixed point", sweep, None, f"fixed point  sweep {sweep}", news)

    def reference(
        self, sweeps: int, residual: float, problem: str | None, phase: str | None = None
    ) -> None:
        """Says what the search came to, in a phase of a rule that has any."""
        found = f"residual {residual:.1e} after {sweeps} sweeps"
        self.say(f"fixed point  {'' if phase is None else f'{phase}: '}{problem or found}")
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


def summary_lines(summary: dict[str, Any], more: Sequence[tuple[str, object]] = ()) -> list[str]:
    """Returns the last lines of a run: its status, its verdict, what it found and cost, and
    ``more`` titles with their texts."""
    lines = [("status", summary["status"])]
    if summary.get("verdict") is not None:
        lines.append(("verdict", f"{summary['verdict']}: {summary['reason']}"))
        for name, found in (summary.get("phases") or {}).items():
            lines.append(("phase", f"{name}: {found['verdict']}: {found['reason']}"))
    lines += [(harmless(title), text) for title, text in told(summary, "line")]
    lines += more
    width = max(14, *(len(title) for title, _ in lines))
    return [f"{title:<{width}} {harmless(str(text))}" for title, text in lines]
