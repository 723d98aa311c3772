"""The command that checks what a plugin registers: ``neurosim check``."""

import sys
from pathlib import Path
from time import perf_counter

import click

from neurosim.cli import options


@click.command()
@click.argument("file", metavar="FILE.py", type=click.Path(path_type=Path))
@options.option(
    "--verbose",
    is_flag=True,
    help="Also show the values that are checked, and times.",
    example="neurosim check mine.py --verbose",
)
def check(file: Path, verbose: bool) -> None:
    """Check what the plugin FILE.py registers, and say what fails and how to mend it.

    Both process modes, caching, resuming at every tick, partial against dense operations, gradients
    against autograd: what every member of its family must keep.
    """
    from rich.markup import escape

    from neurosim.base import PluginError
    from neurosim.conformance import ConformanceFailure, attempt, checks_of
    from neurosim.families import plugins
    from neurosim.tensors import repeatable

    console, failed, number = options.terminal(), 0, 0
    members = plugins.members_of(plugins.load(file))
    if not members:
        raise PluginError(f"{file}:1: it registers nothing; decorate a class with @ns.register")

    def failure(found: ConformanceFailure) -> None:
        nonlocal failed
        failed += 1
        console.print(
            f"    [red]{escape(found.what)}[/]\n    {escape(found.mend)}.", soft_wrap=True
        )

    for member in members:
        console.print(f"[bold]{member.family.title} {member.kind}[/]")
        try:
            checks = checks_of(member)
        except ConformanceFailure as error:
            failure(error)
            continue
        for one in checks:
            began, number = perf_counter(), number + 1
            with console.status(f"  {one.name}"), repeatable():
                found = attempt(one)
            more = f"  [dim]{one.example!r}, {perf_counter() - began:.1f} s[/]" if verbose else ""
            console.print(f"  {'[green]✓[/]' if found is None else '[red]✗[/]'} {one.name}{more}")
            if found is not None:
                failure(found)
                console.print("    [dim]The checks that follow build on this one.[/]")
                break
    console.print(f"{number} checks, {failed or 'none'} failed")
    sys.exit(1 if failed else 0)
