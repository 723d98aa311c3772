"""The site of the docs: it builds strictly, needs no network, has every name, and is searchable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from browsers import too_wide

import neurosim as ns

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir"]
    done = subprocess.run([*command, folder], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site(site: Path, root: Path) -> None:
    pages = {str(path.relative_to(site)): path.read_text("utf-8") for path in site.rglob("*.html")}
    for name, text in pages.items():
        assert not re.findall(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//', text), name
        assert not re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//', text), name
    reference = pages["reference/python.html"]
    for name in (name for name in dir(ns) if not name.startswith("_")):
        found = getattr(ns, name)
        where = getattr(found, "__qualname__", None) or found.__name__
        assert re.search(rf'id="(neurosim\.[\w.]*)?{re.escape(where)}"', reference), name
    spec = spec_from_file_location("hooks", root / "docs/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(hooks := module_from_spec(spec))
    besides = list(hooks.imported())
    assert ("neurosim.schedules", "Clock") in besides
    for module, name in besides:
        assert f"from {module} import {name}<" in reference
        assert re.search(rf'id="neurosim\.[\w.]*\b{name}"', reference), name
    docs = json.loads((site / "search/search_index.json").read_text("utf-8"))["docs"]
    words = " ".join(one["text"] for one in docs)
    for key in ("learning_rate", "snapshot", "jitter", "gradient_angle", "DivergenceError"):
        assert key in words
    assert (site / "scenarios/random_order.yaml").read_bytes() == (
        root / "scenarios/random_order.yaml"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("width", [420, 1300])
@pytest.mark.parametrize("name", ["results/mnist", "studies/streaming", "notebooks/training"])
def test_nothing_is_out_of_sight(site: Path, name: str, width: int) -> None:
    """Commands of five hundred letters, tables of twelve columns, and what a notebook printed."""
    page = site / f"{name}.html"
    assert too_wide(page, width) == ""
    assert 'class="dataframe"' not in page.read_text("utf-8")  # it would have no style of the site


@pytest.mark.slow
def test_keys_are_read_on_a_phone_without_scrolling_their_tables(site: Path) -> None:
    """Long names may break at an underscore, so that there is room for what a key is."""
    assert too_wide(site / "kinds.html", 420, "pre, table, .md-typeset__scrollwrap") == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    """As they stand, in an empty folder; what they have shown is in them."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(path, as_version=4)
    shown = [bool(cell.get("outputs")) for cell in book.cells]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, resources=resources).execute()
    assert [bool(cell.get("outputs")) for cell in book.cells] == shown
    assert len(NOTEBOOKS) == 3
