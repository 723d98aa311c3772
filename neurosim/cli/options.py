"""What several commands share: arguments, options, and where they tell what they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.argument("file", type=PATH)
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
QUIET = click.option("--quiet", is_flag=True, help="Print only the result.")


def _load_plugins(context: click.Context, option: click.Parameter, files: Sequence[Path]) -> None:
    """Loads what is installed, and the files that are named, before the command reads anything."""
    from neurosim.families import plugins

    plugins.load_installed()
    for file in files:
        plugins.load(file)


PLUGIN = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py",
    type=PATH,
    expose_value=False,
    callback=_load_plugins,
    help="Load rules, schedules, … of your own from this file (repeatable).",
)
INTERRUPTED = 130  # what a shell expects after Ctrl-C


def with_device(overrides: Sequence[str], device: str | None) -> list[str]:
    """Returns the overrides, and the device where one is named."""
    return [*overrides, *([] if device is None else [f"device={device}"])]


def console(quiet: bool) -> Console:
    """Makes where a command tells what it does, unless it is to be quiet."""
    from rich.console import Console

    return Console(quiet=quiet, highlight=False)
