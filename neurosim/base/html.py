"""What a notebook shows of an object."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Returns rows as a table of HTML; without a header their first cells are headings."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in header)] if header else []
    for first, *others in rows:
        head = "td" if header else "th"
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in others)
        lines.append(f"<{head}>{escape(str(first))}</{head}>{cells}")
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
