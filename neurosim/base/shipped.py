"""The scenarios and networks that ship with the package.

They lie in the folders ``scenarios`` and ``networks`` of the repository; a wheel has them in the
package (setup.py).
"""

from collections.abc import Sequence
from pathlib import Path

from neurosim.base.errors import DataError
from neurosim.base.suggest import did_you_mean

_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Returns the folder that has the folders ``scenarios`` and ``networks``."""
    inside = _PACKAGE / "examples"
    return inside if inside.is_dir() else _PACKAGE.parent


def shipped_files(kind: str) -> dict[str, Path]:
    """Returns the shipped "scenarios" or "networks" by name, in alphabetical order."""
    return {path.stem: path for path in sorted((shipped_folder() / kind).glob("*.yaml"))}


def about(path: Path) -> str:
    """Returns the first sentence of the comment that a file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition(". ")[0].rstrip(".") + "."


def find_file(name: str) -> Path:
    """Returns the file of that name; a plain name where there is no such file is a shipped one.

    Raises DataError for a plain name that nothing has.
    """
    path, known = Path(name), shipped_files("networks") | shipped_files("scenarios")
    if path.suffix and path.stem in known and not path.exists():
        said = f"{path.stem} is an example: give that name alone, or copy it: neurosim examples"
        raise DataError(f"{name}: no such file; {said} {path.stem} --to .")
    if path.suffix or path.name != name or path.is_file():
        return path
    if name in known:  # also where a folder has that name, as that of its runs has
        return known[name]
    if not path.exists():
        hint = did_you_mean(name, known) or "; neurosim examples lists them"
        raise DataError(f"{name}: no such file, and no example of that name{hint}")
    return path


def given(file: Path, overrides: Sequence[str]) -> list[str]:
    """Returns the overrides of a scenario.

    Of an installed example the data are in the folder ``data`` here, as nobody looks into packages.
    """
    inside = file.is_relative_to(shipped_folder()) and shipped_folder().name == "examples"
    if not inside or not file.is_file() or "root:" not in file.read_text(encoding="utf-8"):
        return list(overrides)
    said = any(one.startswith("data") for one in overrides)
    return [*overrides, *([] if said else ["data.root=data"])]
