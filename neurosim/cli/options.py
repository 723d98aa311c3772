"""What several commands share: arguments, options, and how they end."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
SEEDS = click.IntRange(1, 10_000)
INTERRUPTED = 130  # what a shell expects after Ctrl-C


def _load_plugins(context: click.Context, option: click.Parameter, files: Sequence[Path]) -> None:
    """Loads what is installed, and the files that are named, before the command reads anything."""
    from neurosim.families import plugins

    plugins.load_installed()
    for file in files:
        plugins.load(file)


def _console(context: click.Context, option: click.Parameter, quiet: bool) -> Any:
    """Makes where a command tells what it does, unless it is to be quiet."""
    from rich.console import Console

    return Console(quiet=quiet, highlight=False)


FILE = click.argument("file", type=PATH)
RUN = click.argument("folder", type=PATH)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
DEVICE = click.option(
    "--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; the same as device=NAME."
)
OUT = click.option("--out", type=PATH, default=Path("runs"), help="Folder for run folders.")
RUN_ID = click.option("--id", "run_id", help="Name of the run's folder (default: the time).")
JOBS = click.option(
    "--jobs",
    type=click.IntRange(0, 1024),
    help="Processes (default: as the cores allow; 0: run in this one).",
)
QUIET = click.option(
    "--quiet", "console", is_flag=True, callback=_console, help="Print only the result."
)
PLUGIN = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py",
    type=PATH,
    expose_value=False,
    callback=_load_plugins,
    help="Load rules, schedules, … of your own from this file (repeatable).",
)


class _Output:
    """Writes to a stream for as long as somebody reads it: a closed pipe or a full disk behind it
    costs its text and not the run. What it has no letters for becomes question marks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._open = stream, True

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        self._try(self._stream.write, text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable[..., Any], *arguments: str) -> None:
        try:
            if self._open:
                act(*arguments)
        except (OSError, ValueError):
            self._open = False
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())  # or the end would fail again

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Lets a command go on when nobody reads what it says any more."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (s if s is None else _Output(s) for s in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def command(*parts: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command of a function, its arguments and options, in the order of its help."""

    def make(function: Callable[..., None]) -> click.Command:
        for part in reversed(parts):
            function = part(function)
        return click.command()(function)

    return make


def with_device(overrides: Sequence[str], device: str | None) -> list[str]:
    """Returns the overrides, and the device where one is named."""
    return [*overrides, *([] if device is None else [f"device={device}"])]


def own_process(how: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a function of Python, for a process that is there for it alone: it
    keeps memory that arrays give back."""
    from neurosim.tensors import keep_memory

    keep_memory()
    return {("progress" if key == "console" else key): value for key, value in how.items()}
