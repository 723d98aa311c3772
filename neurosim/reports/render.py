"""Fills in the templates of pages and pictures."""

from functools import cache
from json import dumps
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neurosim.base import number
from neurosim.reports.plots.canvas import clean, palette_css


def render(template: str, **context: Any) -> Markup:
    """Fills in a template; whatever is no `Markup` is escaped. Returns what HTML can hold."""
    return Markup(clean(_environment().get_template(template).render(context)))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("neurosim.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "numeric": _numeric}
    environment.globals |= {"light": Markup(palette_css(False)), "dark": Markup(palette_css(True))}
    return environment


def show(value: object) -> str:
    """Writes a value for a reader."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e15 else f"{value % 10**15}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else dumps(value)


def _numeric(rows: list[list[object]]) -> list[bool]:
    """Says which columns hold numbers alone; those are set right."""
    columns = zip(*rows, strict=True)
    return [all(cell is None or number(cell) is not None for cell in column) for column in columns]
