"""The figures of a report: pure functions from recorded numbers, or a network, to inline SVG.

Text and axes are in ``currentColor`` and series in CSS variables (`palette_css`), so that one
figure reads well on a light and on a dark page. Legends are left to the page: there they wrap.
"""

from neurosim.base import compact, number
from neurosim.records import Run, Traces, group, moment_text, names_in, time_of
from neurosim.reports.plots.canvas import Chart, Line, palette_css
from neurosim.reports.plots.charts import (
    accuracy_chart,
    angle_chart,
    count_chart,
    feedback_chart,
    flight_chart,
    loss_chart,
    of_settled,
    phases_of,
    residual_chart,
    staleness_chart,
    wake_chart,
)
from neurosim.reports.plots.drawing import draw_network
from neurosim.reports.plots.heat import heat_css, heat_map
from neurosim.reports.plots.rows import Reference, row_chart
from neurosim.reports.plots.standalone import Figure, figures_of
from neurosim.reports.plots.sweeps import Cell, Quantity, State, seed_chart

__all__ = [
    "Cell",
    "Chart",
    "Figure",
    "Line",
    "Quantity",
    "Reference",
    "Run",
    "State",
    "Traces",
    "accuracy_chart",
    "angle_chart",
    "compact",
    "count_chart",
    "draw_network",
    "feedback_chart",
    "figures_of",
    "flight_chart",
    "group",
    "heat_css",
    "heat_map",
    "loss_chart",
    "moment_text",
    "names_in",
    "number",
    "of_settled",
    "palette_css",
    "phases_of",
    "residual_chart",
    "row_chart",
    "seed_chart",
    "staleness_chart",
    "time_of",
    "wake_chart",
]
