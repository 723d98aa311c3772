"""The commands about the installation: ``neurosim examples``, ``doctor`` and ``completion``."""

import os
import re
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import click

from neurosim._version import __version__
from neurosim.base import (
    DataError,
    about,
    find_file,
    shipped_files,
    shipped_folder,
    write_atomic,
)
from neurosim.cli import options

KINDS = ("scenarios", "networks")
SHELLS = ("bash", "zsh", "fish")


@options.command(
    click.argument(
        "name",
        required=False,
        shell_complete=lambda ctx, param, begin: options.names_of_shipped(*KINDS, begin=begin),
    ),
    options.option(
        "--to",
        type=options.FOLDER,
        help="Copy it, and the files that it names, into this folder.",
        example="neurosim examples poisson --to .",
    ),
)
def examples(name: str | None, to: Path | None) -> None:
    """List the scenarios and networks that ship with the package, or print or copy one of them.

    Commands find them by name: neurosim run random_order.
    """
    if name is None:
        if to is not None:
            raise DataError(f"--to {to}: which one? Say it: neurosim examples NAME --to {to}")
        for kind in KINDS:
            click.echo(f"{kind}:")
            for stem, path in shipped_files(kind).items():
                click.echo(f"  {stem:<29}  {about(path)}")
        return
    path = find_file(name)
    if to is None:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    for source in _belonging(path):
        target = to / source.relative_to(shipped_folder())
        text = source.read_text(encoding="utf-8")
        if target.exists() and target.read_text(encoding="utf-8") != text:
            raise DataError(f"{target}: is there and differs; copy into another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, text)
        click.echo(f"copied         {target}")


def _belonging(path: Path) -> list[Path]:
    """The shipped file, its defaults, and its network."""
    from neurosim import documents

    document = documents.load(path)
    files = [str(path), *(key.file for key, _ in document.marks.values())]
    if isinstance(document.value.get("network"), str):
        files.append(documents.load_part(document, ("network",)).file)
    return [Path(file) for file in dict.fromkeys(map(os.path.normpath, files))]


@options.command()
def doctor() -> None:
    """Say what this installation can do: versions, processor, devices, extras, examples."""
    import torch

    from neurosim.tensors import describe_machine

    machine = describe_machine()
    cuda = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    found = [
        ("neurosim", f"{__version__} in {Path(__file__).parents[1]}"),
        *((key, str(machine[key])) for key in ("python", "torch", "numpy", "simpy")),
        ("system", str(machine["system"])),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("threads", f"{machine['threads']} of torch"),
        ("memory", f"{int(machine['memory_bytes']) / 2**30:.1f} GiB"),
        ("device", "cpu"),
        *(("device", f"cuda:{number}, {name}") for number, name in enumerate(cuda)),
        *(("extra", line) for line in _extras()),
        *(("plugin", entry.value) for entry in metadata.entry_points(group="neurosim.plugins")),
        *((kind, f"{len(shipped_files(kind))}: neurosim examples") for kind in KINDS),
    ]
    for title, text in found:
        click.echo(f"{title:<14} {text}")


def _extras() -> list[str]:
    """A line for each extra of the installed package: what it brings, or how to get it."""
    try:
        requirements = metadata.requires("neurosim") or []
    except metadata.PackageNotFoundError:
        return ["unknown: neurosim is not installed, only imported from its folder"]
    extras = defaultdict[str, dict[str, str | None]](dict)
    for requirement in requirements:
        if found := re.match(r"([\w.-]+).*;.*\bextra == ['\"]([\w-]+)['\"]", requirement):
            try:
                version: str | None = metadata.version(found[1])
            except metadata.PackageNotFoundError:
                version = None
            extras[found[2]][found[1]] = version
    lines = []
    for name, parts in extras.items():
        there = ", ".join(f"{part} {version}" for part, version in parts.items() if version)
        missing = ", ".join(part for part, version in parts.items() if not version)
        how = f"lacks {missing}: pip install 'neurosim[{name}]'" if missing else ""
        lines.append(f"{name}: {'; '.join(part for part in (there, how) if part)}")
    return lines


@options.command(click.argument("shell", type=click.Choice(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names of examples.

    \b
    bash, zsh   eval "$(neurosim completion bash)"      in ~/.bashrc or ~/.zshrc
    fish        neurosim completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "neurosim", "_NEUROSIM_COMPLETE").source())
