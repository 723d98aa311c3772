"""Plugins: a user's own file, or an installed package, whose classes join the families of kinds.

What is in force is kept nowhere: it follows from the modules of the families' members.
"""

import hashlib
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, ParamSpec

from neurosim.base import PluginError, plain
from neurosim.families.kinds import FAMILIES

P = ParamSpec("P")
GROUP = "neurosim.plugins"  # of the entry points of installed packages
_PREFIX = "neurosim_plugin_"


@dataclass(frozen=True)
class Plugin:
    """A file that members of families come from, its content, and the package it belongs to."""

    file: str
    sha256: str
    package: str | None = None


class _Loader(SourceFileLoader):
    """Runs what the file says, never an older compiled file beside it."""

    def path_stats(self, path: Any) -> Any:
        raise OSError("a compiled file is not asked for")


def load(path: Path) -> str:
    """Runs a file once for each content, so that what it registers joins the families. One that was
    imported already is not run again.

    Returns the name of its module, or raises PluginError that begins with the file and line.
    """
    file = str(path.expanduser().absolute())
    try:
        content = plain(Path(file)).read_bytes()
    except OSError as error:
        raise PluginError(f"{file}:1: the plugin cannot be read: {error.strerror}") from None
    for member in (m for family in FAMILIES.values() for m in family.values()):
        if getattr(sys.modules.get(member.__module__), "__file__", None) == file:
            return str(member.__module__)
    name = _PREFIX + hashlib.sha256(content).hexdigest()
    if name not in sys.modules:
        loader = _Loader(name, file)
        spec = util.spec_from_loader(name, loader)
        assert spec is not None
        sys.modules[name] = util.module_from_spec(spec)
        try:
            loader.exec_module(sys.modules[name])
        except (Exception, SystemExit) as error:
            forget(name)
            raise fault(error, f"{file}:1") from None
    return name


def load_installed() -> None:
    """Imports the entry points that installed packages have in the group ``neurosim.plugins``."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            said = fault(error, f"{traceback.extract_tb(error.__traceback__)[-1].filename}:1")
            raise PluginError(f"{said} (the entry point {entry.value})") from None


def carried(work: Callable[P, str | None]) -> Callable[P, str | None]:
    """Returns the work for another process: it loads the plugins that are in force here first, and
    says where it cannot."""
    found = in_force()
    files = {p.sha256: Path(p.file).read_bytes() for p in found if p.package is None}
    return partial(_with_plugins, found, files, work)


def _with_plugins(
    plugins: Sequence[Plugin],
    files: Mapping[str, bytes],
    work: Callable[P, str | None],
    *given: P.args,
    **options: P.kwargs,
) -> str | None:
    try:
        load_installed()
        known = {plugin.sha256 for plugin in in_force()}
        for plugin in plugins:
            if plugin.sha256 not in known:
                _load_carried(Path(plugin.file), files.get(plugin.sha256))
        require(plugins)
    except PluginError as error:
        return str(error)
    return work(*given, **options)


def _load_carried(path: Path, content: bytes | None) -> None:
    """Loads a plugin from its file, or on another machine, that has no such file, from a copy."""
    if path.is_file() or content is None:
        load(path)
        return
    copy = Path(tempfile.mkdtemp(prefix="neurosim-")) / path.name
    copy.write_bytes(content)  # which stays, as messages name its lines
    load(copy)


def members_of(module: str | None = None) -> list[Any]:
    """Returns the members of all families: those of a module, or all that are not neurosim's."""
    members = (member for family in FAMILIES.values() for member in family.values())
    if module is None:
        return [m for m in members if m.__module__.split(".")[0] != "neurosim"]
    return [member for member in members if member.__module__ == module]


def forget(module: str) -> None:
    """Undoes what loading a module did, as a test of a plugin does."""
    for member in members_of(module):
        member.family.remove(member.kind)
    sys.modules.pop(module, None)


def in_force() -> list[Plugin]:
    """Returns the plugins that the families have members of."""
    found = []
    for module in dict.fromkeys(member.__module__ for member in members_of()):
        file = getattr(sys.modules.get(module), "__file__", None)
        if module.startswith(_PREFIX):
            found.append(Plugin(str(file), module.removeprefix(_PREFIX)))
        elif file is not None:  # else it was typed into a session of Python
            names = metadata.packages_distributions().get(module.split(".")[0], ())
            package = "".join(f"{name} {metadata.version(name)}" for name in names[:1]) or None
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            found.append(Plugin(file, digest, package))
    return found


def comment() -> str:
    """Returns the plugins in force as comment lines of a document."""
    lines = (f"# plugin {Path(p.file).name}, SHA-256 {p.sha256}\n" for p in in_force())
    return "".join(lines)


def require(plugins: Iterable[Plugin]) -> None:
    """Raises PluginError where one is not in force, or has another content, naming its file."""
    known = {plugin.sha256: Path(plugin.file) for plugin in in_force()}
    for plugin in (plugin for plugin in plugins if plugin.sha256 not in known):
        path, began = Path(plugin.file), f"the run began with (SHA-256 {plugin.sha256[:12]}…)"
        how = f"install {plugin.package}" if plugin.package else f"add --plugin {path}"
        said = f"{path}:1: this plugin, which {began}, is not in force; {how}"
        for digest in (digest for digest, other in known.items() if other.name == path.name):
            said = f"{known[digest]}:1: not the content that {began}, but {digest[:12]}…; "
            said += "put it back, or run anew"
        raise PluginError(said)


def fault(error: BaseException, where: str) -> PluginError:
    """Says what a plugin's code raised, and the line of its file, if ``where`` is not closer."""
    if isinstance(error, PluginError):
        return error
    if isinstance(error, SyntaxError) and error.filename:
        return PluginError(f"{error.filename}:{error.lineno}: {error.msg}")
    file = where.rpartition(":")[0]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    place = f"{file}:{lines[-1]}" if lines else where
    return PluginError(f"{place}: {type(error).__name__}: {error}")
