"""Makes pages and figures of records."""

from neurosim.reports import plots
from neurosim.reports.comparison import comparison_of
from neurosim.reports.drawing import described, draw_network
from neurosim.reports.page import Figure, named, pictures_of, render
from neurosim.reports.plots.paper import READABLE, Format, inches, on_paper
from neurosim.reports.printed import printed
from neurosim.reports.report import report_of, write_report
from neurosim.reports.sweep import maps_of, trade_off
