"""Pages in a browser without a window, where there is one."""

import shutil
import subprocess
from pathlib import Path
from string import Template

import pytest

_OPTIONS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
# A frame may be as narrow as a phone, a window may not. What is too wide is told by its tag.
_FRAME = Template("""<!doctype html><iframe src="$page" style="width:${width}px;height:900px"
onload="
const inner = this.contentDocument, wide = [];
for (const one of [inner.documentElement, ...inner.querySelectorAll('$what')])
  if (one.scrollWidth > one.clientWidth) wide.push(one.tagName);
document.body.append('too wide: [' + wide + ']')"></iframe>""")


def dom(url: str, folder: Path, *options: str) -> str:
    """Returns a page as it is once its scripts have run; ``folder`` is the browser's own."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no Chromium here")
    told = [*_OPTIONS.split(), f"--user-data-dir={folder / 'browser'}", *options, "--dump-dom", url]
    ran = subprocess.run([browser, *told], capture_output=True, text=True, timeout=120, check=False)
    return ran.stdout


def too_wide(page: Path, width: int, what: str = "pre") -> str:
    """Returns the tags of what reaches out of a page of so many pixels, or is ``what`` (a selector
    of CSS) and has to be scrolled, with commas between."""
    frame = page.with_name("frame.html")
    frame.write_text(_FRAME.substitute(page=page.name, width=width, what=what))
    found = dom(frame.as_uri(), page.parent, "--allow-file-access-from-files")
    return found.partition("</iframe>")[2].partition("too wide: [")[2].partition("]")[0]
