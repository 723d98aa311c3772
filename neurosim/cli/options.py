"""What several commands share: arguments, options, consoles, and how they end."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
from click.shell_completion import CompletionItem

from neurosim import base
from neurosim.base import find_file, shipped_files

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
SEEDS = click.IntRange(1, 10_000)
INTERRUPTED = 130  # what a shell expects after Ctrl-C
WIDE = 1000  # columns, of a file or a pipe


class _File(click.Path):
    """A file, or the plain name of one that ships with the package."""

    def __init__(self, *kinds: str) -> None:
        super().__init__(path_type=Path)
        self._kinds = kinds

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        return find_file(str(value))

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        found = names_of_shipped(*self._kinds, begin=incomplete)
        if not found:
            return super().shell_complete(ctx, param, incomplete)
        # Bash forgets all names as soon as it is told that files may follow, too.
        return [CompletionItem(name) for name in (*found, *_here(incomplete))]


def names_of_shipped(*kinds: str, begin: str = "") -> list[str]:
    """Returns the names of what ships with the package that begin so."""
    return [name for kind in kinds for name in shipped_files(kind) if name.startswith(begin)]


def _here(begin: str) -> list[str]:
    """The files and folders here that begin so, and are not hidden."""
    found = sorted(path for path in Path().iterdir() if path.name.startswith(begin))
    seen = [path for path in found if begin or not path.name.startswith(".")]
    return [f"{path.name}{os.sep * path.is_dir()}" for path in seen]


def terminal() -> "Console":
    """Makes the console that results are printed on. A file or a pipe has no width to fit."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE)


@contextmanager
def warnings_in_words() -> Iterator[None]:
    """Shows the program's own warnings as it shows its errors, each once."""
    shown, said = warnings.showwarning, set[str]()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, base.NeurosimWarning):
            shown(message, category, filename, lineno, file, line)
        elif str(message) not in said and base.leads():
            said.add(str(message))
            click.echo(f"warning: {base.harmless(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", base.NeurosimWarning)
        warnings.showwarning = show
        yield


def complain(text: str) -> None:
    """Prints why the program ends: once, where torchrun has started several of it."""
    if (launch := base.Launch.read()).size > 1:
        from neurosim.learning import says

        if not says(launch):
            return
        text += f" (process {launch.rank} of {launch.size})"
    click.echo(f"error: {base.harmless(text)}", err=True)


def _load_plugins(context: click.Context, option: click.Parameter, files: Sequence[Path]) -> None:
    """Loads what is installed, and the files that are named, before the command reads anything."""
    from neurosim.families import plugins

    plugins.load_installed()
    for file in files:
        plugins.load(file)


def _console(context: click.Context, option: click.Parameter, quiet: bool) -> Any:
    """Makes where a command tells what it does, unless it is to be quiet."""
    from rich.console import Console

    return Console(quiet=quiet or not base.leads(), highlight=False)


def option(*names: str, help: str, example: str, **how: Any) -> Callable[[F], F]:
    """Makes an option whose help ends with an example."""
    return click.option(*names, help=f"{help} Example: {example}", **how)


FILE = click.argument("file", type=_File("scenarios"))
NETWORK = click.argument("file", type=_File("networks", "scenarios"))
RUN = click.argument("folder", type=PATH)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
DEVICE = option(
    "--device",
    metavar="NAME",
    help="auto, cpu, cuda or cuda:N; the same as device=NAME.",
    example="--device cuda:1",
)
OUT = option(
    "--out",
    type=PATH,
    default=Path("runs"),
    show_default=True,
    help="Folder for run folders.",
    example="--out /scratch/runs",
)
RUN_ID = option(
    "--id",
    "run_id",
    help="Name of the run's folder (default: the time).",
    example="--id first-try",
)
JOBS = option(
    "--jobs",
    type=click.IntRange(0, 1024),
    help="Processes (default: as the cores allow; 0: run in this one).",
    example="--jobs 4",
)
EXECUTOR = option(
    "--executor",
    type=click.Choice(["local", "inline", "dask"]),
    default="local",
    show_default=True,
    help="Where runs are computed: processes here, this process, or a Dask cluster.",
    example="--executor dask --scheduler tcp://10.0.0.1:8786",
)
SCHEDULER = option(
    "--scheduler",
    metavar="ADDRESS",
    help="Of a running Dask cluster (or a file that it wrote), or local:N to start N workers here.",
    example="--scheduler local:4",
)
COLLECT = option(
    "--collect",
    is_flag=True,
    help="Workers of Dask send run folders back: they need no folder that all see.",
    example="--collect",
)
DEVICES = option(
    "--devices",
    metavar="NAMES",
    help="Devices of the processes here, each of which sees one.",
    example="--devices cuda:0,cuda:1",
)
PER_DEVICE = option(
    "--per-device",
    type=click.IntRange(1, 1024),
    help="Processes at the same time for each of the devices (default: 1).",
    example="--per-device 4",
)
QUIET = option(
    "--quiet",
    "console",
    is_flag=True,
    callback=_console,
    help="Print only the result.",
    example="--quiet",
)
LIVE = option(
    "--live",
    type=click.IntRange(0, 65535),
    metavar="[PORT]",
    help="Draw the numbers as they come on a page of this machine (default: a free port).",
    example="--live 8765",
)
PLUGIN = option(
    "--plugin",
    multiple=True,
    metavar="FILE.py",
    type=PATH,
    expose_value=False,
    callback=_load_plugins,
    help="Load rules, schedules, … of your own from this file (repeatable).",
    example="--plugin mine.py",
)
DRY_RUN = option(
    "--dry-run",
    is_flag=True,
    help="Check everything, print what would be run, and write nothing.",
    example="--dry-run",
)


class _Output:
    """Writes to a stream for as long as somebody reads it: a closed pipe or a full disk behind it
    costs its text and not the run. What it has no letters for becomes question marks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._open = stream, True

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        self._try(self._stream.write, text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable[..., Any], *arguments: str) -> None:
        try:
            if self._open:
                act(*arguments)
        except (OSError, ValueError):
            self._open = False
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())  # or the end would fail again

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Lets a command go on when nobody reads what it says any more."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (s if s is None else _Output(s) for s in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _places(option: str, value: str) -> str:
    """Says where a scenario has the key that somebody took for an option, with what follows it."""
    from neurosim.scenario import places_of

    key, said = option.lstrip("-").replace("-", "_"), "Values of the scenario are written KEY=VALUE"
    if "=" in value and not value.startswith("-"):  # as in --set seed=2
        return f" {said}, without an option: {value}."
    written = [f"{key}=VALUE"] if "." in key else [f"{place}=VALUE" for place in places_of(key)]
    return f" {said}: {' or '.join(written)}." if written else f" {said}, without dashes."


class _Command(click.Command):
    """Lets --live stand without a port, whatever follows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        pairs = [*pairwise([*args, ""])]
        bare = (one == "--live" and not other.isdigit() for one, other in pairs)
        try:
            return super().parse_args(ctx, [a + "=0" * b for a, b in zip(args, bare, strict=True)])
        except click.NoSuchOption as error:
            if not any(one.name == "overrides" for one in self.params):
                raise
            option = error.option_name
            parts = ((*one.partition("="), other) for one, other in pairs)
            value = next((own or other for name, _, own, other in parts if name == option), "")
            said = error.message + _places(option, value)
            raise click.NoSuchOption(error.option_name, said, error.possibilities, ctx) from None


def command(*parts: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command of a function, its arguments and options, in the order of its help."""

    def make(function: Callable[..., None]) -> click.Command:
        for part in reversed(parts):
            function = part(function)
        return click.command(cls=_Command)(function)

    return make


def given(file: Path, overrides: Sequence[str], device: str | None = None) -> list[str]:
    """Returns the overrides of a scenario, and the device where one is named."""
    more = [] if device is None else [f"device={device}"]
    return [*base.given(file, overrides), *more]


def own_process(how: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a function of Python, for a process that is there for it alone: it
    keeps memory that arrays give back, and what it has loaded."""
    from neurosim.base import spare_loaded
    from neurosim.tensors import keep_memory

    keep_memory()
    spare_loaded()
    return {("progress" if key == "console" else key): value for key, value in how.items()}


def executor(how: dict[str, Any]) -> Any:
    """Takes the options of executors out of ``how``, and returns the executor.

    Returns None where ``jobs`` alone says it. Raises ConfigurationError for what does not fit.
    """
    from neurosim.base import ConfigurationError
    from neurosim.runs import Dask, Inline, Local

    kind, jobs = how.pop("executor"), how.get("jobs")
    names = ("scheduler", "collect", "devices", "per_device")
    given = {name: how.pop(name) for name in names}
    allowed = {"dask": names[:2], "local": names[2:], "inline": ()}[kind]
    chosen = {name for name, value in given.items() if value} | ({"jobs"} if jobs else set())
    allowed += ("jobs",) if kind == "local" and not given["devices"] else ()
    if wrong := sorted(chosen - set(allowed)):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        beside = " with --devices" if given["devices"] and kind == "local" else ""
        raise ConfigurationError(f"{flags} does not go with --executor {kind}{beside}")
    if kind == "dask":
        scheduler = given["scheduler"] or os.environ.get("DASK_SCHEDULER_ADDRESS")
        if not scheduler:
            said = "say where the cluster is: --scheduler ADDRESS, or --scheduler local:N"
            raise ConfigurationError(said)
        return Dask(scheduler, given["collect"])
    if kind == "inline":
        return Inline()
    if given["devices"]:
        return Local(1, tuple(given["devices"].split(",")), given["per_device"] or 1)
    if given["per_device"]:
        raise ConfigurationError("--per-device says how many for each of --devices; name them")
    return None
