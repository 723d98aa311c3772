"""Makes pages and figures of records."""

from neurosim.reports import plots
from neurosim.reports.page import Figure, Picture, Report, pictures_of
from neurosim.reports.plots import draw_network
from neurosim.reports.render import render
from neurosim.reports.report import report_of, write_report
from neurosim.reports.sweep import maps_of
