"""Draws charts: pure functions from recorded numbers to inline SVG.

Text and axes are in ``currentColor`` and series in CSS variables (`palette_css`), so that one
figure reads well on a light and on a dark page. Legends are left to the page: there they wrap.
"""

from neurosim.reports.plots.canvas import Chart, Curve, colours, line_chart, palette_css
from neurosim.reports.plots.confusion import confusion_chart
from neurosim.reports.plots.heat import heat_map, limits_of
from neurosim.reports.plots.pareto import Choice, pareto_chart
from neurosim.reports.plots.seeds import row_chart, seed_chart
from neurosim.reports.plots.wakes import wake_chart
