"""neurosim: asynchronous, event-driven simulation of networks of dyadic neurons."""

import ast
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from neurosim._version import __version__ as __version__


@cache
def _doors() -> dict[str, tuple[str, str]]:
    """Returns the module and the name in it of each public name, as the stub beside says."""
    found = {"metrics": ("neurosim", "measures")}
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names = (alias.name for alias in node.names if alias.asname)
            found |= {name: (str(node.module), name) for name in names}
    return found


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use: `neurosim --help` does not wait for torch."""
    if name == "__all__":
        return __dir__()
    if name not in _doors():
        raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
    module, inner = _doors()[name]
    if module == "neurosim":
        return import_module(f"{module}.{inner}")
    return getattr(_imported(module), inner)


def _imported(name: str) -> ModuleType:
    """Imports a module. Libraries draw from `random` when they are imported: where the user has
    that, it goes on as if they had not."""
    if name in sys.modules:
        return sys.modules[name]
    generator = sys.modules.get("random")
    state = generator.getstate() if generator else None
    module = import_module(name)
    if generator:
        generator.setstate(state)
    return module


def __dir__() -> list[str]:
    return sorted(_doors())
