"""What the site has besides the pages in this folder: pages of the repository's root, the files
that pages link to, notebooks, and the reference of the Python interface, made of its names."""

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

import neurosim as ns

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
REFERENCE = "reference/python.md"

# The public names, in the order in which a reader meets them; what is not named here comes last.
ORDER = {
    "Runs": ("run", "resume", "sweep", "load_run", "load_sweep", "Run", "SweepResults"),
    "Networks": ("Network", "Model", "Population", "Projection"),
    "Simulations": ("Simulation", "Outcome", "Trainer", "Scenario"),
}


def on_files(files: Any, config: Any) -> Any:
    """Adds what lies outside of the folder."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for folder in ("scenarios", "networks"):
        for path in sorted((ROOT / folder).glob("*.yaml")):
            files.append(File.generated(config, f"{folder}/{path.name}", abs_src_path=str(path)))
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        page = File.generated(config, f"notebooks/{path.stem}.md", content=pages_of(path))
        files.append(page)
    files.append(File.generated(config, REFERENCE, content=reference()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links that leave the folder into links to what has been added, or into text."""
    own = page.file.src_uri
    depth = own.count("/")
    if own in PAGES:
        markdown = re.sub(r"\]\(docs/", "](", markdown)
        return re.sub(r"\[([^\]]+)\]\((?:neurosim|tests|\.ci)/[^)]*\)", r"\1", markdown)
    inner = "../" * depth
    return re.sub(rf"\]\({re.escape(inner)}\.\./", f"]({inner}", markdown)


def reference() -> str:
    """Returns the page of all public names: those of `ORDER`, then the others."""
    left = [name for name in dir(ns) if not name.startswith("_")]
    text = ["# Python", "", "`import neurosim as ns` gives all of these names.", ""]
    parts: dict[str, list[str]] = {title: [] for title in (*ORDER, "Others")}
    for title, names in ORDER.items():
        parts[title] = [name for name in names if name in left]
    taken = {name for names in parts.values() for name in names}
    parts["Others"] = [name for name in left if name not in taken]
    for title, names in parts.items():
        text += [f"## {title}", ""]
        for name in names:
            found = getattr(ns, name)
            module = getattr(found, "__module__", None)
            where = f"{module}.{found.__qualname__}" if module else found.__name__
            text += [f"::: {where}", "    options: {heading_level: 3}", ""]
    return "\n".join(text)


def pages_of(path: Path) -> str:
    """Returns a notebook with its outputs as a page."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/svg+xml" in data:
                parts.append(f"<figure>{data['image/svg+xml'].partition('?>')[2]}</figure>")
            elif "text/html" in data:
                parts.append(f"<div>{data['text/html']}</div>")
            else:
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts)
