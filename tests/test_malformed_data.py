"""Data and folders that cannot be used: an error with a line, and nothing is made."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from malformed import CHAIN, SCENARIO, refused

from neurosim.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the base files, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "net.yaml").write_text(CHAIN)
    return tmp_path


# ---- data --------------------------------------------------------------------------------------


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + values


def write_mnist(folder: Path, count: int = 20) -> None:
    """Small files in MNIST's format."""
    folder.mkdir()
    for part in ("train", "t10k"):
        images = idx((count, 28, 28), bytes(count * 784))
        labels = idx((count,), bytes(n % 10 for n in range(count)))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


DAMAGE = [
    ("train-images-idx3-ubyte", None, "none of train-images-idx3-ubyte, "),
    ("train-images-idx3-ubyte", b"", "images-idx3-ubyte: not an IDX file"),
    ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0", "ubyte: truncated within its header"),
    ("train-images-idx3-ubyte", idx((20, 28, 28), b"12"), "ubyte: truncated to 2 bytes"),
    ("train-images-idx3-ubyte", idx((1, 28, 28), bytes(785)), "ubyte: trailing bytes"),
    ("train-images-idx3-ubyte", idx((2**31, 28, 28), b""), "images-idx3-ubyte: announces "),
    ("train-images-idx3-ubyte", idx((20, 8, 8), bytes(1280)), "ubyte: images are (8, 8)"),
    ("t10k-labels-idx1-ubyte", idx((3,), b"123"), "holds 20 images but "),
    ("t10k-labels-idx1-ubyte", idx((20,), bytes(19) + b"\x0a"), "label 10 at index 19"),
    ("t10k-labels-idx1-ubyte", None, "none of t10k-labels-idx1-ubyte"),
    ("train-labels-idx1-ubyte.gz", b"\x1f\x8b\x08", "not an intact gzip file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), DAMAGE, ids=[said for *_, said in DAMAGE])
def test_damaged_mnist(here: Path, name: str, content: bytes | None, said: str) -> None:
    write_mnist(here / "mnist")
    (here / "mnist" / name.removesuffix(".gz")).unlink()
    if content is not None:
        (here / "mnist" / name).write_bytes(content)
    text = SCENARIO.replace("name: digits", "name: mnist\n  root: mnist")
    Path("scenario.yaml").write_text(text)
    Path("net.yaml").write_text(CHAIN.replace("64", "784"))
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith("scenario.yaml:5:9: data.root: ")
    assert said in line
    assert not Path("runs").exists()


def test_undamaged_mnist(here: Path) -> None:
    """The test above would be worth little if these files were wrong anyway."""
    write_mnist(here / "mnist")
    text = SCENARIO.replace("name: digits", "name: mnist\n  root: mnist").replace("50", "5")
    Path("scenario.yaml").write_text(text)
    Path("net.yaml").write_text(CHAIN.replace("64", "784"))
    result = CliRunner().invoke(main, ["run", "scenario.yaml"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("folder", ["nowhere", "net.yaml", "/", "''"])
def test_no_mnist_there(folder: str) -> None:
    root = f"name: mnist\n  root: {folder}"
    Path("scenario.yaml").write_text(SCENARIO.replace("name: digits", root))
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith("scenario.yaml:5:9: data.root: ")
    there = "put MNIST's four IDX files there, or give the folder that has them, or fetch them: "
    absent = "no such folder; give the one that has MNIST's four IDX files, or fetch them: "
    assert (there if folder in ("/", "''") else absent) in line


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limit: 200", "limit: 59"),
        ("batch_size: 50", "batch_size: 191"),
        ("batch_size: 50", "batch_size: 201"),
        ("validation: 10", "validation: 151"),
        ("validation: 10", "validation: 200"),
        ("validation: 10", "validation: 1000000"),
    ],
)
def test_too_few_images(old: str, new: str) -> None:
    Path("scenario.yaml").write_text(SCENARIO.replace(old, new))
    (line,) = refused("run", "scenario.yaml")
    # The line of any of the three that do not go together.
    assert re.match("scenario.yaml:(5:15|6:10|48:15): (data|training)[.]", line), line
    assert "-" not in line.partition(": ")[2]  # no negative number of images
    assert not Path("runs").exists()


NETWORKS = [
    ("input: [64]", "input: [65]", "samples of shape (1, 8, 8) (64 values) cannot be given the"),
    ("dense: 10", "dense: 11", "digits has 10 classes, but the output population 'output' has 11"),
    ("dense: 10", "dense: 9", "digits has 10 classes, but the output population 'output' has 9"),
]


@pytest.mark.parametrize(("old", "new", "said"), NETWORKS, ids=[said for *_, said in NETWORKS])
def test_networks_that_do_not_fit_the_data(old: str, new: str, said: str) -> None:
    Path("net.yaml").write_text(CHAIN.replace(old, new))
    (line,) = refused("run", "scenario.yaml")
    assert re.match("scenario.yaml:(2|3|4):[0-9]+: (network|data): ", line)
    assert said in line


# ---- folders -----------------------------------------------------------------------------------


def test_run_folders_that_cannot_be(here: Path) -> None:
    (here / "file").write_text("")
    (here / "runs" / "base" / "taken").mkdir(parents=True)
    for arguments, said in [
        (["--out", "file"], "file"),
        (["--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--id", "taken"], "taken: exists already; choose another id"),
        (["--id", "a/b"], "the id 'a/b' must be a plain folder name"),
        (["--id", ""], "the id '' must be a plain folder name"),
        (["--id", ".."], "the id '..' must be a plain folder name"),
        (["--id", "x" * 300], "name too long"),
    ]:
        result = CliRunner().invoke(main, ["run", "scenario.yaml", *arguments])
        assert result.exit_code == 2, (arguments, result.output, result.exception)
        assert result.stderr.startswith("error: ")
        assert said.lower() in result.stderr.lower(), arguments
    assert sorted(path.name for path in here.iterdir()) == [
        "file",
        "net.yaml",
        "runs",
        "scenario.yaml",
    ]
