"""What pages look like in a browser: on a phone and on a screen nothing reaches out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import too_wide
from markupsafe import Markup

from neurosim.reports.page import Listing, Report, Section, listed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [420, 1300])
def test_long_lines_are_wrapped_and_wide_tables_scroll(width: int, tmp_path: Path) -> None:
    digest = "47f6e4f9c267b567a8a7223cbd465369ad9c5c3e75fd35c77e6456bdae3f800f"
    broad = Listing("Wide", [f"column {n}" for n in range(40)], [[f"{n} ± 1" for n in range(40)]])
    code = Markup(f"<pre><code>network: {{{'layers, ' * 99}}}\nsha256: {digest * 5}</code></pre>")
    blocks = [
        ("table", broad),
        ("table", listed("What", {"sha256": digest * 4})),
        ("html", code),
        ("html", digest * 5),
    ]
    plain = Report("demo", "run", "finished", "finished", [Section("Result", blocks)])
    assert too_wide(plain.write(tmp_path), width) == ""
    text = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").write_text(text.replace("pre-wrap", "pre"))
    assert "PRE" in too_wide(tmp_path / "report.html", width)  # the test would see it
