"""Pages and figures made of records."""

from neurosim.reports.plots import Cell, Quantity, figures_of, number
from neurosim.reports.run import draw_network, write_report
from neurosim.reports.study import write_report_of
from neurosim.reports.sweep import write_sweep_report

__all__ = [
    "Cell",
    "Quantity",
    "draw_network",
    "figures_of",
    "number",
    "write_report",
    "write_report_of",
    "write_sweep_report",
]
