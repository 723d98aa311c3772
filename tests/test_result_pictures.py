"""The pictures in docs/results are those that the code draws today of the numbers beside them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from result_pictures import FILES, ROOT, pictures

pytestmark = [pytest.mark.drawn, pytest.mark.slow]


def words(svg: str) -> list[str]:
    """All that it says: numbers, labels, tooltips. Where they stand depends on the fonts."""
    found = ("".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter())
    return [text for text in found if text]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_pictures_of_results_are_up_to_date(file: Path) -> None:
    """If not: python -m tests.result_pictures."""
    shown = re.findall(r"\]\(([^)]+\.svg)\)", file.with_suffix(".md").read_text(encoding="utf-8"))
    drawn = pictures(file)
    assert shown == list(drawn)
    for name, svg in drawn.items():
        assert words(file.with_name(name).read_text(encoding="utf-8")) == words(svg), name
    names = {path.name for path in file.parent.glob(f"{file.stem}-*.svg")}
    assert names == set(drawn)
