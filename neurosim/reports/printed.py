"""Gathers the pictures of runs that can be drawn for a paper."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurosim.base import NeurosimWarning
from neurosim.records import Run
from neurosim.reports.animation import stills_of
from neurosim.reports.comparison import comparison_of
from neurosim.reports.drawing import Frame, levels_within, scene_of
from neurosim.reports.page import named
from neurosim.reports.plots.paper import READABLE, Format, on_paper
from neurosim.reports.plots.scene import LETTERS, scene_on_paper
from neurosim.reports.report import report_of

if TYPE_CHECKING:  # charts need no torch
    from neurosim.network import Network

Draw = Callable[[float, Format], tuple[bytes, float]]  # a width to a file and its smallest letters


def printed(folders: Sequence[Path], network: Network | None) -> dict[str, Draw]:
    """Returns what draws each picture, by the name of its file: the charts of the report, the
    ``network`` and of a study a few moments of its inference; of several folders the charts of
    their comparison. Warns of records that could not be read. Raises DataError like `report_of`,
    and ConfigurationError for no folder."""
    page = report_of(folders[0]) if len(folders) == 1 else comparison_of(folders)
    for note in page.notes:
        warnings.warn(note, NeurosimWarning, stacklevel=3)
    found: dict[str, Draw] = {
        name: partial(on_paper, chart) for name, _, chart in named(page.figures)
    }
    if network is not None and len(folders) == 1:
        frames: dict[str, Frame | None] = {"network": None}
        run = Run.read(folders[0])
        frames |= stills_of(network, run.convergence or run.last("activity"))
        for name, frame in frames.items():
            found[name] = partial(_drawn, network, frame)
    return found


def _drawn(
    network: Network, frame: Frame | None, width: float, form: Format
) -> tuple[bytes, float]:
    """Draws a network in rows that are so short that letters can be read, if any are."""
    levels = levels_within(network, frame, width * 72 * LETTERS / READABLE)
    return scene_on_paper(scene_of(network, frame, levels), width, form)
