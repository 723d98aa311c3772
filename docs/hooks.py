"""What the site has besides the pages in this folder: pages of the repository's root, the files
that pages link to, notebooks, and the reference of the Python interface, made of its names, and of
the names that the pages tell readers to import."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

import neurosim as ns

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
REFERENCE = "reference/python.md"

PAGES_OF_PLUGINS = ("CONTRIBUTING.md", "docs/plugins.md", "docs/python.md")
BREAKS = re.compile(r"[_/](?=\w)|(?<=\w\w)\.(?=[a-z]{3})")  # within a long name
IMPORT = re.compile(r"^\+?from (neurosim\.[\w.]+) import ([\w, ]+)$", re.MULTILINE)

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
    """Turns links that leave the folder into links to what has been added, or into text. The tables
    of results have the place of the list of contents."""
    own = page.file.src_uri
    if own.startswith("results/"):
        page.meta["hide"] = ["toc"]
    depth = own.count("/")
    if own in PAGES:
        markdown = re.sub(r"\]\(docs/", "](", markdown)
        return re.sub(r"\[([^\]]+)\]\((?:neurosim|tests|\.ci)/[^)]*\)", r"\1", markdown)
    inner = "../" * depth
    return re.sub(rf"\]\({re.escape(inner)}\.\./", f"]({inner}", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Takes the backslash away that a bar has within the code of a table's cell. Lets long names in
    cells break after an underscore, a slash or a dot, but keys, in the first, are read whole."""

    def shown(cell: re.Match[str]) -> str:
        text = cell[0].replace("\\|", "|")
        if html[cell.start() - 20 : cell.start()].rstrip().endswith("<tr>"):
            return text
        return re.sub(r">[^<]+<", lambda part: BREAKS.sub(r"\g<0><wbr>", part[0]), text)

    return re.sub(r"<td.*?</td>", shown, html, flags=re.DOTALL)


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
    text += [
        "## For kinds of your own",
        "",
        "What a file with kinds of your own imports besides.",
        "",
    ]
    for module, name in imported():
        text += [f"`from {module} import {name}`", "", f"::: {module}.{name}"]
        text += ["    options: {heading_level: 3, show_root_full_path: false}", ""]
    return "\n".join(text)


def imported() -> Iterator[tuple[str, str]]:
    """Yields what pages import from the package's modules that is no public name of `neurosim`, by
    the shortest module that has it."""
    found: dict[str, set[str]] = {}
    for path in (*PAGES_OF_PLUGINS, *sorted((ROOT / "docs/tutorials").glob("*.md"))):
        for module, names in IMPORT.findall((ROOT / path).read_text(encoding="utf-8")):
            for name in names.split(","):
                found.setdefault(name.strip(), set()).add(module)
    for name, modules in sorted(found.items()):
        module = min(modules, key=len)
        above = module.rpartition(".")[0]
        shorter = above != "neurosim" and hasattr(import_module(above), name)
        if not hasattr(ns, name) and not module.startswith("neurosim.cli"):
            yield above if shorter else module, name


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
                found = re.sub(
                    r'<table border="1" class="dataframe">', "<table>", data["text/html"]
                )
                found = re.sub(r"<style.*?</style>", "", found, flags=re.DOTALL)  # the site's own
                parts.append(f"<div>{found}</div>")
            else:
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts)
