"""Malformed scenarios, networks, data and overrides: an error with its line, and no traceback.

What is wrong and what must be said about it is in ``data/malformed``; mutations of the shipped
files are in test_mutations.py, data that do not fit in test_malformed_data.py.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from malformed import CHAIN, FOLDER, GRAPH, MARK, SCENARIO, bounded_memory, check, refused

from neurosim.cli.main import main

LINES = SCENARIO.splitlines()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the base files, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "net.yaml").write_text(CHAIN)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    with bounded_memory():
        yield


# ---- the list ----------------------------------------------------------------------------------


def cases(name: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """(title, text, what is expected) of each edit of a base file."""
    base = (FOLDER / f"{name}.yaml").read_text()
    found = []
    for block in (FOLDER / f"{name}.txt").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        text, expected = "\n" + base, tuple(line for line in lines if line[0] not in "-+")
        for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", "\n".join([*lines, ""]), re.M):
            old, new = (re.sub("^.", "", part, flags=re.M) for part in (old, new))
            assert text.count("\n" + old) == 1, block
            text = text.replace("\n" + old, "\n" + new)
        if expected:
            found.append((f"{name}, {expected[0]}", text[1:], expected))
    return found


ALL = [case for name in ("scenario", "chain", "graph") for case in cases(name)]


def test_the_base_files_are_valid() -> None:
    for network in (CHAIN, GRAPH):
        Path("net.yaml").write_text(network)
        text = SCENARIO if network is CHAIN else SCENARIO.replace("    h2:", "    skip:")
        Path("scenario.yaml").write_text(text)
        result = CliRunner().invoke(main, ["validate", "scenario.yaml"])
        assert result.exit_code == 0, result.output
    assert len(ALL) >= 250


@pytest.mark.parametrize(("title", "text", "expected"), ALL, ids=[title for title, _, _ in ALL])
def test_the_list(title: str, text: str, expected: tuple[str, ...]) -> None:
    if title.startswith("scenario"):
        Path("scenario.yaml").write_text(text)
        check(refused("validate", "scenario.yaml"), "scenario.yaml", expected)
        return
    # A network by itself, from a scenario (the error still is in the network's file), and in one.
    Path("net.yaml").write_text(text)
    check(refused("networks", "net.yaml"), "net.yaml", expected)
    check(refused("validate", "scenario.yaml"), "net.yaml", expected)
    inline = "".join(f"  {line}\n" for line in text.splitlines())
    Path("inline.yaml").write_text(SCENARIO.replace(" net.yaml\n", f"\n{inline}", 1))
    if not re.search(": (a tab|the key '.*' is already)", expected[0]):  # of the YAML, not of a key
        moved = tuple(shifted(line) for line in expected)
        check(refused("validate", "inline.yaml"), "inline.yaml", moved)


def shifted(line: str) -> str:
    """What is expected of a network file, inside of a scenario: from line 3 and column 3 on."""
    row, column, rest = line.split(":", 2)
    inner = re.match(r" [a-z0-9_.\[\]]+:", rest)
    path = f"network.{rest[1:]}" if inner else f"network:{rest}"
    return f"{int(row) + 2}:{int(column) + 2}: {path}"


# ---- every key and every value -----------------------------------------------------------------

LEAVES = [n for n, line in enumerate(LINES, 1) if re.search("[a-z_]+: .", line)]
# Where a slip leaves out what is needed, more than the slip is reported.
NEEDED = {1, 2, 3, 4, 8, 16, 17, 19, 20, 24, 31, 38, 42, 50, 51, 60}
NOWHERE = (
    "[[]]",
    "{a: 1}",
    ".nan",
    "-1",
    "1e400",
    "2026-01-01",
    "*a",
    "&a 1",
    "!!int 1",
    "}",
    "@x",
)


def edited(number: int, line: str) -> list[str]:
    """What is said about the scenario with another line."""
    Path("scenario.yaml").write_text("\n".join([*LINES[: number - 1], line, *LINES[number:]]))
    return refused("validate", "scenario.yaml")


@pytest.mark.parametrize("number", LEAVES, ids=lambda number: LINES[number - 1].strip())
def test_bad_values_of_every_key(number: int) -> None:
    start = LINES[number - 1].partition(": ")[0] + ": "
    for value in NOWHERE:
        lines = edited(number, start + value)
        for line in lines:
            assert line.startswith(f"scenario.yaml:{number}:"), (value, line)
        assert any(line.startswith(f"scenario.yaml:{number}:{len(start) + 1}:") for line in lines)


@pytest.mark.parametrize(
    "number", sorted({*range(1, len(LINES) + 1)} - NEEDED), ids=lambda n: LINES[n - 1].strip()
)
def test_a_slip_in_every_key(number: int) -> None:
    start, _, rest = LINES[number - 1].partition(":")
    key = start.strip(" -")
    (line,) = edited(number, f"{start}{key[-1]}:{rest}")
    assert line.startswith(f"scenario.yaml:{number}:{len(start) - len(key) + 1}: ")
    assert line.endswith(f"unknown key {key + key[-1]!r}; did you mean {key!r}?")


# ---- files -------------------------------------------------------------------------------------

FILES = [
    (b"", "1:1: the document is empty; write 'key: value' lines"),
    (b"# nothing\n", "1:1: the document is empty; write 'key: value' lines"),
    (b"null", "1:1: expected a mapping with "),
    (b"name", "1:1: expected a mapping with "),
    (b"- name: x", "1:1: expected a mapping with "),
    (b"\x89PNG\r\n\x1a\n", "1:1: byte 0x89 is not UTF-8; save the file as UTF-8"),
    (b"PK\x03\x04\x14\0\0\0", "1:3: the character U+0003 cannot be used"),
    (b"\x7fELF\x02\x01", "1:1: the character U+007F cannot be used"),
    (b"name: base\nseed: \xff\n", "2:7: byte 0xff is not UTF-8; save the file as UTF-8"),
    (SCENARIO.encode("utf-16"), "1:1: this is UTF-16; save the file as UTF-8"),
    (gzip.compress(b"name: base", mtime=0), "1:2: byte 0x8b is not UTF-8"),
    (b"name: x\n" * 200_000, "1:1: larger than 1048576 bytes"),
    (b"[" * 1000, "1:34: nested more than 32 deep"),
    (b"rule:\n\talpha: 0.5", "2:1: a tab cannot stand here; indent with spaces"),
    (b"rule:\n  alpha:\t0.5", "2:9: a tab cannot stand here; indent with spaces"),
    (b"seed: 0\n\0", "2:1: the character U+0000 cannot be used"),
    (b"name: base # \x07\n", "1:14: the character U+0007 cannot be used"),
    (b"seed: 0\r\nseed: 1\r\n", "2:1: the key 'seed' is already in line 1; remove one"),
]


@pytest.mark.parametrize(("content", "expected"), FILES, ids=[said for _, said in FILES])
def test_files_of_something_else(content: bytes, expected: str) -> None:
    Path("junk.yaml").write_bytes(content)
    Path("scenario.yaml").write_text(SCENARIO.replace("net.yaml", "junk.yaml"))
    check(refused("validate", "junk.yaml"), "junk.yaml", (expected,))
    check(refused("run", "junk.yaml"), "junk.yaml", (expected,))
    check(refused("networks", "junk.yaml"), "junk.yaml", (expected,))
    check(refused("validate", "scenario.yaml"), "junk.yaml", (expected,))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (line,) = refused("validate", "scenaro.yaml")
    assert line == "scenaro.yaml:1:1: no such file; did you mean 'scenario.yaml'?"
    check(refused("validate", "folder"), "folder", ("1:1: is a folder; name a YAML file in it",))


@pytest.mark.parametrize("name", ["nte.yaml", "folder", "''", "~", "no/where.yaml", "/"])
def test_a_network_that_cannot_be_read_is_named_at_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    text = SCENARIO.replace("network: net.yaml", f"network: {name}")
    Path("scenario.yaml").write_text(text)
    if name == "~":  # which is null
        check(refused("validate", "scenario.yaml"), "scenario.yaml", ("2:10: network: expected",))
        return
    (line,) = refused("validate", "scenario.yaml")
    assert line.startswith("scenario.yaml:2:10: network: "), line
    assert name.strip("'") in line
    assert ("did you mean 'net.yaml'?" in line) == (name == "nte.yaml")


# ---- overrides ---------------------------------------------------------------------------------

OVERRIDES = [
    (["rule.alpha=2"], "1:1: rule.alpha: must be at most 1, got 2"),
    (["seed=1", "rule.alhpa=0.5"], "2:1: rule: unknown key 'alhpa'; did you mean 'alpha'?"),
    (["rule.alpha"], "1:1: in the argument 'rule.alpha': write it as key.path=value"),
    (["=3"], "1:1: in the argument '=3': write it as key.path=value"),
    (["seed="], "1:1: in the argument 'seed=': there is no value after '='"),
    (["seed=[1"], "1:1: in the argument 'seed=[1': add ',' or ']'"),
    (["seed=*a"], "1:1: in the argument 'seed=*a': aliases are not supported"),
    (["a..b=1"], "1:1: in the argument 'a..b=1': 'a..b' is no key"),
    (["probes[5]=loss"], "1:1: in the argument 'probes[5]=loss': there is no item 5 in"),
    (["probes.x=loss"], "1:1: in the argument 'probes.x=loss': 'probes' is a list; name"),
    (["loss.kind=x"], "1:1: in the argument 'loss.kind=x': 'loss' is 'squared_error'"),
    (["rule[0]=x"], "1:1: in the argument 'rule[0]=x': 'rule' is no list, so it has no item [0]"),
    (["schedule={kind: lazy}"], "1:1: schedule: needs the key 'duration'"),
    (["channels.mean.delay=-1.5"], "1:1: channels.mean.delay: must be at least 0, got -1.5"),
    (["channels.mean.delay=[1, -2]"], "1:1: channels.mean.delay[1]: delay at index [1] is -2;"),
    (["channels.mean.delay=[[1], [2, 3]]"], "1:1: channels.mean.delay: delay must be a number,"),
    (["channels.mean.delay=[1, 2]"], "1:1: channels.mean.delay: mean channel of project"),
    (
        ["channels.mean.delay={kind: uniform, low: 3, high: 2}"],
        "1:1: channels.mean.delay.low: low is 3, above high, which is 2",
    ),
    (
        ["channels.mean.jitter={kind: uniform, low: 0, high: 2, per: synapse}"],
        "1:1: channels.mean.jitter: jitter is drawn per message; it cannot be per synapse",
    ),
    (["channels.mean.loss=1.5"], "1:1: channels.mean.loss: must be at most 1, got 1.5"),
    (["channels.mean.loss=-0.5"], "1:1: channels.mean.loss: must be at least 0, got -0.5"),
    (["channels.mean.refresh=0"], "1:1: channels.mean.refresh: must be at least 1, got 0"),
    (["channels.mean.noise=-0.5"], "1:1: channels.mean.noise: must be at least 0, got -0.5"),
    (
        ["channels.overrides.out.mean.quantize={bits: 4, range: 0}"],
        "1:1: channels.overrides.out.mean.quantize.range: range is 0; it must be greater than 0",
    ),
    (
        ["channels.mean.quantize={bits: 4, range: [1, 1]}"],
        "1:1: channels.mean.quantize.range: range is [1, 1]; the first number must be below",
    ),
    (
        ["channels.difference.quantize={bits: 1, range: 1}"],
        "1:1: channels.difference.quantize.bits: bits is 1; with this range it must be from 2 to",
    ),
    (["channels.mean.delay=[true, false]"], "1:1: channels.mean.delay: delay must be a number,"),
    (["channels.mean.delay=['1', '2']"], "1:1: channels.mean.delay: delay must be a number,"),
    (["channels.mean.delay=1e25"], "1:1: channels.mean.delay: mean channel of projection 'h1': de"),
    (
        ["channels.mean.jitter={kind: uniform, low: 0, high: 2e4}"],
        "1:1: channels.mean.jitter: mean channel of projection 'h1': a message takes up to 20000,",
    ),
    (
        ["channels.overrides.h1.difference.delay=2"],
        "1:1: channels.overrides.h1.difference: projection 'h1' comes from the input, which is",
    ),
    (["channels.mean.quantize={bits: 4, range: 1e300}"], "1:1: channels.mean.quantize.range: must"),
    (["faults.stuck_at=1e300"], "1:1: faults.stuck_at: must be at most"),
    (["faults.dead=1.5"], "1:1: faults.dead: must be at most 1, got 1.5"),
    (["faults.dead=0.6", "faults.stuck=0.6"], "2:1: faults.stuck: dead is 0.6 and stuck is 0.6: "),
    (["faults={dead: 0.1, populations: [h1, h9]}"], "1:1: faults.populations[1]: unknown popul"),
    (["faults.weight_noise=-1"], "1:1: faults.weight_noise: must be at least 0, got -1"),
    (["channels.overrides.h9.mean.delay=1"], "1:1: channels.overrides.h9: unknown projection 'h9'"),
    (["rule.nudge=prediction", "init=carry"], "2:1: init: the nudge 'prediction' needs init"),
    (["rule.nudge=proximal", "loss=cross_entropy"], "2:1: loss: the nudge 'proximal' is"),
    (["seed=0", "probes=[wakes, wakes]"], "2:1: probes[1]: the probe 'wakes' is named twice"),
    (["network=nowhere.yaml"], "1:1: network: "),
    (["network={input: 64, layers: []}"], "1:1: network.layers: needs at least 1 item(s), got 0"),
    (["network={input: 64, layers: [{dense: 10}]}"], "scenario.yaml:32:7: channels.overrides.h2:"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "expected"), OVERRIDES, ids=[str(o) for o, _ in OVERRIDES])
def test_overrides(overrides: list[str], expected: str) -> None:
    line = refused("validate", "scenario.yaml", *overrides)[0]
    file = "" if expected.startswith("scenario") else "<command line>:"
    assert line.startswith(file + expected), line


# ---- several things ----------------------------------------------------------------------------


def test_all_problems_at_once_in_the_order_of_the_lines() -> None:
    slips = {"alpha: 0.5": "alpha: 2", "loss: sq": "loss: s", "kind: adam": "kind: adm"}
    text = SCENARIO.replace("seed: 0", "seed: -1").replace("name: base", "nmae: base")
    for old, new in slips.items():
        text = text.replace(old, new)
    Path("scenario.yaml").write_text(text)
    marks = [MARK.fullmatch(line) for line in refused("validate", "scenario.yaml")]
    assert [int(mark[2]) for mark in marks if mark] == [1, 1, 10, 14, 38, 53]


BACK = GRAPH + "  - {from: h1, to: c1, name: back}\n"
SETTLED = "training.evaluation=settled"
CYCLES = [
    ([], "scenario.yaml:47:15: training.evaluation: the network has a cycle"),
    ([SETTLED, "init=feedforward"], "<command line>:2:1: init: "),
    ([SETTLED, "probes=[gradient_angle]"], "<command line>:2:1: probes: gradient_angle compares"),
    (
        [SETTLED, "nudge_after=null", "schedule={kind: parallel}"],
        "<command line>:3:1: schedule: the network has a cycle",
    ),
]


@pytest.mark.parametrize(("overrides", "expected"), CYCLES, ids=[said for _, said in CYCLES])
def test_networks_with_a_cycle(overrides: list[str], expected: str) -> None:
    Path("net.yaml").write_text(BACK)
    Path("scenario.yaml").write_text(SCENARIO.replace("    h2:", "    back:"))
    (line,) = refused("validate", "scenario.yaml", *overrides)
    assert line.startswith(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    Path("scenario.yaml").write_text(SCENARIO.replace("device: cpu", "device: cuda"))
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith("scenario.yaml:54:9: device: device is 'cuda', but torch ")
    assert not Path("runs").exists()
