"""What several commands share: arguments, options, and how they end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
