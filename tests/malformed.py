"""What the tests of malformed files share: valid files to start from, and what an error must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurosim.cli.main import main

FOLDER = Path(__file__).parent / "data" / "malformed"
SCENARIO, CHAIN, GRAPH = (
    (FOLDER / f"{name}.yaml").read_text() for name in ("scenario", "chain", "graph")
)
MARK = re.compile(r"([^\n]+?):([0-9]+):([0-9]+): [^\n]+")


def refused(*arguments: str | Path) -> list[str]:
    """Runs a command that must fail with exit code 2; its lines, without "error: "."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    lines = result.stderr.removeprefix("error: ").splitlines()
    for line in lines:
        assert MARK.fullmatch(line), line
    return lines


def check(lines: list[str], file: str | Path, expected: tuple[str, ...]) -> None:
    """The error is about these places in the file, and says these things."""
    shown = "\n".join(lines)
    assert len(lines) == len(expected), shown
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(f"{file}:{start}"), shown


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What asks for too much must be refused, not tried: the machine is shared."""
    memory = Path("/proc/self/statm")
    if not memory.is_file():  # only Linux says how much is in use
        yield
        return
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(memory.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
