"""The commands that make pages and figures of what runs have left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurosim.base import harmless
from neurosim.cli import options
from neurosim.cli.options import PATH, PLUGIN, RUN, option

if TYPE_CHECKING:
    from neurosim.reports import Format


@options.command(
    click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN RUN..."),
    option(
        "--to",
        type=PATH,
        default="comparison.html",
        show_default=True,
        help="Write the page here.",
        example="--to both.html",
    ),
)
def compare(runs: Sequence[Path], to: Path) -> None:
    """Compare runs, given by their folders, on one page.

    Their curves lie over each other; tables say what differs in their scenarios, and their numbers.
    """
    from neurosim.runs import door

    click.echo(f"comparison: {door.compare(*runs, to=to)}")


@options.command(
    click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN..."),
    option(
        "--format",
        type=click.Choice(["pdf", "png", "svg"]),
        default="pdf",
        show_default=True,
        help="What kind of files.",
        example="--format png",
    ),
    option(
        "--width",
        metavar="LENGTH",
        default="85mm",
        show_default=True,
        help="How wide they are in print: mm, cm, in or pt.",
        example="--width 85mm",
    ),
    option(
        "--to",
        type=options.FOLDER,
        default="figures",
        show_default=True,
        help="Write them into this folder.",
        example="--to paper/figures",
    ),
)
def figures(runs: Sequence[Path], format: Format, width: str, to: Path) -> None:
    """Write the pictures of a run, study or sweep, or of several RUNs over each other, for a paper.

    They are the charts, the drawing of the network, and of a study that at moments of its
    inference. Letters of charts have 8 points at the width given, and colours are for white paper.
    """
    from neurosim.runs import door

    for path in door.figures(*runs, to=to, format=format, width=width):
        click.echo(f"figure: {path}")


@options.command(
    RUN,
    PLUGIN,
    option(
        "--figures",
        type=options.FOLDER,
        help="Write every picture of it to this folder (SVG).",
        example="--figures pictures",
    ),
)
def report(folder: Path, figures: Path | None) -> None:
    """Write the report of the run, or of the sweep, in FOLDER anew."""
    from neurosim.base import write_atomic
    from neurosim.reports import report_of
    from neurosim.runs import network_in

    found = report_of(folder, network_in(folder))
    for note in found.notes:
        click.echo(f"warning: {harmless(note)}", err=True)
    click.echo(f"report: {found.write(folder)}")
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for picture in found.pictures():
            write_atomic(figures / f"{picture.name}.svg", picture.svg)
            click.echo(f"figure: {figures / picture.name}.svg")
