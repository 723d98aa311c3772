"""The commands that run many scenarios: ``neurosim sweep`` and ``neurosim table``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurosim.base import ignore_at_exit, shipped_folder
from neurosim.cli import options
from neurosim.cli.options import (
    COLLECT,
    DEVICE,
    DEVICES,
    DRY_RUN,
    EXECUTOR,
    FILE,
    JOBS,
    OUT,
    OVERRIDES,
    PATH,
    PER_DEVICE,
    PLUGIN,
    QUIET,
    SCHEDULER,
    SEEDS,
    option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from neurosim.records import Results


@options.command(
    FILE,
    click.argument("assignments", nargs=-1, metavar="[KEY=VALUE1,VALUE2...]..."),
    option("--seeds", type=SEEDS, default=1, help="Runs per combination.", example="--seeds 5"),
    JOBS,
    EXECUTOR,
    SCHEDULER,
    COLLECT,
    DEVICES,
    PER_DEVICE,
    OUT,
    option(
        "--name",
        help="Name of the sweep's folder (default: SCENARIO-sweep).",
        example="--name rates",
    ),
    option("--retry", is_flag=True, help="Run again what has failed.", example="--retry"),
    DEVICE,
    DRY_RUN,
    PLUGIN,
    QUIET,
)
def sweep(
    file: Path,
    assignments: Sequence[str],
    device: str | None,
    dry_run: bool,
    **how: Any,
) -> None:
    """Run the scenario FILE with every combination of values (rule.beta=0.1,1 seed=0,1,2).

    Values may be ranges: 1..5, 0..1..0.25, lin(0,1,5), log(1e-4,1e-1,4). The same command again
    runs only what is not there yet; with --dry-run it says what that is.
    """
    from neurosim.runs import door

    axes = options.given(file, assignments, device)
    how["executor"] = options.executor(how)
    if dry_run:
        _show_plan(file, axes, **how)
        return
    found = door.sweep(file, axes, **options.own_process(how))
    click.echo(_ended(found.results))
    click.echo(f"results        {found.folder / 'results.csv'}")
    click.echo(f"report         {found.report}")
    _exit_as(found.results, found.results.count("failed"))


def _tables(context: click.Context, param: click.Parameter, begin: str) -> list[str]:
    from neurosim.tables import TABLES

    return [name for name in TABLES if name.startswith(begin)]


@options.command(
    click.argument("name", metavar="mnist|alpha|systems|streams", shell_complete=_tables),
    OVERRIDES,
    option(
        "--quick",
        is_flag=True,
        help="The digits that ship with it: a minute or two.",
        example="neurosim table mnist --quick",
    ),
    option("--seeds", type=SEEDS, help="Runs per row (default: the table's).", example="--seeds 3"),
    option(
        "--epochs",
        type=click.IntRange(1),
        help="Instead of the table's own.",
        example="--epochs 5",
    ),
    option(
        "--row",
        "only",
        multiple=True,
        metavar="NAME",
        help="Only this row (repeatable).",
        example="--row DP",
    ),
    JOBS,
    EXECUTOR,
    SCHEDULER,
    COLLECT,
    DEVICES,
    PER_DEVICE,
    OUT,
    option(
        "--results",
        type=options.FOLDER,
        help="Folder for the JSON file, the page and its pictures (default: that of the runs).",
        example="--results docs/results",
    ),
    option(
        "--scenarios",
        type=PATH,
        default=shipped_folder() / "scenarios",
        help="Folder of the scenarios that the rows name (default: those that ship with it).",
        example="--scenarios mine",
    ),
    option(
        "--retry",
        is_flag=True,
        help="Run again what has failed or diverged.",
        example="--retry",
    ),
    DEVICE,
    PLUGIN,
    QUIET,
)
def table(
    name: str,
    overrides: Sequence[str],
    quick: bool,
    seeds: int | None,
    epochs: int | None,
    only: Sequence[str],
    out: Path,
    results: Path | None,
    scenarios: Path,
    device: str | None,
    jobs: int | None,
    retry: bool,
    console: Console,
    **where: Any,
) -> None:
    """Rerun a table of the papers, and print it beside the published figures.

    KEY=VALUE overrides values of all rows (data.root=FOLDER). The same command again runs only
    what is not there yet, and continues what was interrupted. A run that diverges is a result.
    """
    from neurosim.runs import door
    from neurosim.tables import Choice, plan_table, table_named, terminal_table, write_table

    given = tuple(options.given(scenarios, overrides, device))
    choice = Choice(quick, seeds, epochs, tuple(only), given)
    planned = plan_table(table_named(name), scenarios, choice)
    folder = out / f"table-{planned.stem}"
    options.own_process({})
    executor = options.executor(where | {"jobs": jobs})
    ended = door.run_planned(planned.sweep, folder, jobs, retry, console, executor)
    options.terminal().print(terminal_table(planned))
    for path in write_table(planned, folder, results or folder):
        click.echo(f"written        {path}")
    click.echo(f"report         {folder / 'report.html'}")
    click.echo(_ended(ended))
    _exit_as(ended, sum(row.status == "failed" and not row.diverged for row in ended.rows))


def _show_plan(
    file: Path,
    axes: Sequence[str],
    seeds: int,
    out: Path,
    name: str | None,
    executor: Any,
    **how: Any,
) -> None:
    """Prints every run of a sweep with its values, whether it is there already, and where it would
    be made."""
    from neurosim.runs import sweep

    del how
    planned = sweep.plan(file, axes, seeds)
    folder = out / sweep.folder_name(name or planned.name)
    results, there = planned.results, 0
    for row in results.rows:
        row.read(folder)
        there += row.status in ("finished", "failed")
        pairs = zip(results.axes, row.values, strict=True)
        values = " ".join(f"{axis[0]}={value}" for axis, value in pairs)
        click.echo(f"{row.status:<12} {values + ' ' if values else ''}seed={row.seed}")
    total = len(results.rows)
    click.echo(f"{total} runs, {total - there} to be made, in {folder}")
    if executor is not None:
        click.echo(f"executor       {executor}")


def _ended(results: Results) -> str:
    """How many runs there are, and what became of them."""
    total, finished, failed = len(results.rows), results.count("finished"), results.count("failed")
    left = total - finished - failed
    rest = f", {left} to be continued" if left else ""
    return f"runs           {total}: {finished} finished, {failed} failed{rest}"


def _exit_as(results: Results, failed: int) -> None:
    """Ends with the status that a shell expects where not all runs have finished."""
    if results.count("finished") + results.count("failed") < len(results.rows):
        ignore_at_exit()
        click.echo("continue with  the same command")
        sys.exit(options.INTERRUPTED)
    if failed:
        sys.exit(1)
