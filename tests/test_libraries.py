"""Libraries are used by their public interfaces."""

import ast
from pathlib import Path

import neurosim

PACKAGE = Path(neurosim.__file__).parent
# Of the standard library and public in spite of their names.
PUBLIC = {"_asdict", "_exit", "_replace"}


def test_no_private_attribute_is_read_but_these() -> None:
    """Private is what begins with an underscore and is defined nowhere in the package."""
    read: dict[str, set[str]] = {}
    defined: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(attr=name, ctx=ast.Load()):
                    read.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
                case ast.Attribute(attr=name) | ast.Name(id=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                    defined.add(name)
                case ast.ImportFrom(module=module, names=names) if module != "__future__":
                    here = (module or "").startswith("neurosim")
                    private = [a.name for a in names if a.name.startswith("_")]
                    assert here or not private, f"{path}: {private}"
    private = {
        name: where
        for name, where in read.items()
        if name.startswith("_") and not name.endswith("__") and name not in defined | PUBLIC
    }
    # The public ways to name a part of a Module refuse names that users may give to populations.
    assert private == {"_version": {"tensors/writes.py"}}
