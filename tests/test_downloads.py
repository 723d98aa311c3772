"""Downloading, from a server on this machine: what is fetched, where it is put, what is refused."""

from __future__ import annotations

import io
import itertools
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mirror import Mirror, below, cifar10_members
from rich.console import Console
from small_cifar import imagenet32

from neurosim.base.errors import ConfigurationError, DataError
from neurosim.cli.main import main
from neurosim.data import DataSource, Remote
from neurosim.data.downloads import fetch, find
from neurosim.runs.listeners.display import DownloadDisplay

MNIST = [f"{p}-{k}-ubyte.gz" for p in ("t10k", "train") for k in ("images-idx3", "labels-idx1")]
CIFAR10 = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
SVHN = ["test_32x32.mat", "train_32x32.mat"]
SUMS = "/SHA256SUMS"
LAYOUT = {
    "mnist": MNIST,
    "fashion_mnist": ["fashion-mnist", *(f"fashion-mnist/{name}" for name in MNIST)],
    "kmnist": ["kmnist", *(f"kmnist/{name}" for name in MNIST)],
    "cifar10": [f"cifar-10-batches-bin{name}" for name in ("", SUMS, *(f"/{n}" for n in CIFAR10))],
    "cifar100": [f"cifar-100-binary{name}" for name in ("", SUMS, "/test.bin", "/train.bin")],
    "svhn": SVHN,
}
ASKED = {
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), MNIST),
    "cifar10": ["cifar-10-binary.tar.gz"],
    "cifar100": ["cifar-100-binary.tar.gz"],
    "svhn": SVHN,
}
IMAGES = {
    **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), (60, 40)),
    "cifar10": (20, 4),
    "cifar100": (6, 5),
    "svhn": (6, 5),
}
NAMES = list(LAYOUT)
OFFICIAL = {name: data.remotes for name, data in DataSource.family.items() if data.remotes}


def download(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["download", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(*arguments: str | Path) -> str:
    """The one line of an error."""
    result = download(*arguments, "--quiet", code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def ignore(remote: Remote, done: int) -> None:
    del remote, done


# ---- the official sources ----------------------------------------------------------------------


def test_the_official_sources() -> None:
    """As torchvision and TensorFlow Datasets list them; sizes that the readers will accept."""
    remotes = [remote for source in OFFICIAL.values() for remote in source]
    assert sorted(OFFICIAL) == sorted(NAMES)
    # Their own addresses have no https: the SHA-256 vouches.
    plain = {"kmnist", "fashion_mnist", "svhn"}
    for name, source in OFFICIAL.items():
        scheme = "http://" if name in plain else "https://"
        assert all(remote.url.startswith(scheme) for remote in source)
    assert all(re.fullmatch("[0-9a-f]{64}", remote.sha256) for remote in remotes)
    assert len({remote.sha256 for remote in remotes}) == len(remotes) == 16
    files = {name: size for remote in remotes for name, size in remote.files.items()}
    places = {name for name in files if not (name.endswith(".gz") and "cifar" in name)}
    ends = (".bin", ".gz", ".mat")
    assert places == {n for names in LAYOUT.values() for n in names if n.endswith(ends)}
    for name, size in files.items():
        if name.startswith("cifar-10-"):
            assert size == 10_000 * 3073
        elif name.startswith("cifar-100-"):
            assert size == {"train": 50_000, "test": 10_000}[Path(name).stem] * 3074


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "cifar",
            "there is no data set 'cifar' to download, but cifar10, cifar100, fashion_mnist, km",
        ),
        ("", "there is no data set ''"),
        ("digits", "the digits ship with the package"),
        ("imagenet32", "cannot be downloaded without an account: register at https://www.image-"),
    ],
)
def test_what_cannot_be_downloaded(tmp_path: Path, name: str, said: str) -> None:
    assert said in refused(name, "--root", tmp_path / "data")
    assert below(tmp_path) == []
    with pytest.raises(ConfigurationError):
        find(name)


# ---- what is fetched ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_download(mirror: Mirror, tmp_path: Path, name: str) -> None:
    root = tmp_path / "a" / "b c"
    result = download(name, "--root", root)
    assert below(root) == LAYOUT[name]
    assert below(tmp_path) == ["a", "a/b c", *(f"a/b c/{file}" for file in LAYOUT[name])]
    assert sorted(mirror.asked) == ASKED[name]
    assert result.stderr == ""
    size = sum(len(mirror.files[file]) for file in ASKED[name])
    train, test = IMAGES[name]
    assert [f"downloading {mirror.address}/{file} (" for file in ASKED[name]] == sorted(
        line.partition("(")[0] + "(" for line in result.stdout.splitlines()[:-3]
    )
    assert result.stdout.splitlines()[-3:] == [
        f"samples        {train} for training, {test} for the test",
        f"downloaded     {size / 1000:,.1f} kB",
        f'in a scenario  data: {{name: {name}, root: "{root}"}}',
    ]
    data = fetch(find(name), root, ignore).data
    assert (len(data.train), len(data.test)) == (train, test)
    mask = os.umask(0)
    os.umask(mask)
    for path in root.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_files_are_those_of_the_server(mirror: Mirror, tmp_path: Path) -> None:
    for name in NAMES:
        fetch(find(name), tmp_path, ignore)
    for name, folder in itertools.product(MNIST, ("", "fashion-mnist", "kmnist")):
        assert (tmp_path / folder / name).read_bytes() == mirror.files[name]
    for member, content in cifar10_members():
        path = tmp_path / member.name
        assert path.is_dir() or not path.exists() or path.read_bytes() == content
    assert below(tmp_path) == sorted(name for names in LAYOUT.values() for name in names)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_file_of_an_archive_that_is_damaged_later(
    mirror: Mirror, tmp_path: Path, name: str
) -> None:
    download(name, "--root", tmp_path)
    path = next(path for path in tmp_path.rglob("*.bin"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")  # a pixel
    for root in (tmp_path, path.parent):
        with pytest.raises(DataError, match=f"{path}: is damaged: its SHA-256 is not the one in"):
            find(name)(root=str(root)).read(Path())  # type: ignore[call-arg]


def test_the_folder_data_is_the_default(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    download("cifar10", "--quiet")
    assert below(tmp_path) == ["data", *(f"data/{name}" for name in LAYOUT["cifar10"])]
    assert len(mirror.asked) == 1


@pytest.mark.parametrize("name", NAMES)
def test_again_does_nothing(
    mirror: Mirror, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(name, "--root", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    mirror.asked.clear()
    monkeypatch.setitem(sys.modules, "pooch", None)  # nor is it needed
    output = download(name, "--root", tmp_path).stdout
    assert "downloaded     nothing: it is there\n" in output
    assert "downloading" not in output
    assert mirror.asked == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_can_be_read_is_enough(mirror: Mirror, tmp_path: Path) -> None:
    """Unpacked, or without the folder of the archive."""
    download("cifar10", "--root", tmp_path / "x")
    (tmp_path / "x/cifar-10-batches-bin").rename(tmp_path / "flat")
    mirror.asked.clear()
    assert fetch(find("cifar10"), tmp_path / "flat", ignore).downloaded == ()
    assert mirror.asked == []


def test_only_what_is_missing(mirror: Mirror, tmp_path: Path) -> None:
    for name in ("mnist", "cifar10"):
        download(name, "--root", tmp_path)
    (tmp_path / MNIST[1]).unlink()
    (tmp_path / "cifar-10-batches-bin/data_batch_3.bin").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    mirror.asked.clear()
    assert [r.name for r in fetch(find("mnist"), tmp_path, ignore).downloaded] == [MNIST[1]]
    download("cifar10", "--root", tmp_path)
    assert mirror.asked == [MNIST[1], "cifar-10-binary.tar.gz"]
    assert below(tmp_path) == sorted([*LAYOUT["mnist"], *LAYOUT["cifar10"]])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert before.items() <= after.items()


@pytest.mark.parametrize("behaviour", ["no length", "encoding"])
def test_servers_that_say_too_little_or_too_much(
    mirror: Mirror, tmp_path: Path, behaviour: str
) -> None:
    mirror.behaviour = behaviour
    heard: list[int] = []
    fetch(find("cifar100"), tmp_path, lambda remote, done: heard.append(done))
    assert heard == sorted(heard)
    assert heard.count(0) == 1
    assert heard[-1] == len(mirror.files["cifar-100-binary.tar.gz"])


# ---- what is in the way ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "content", "asked"),
    [
        ("mnist", MNIST[0], b"partial", 0),
        ("mnist", MNIST[3], None, 0),
        ("cifar10", "cifar-10-batches-bin/data_batch_2.bin", b"partial", 0),
        ("cifar10", "cifar-10-batches-bin/data_batch_2.bin", bytes(4 * 3073), 1),
        ("cifar100", "cifar-100-binary/train.bin", None, 0),
    ],
)
def test_nothing_is_overwritten(
    mirror: Mirror, tmp_path: Path, name: str, file: str, content: bytes | None, asked: int
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    line = refused(name, "--root", tmp_path)
    assert line.startswith(f"{path}: is not the official file, and is not overwritten; remove it")
    assert len(mirror.asked) == asked
    assert path.is_dir() if content is None else path.read_bytes() == content
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_the_right_size_is_not_enough(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / MNIST[0]
    path.write_bytes(bytes(len(mirror.files[MNIST[0]])))
    assert refused("mnist", "--root", tmp_path).startswith(f"{path}: is not the official file")
    assert mirror.asked == []


@pytest.mark.parametrize("file", ["data", "data/cifar-10-batches-bin"])
def test_a_file_where_a_folder_must_be(mirror: Mirror, tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    line = refused("cifar10", "--root", tmp_path / "data")
    assert line == f"{path}: is not a folder; give another one with --root"
    assert mirror.asked == []
    assert path.read_text() == "mine"


def test_the_reader_has_the_last_word(mirror: Mirror, tmp_path: Path) -> None:
    """It prefers a file that is unpacked, even a damaged one."""
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"damaged")
    assert "train-labels-idx1-ubyte: not an IDX file" in refused("mnist", "--root", tmp_path)
    assert len(mirror.asked) == 4


# ---- what a reader says, and what is shown -----------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_names_the_command(
    mirror: Mirror, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the command is the one that helps, from where one is."""
    monkeypatch.chdir(tmp_path)
    size, classes = (784 if "mnist" in name else 3072), (100 if name == "cifar100" else 10)
    (tmp_path / "some where").mkdir()
    scenario = tmp_path / "some where/scenario.yaml"
    scenario.write_text(
        f"name: x\nnetwork: {{input: {size}, layers: [{{dense: {classes}}}]}}\n"
        f"data: {{name: {name}, root: my data, batch_size: 2}}\nschedule: {{kind: parallel}}\n"
    )
    for _ in range(2):
        result = CliRunner().invoke(main, ["validate", str(scenario.relative_to(tmp_path))])
        if result.exit_code == 0:
            break
        command = shlex.split(result.stderr.partition(" or fetch them: ")[2])
        assert command[:3] == ["neurosim", "download", name]
        download(*command[2:])
    assert ": valid; " in result.stdout
    assert below(tmp_path / "some where/my data") == LAYOUT[name]
    assert sorted(mirror.asked) == ASKED[name]


def test_imagenet_says_that_it_needs_an_account(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"come from image-net\.org, where one needs an acc"):
            imagenet32(folder)


def test_plain_lines(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address, then a line every ten seconds."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    out = io.StringIO()
    remote = replace(find("cifar10").remotes[0], size=170_052_171)
    with DownloadDisplay(Console(file=out, width=40)) as display:
        for second in range(0, 25, 3):
            now = float(second)
            display.received(remote, second * 5_000_000)
    assert out.getvalue().splitlines() == [
        f"downloading {mirror.address}/cifar-10-binary.tar.gz (170.1 MB)",
        "cifar-10-binary.tar.gz  60.0 MB of 170.1 MB  12 s, 23 s left",
        "cifar-10-binary.tar.gz  120.0 MB of 170.1 MB  24 s, 11 s left",
    ]


def test_a_bar(mirror: Mirror, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with DownloadDisplay(console) as display:
        fetch(find("mnist"), tmp_path, display.received)
    shown = re.sub("\x1b\\[[0-9;]*m", "", out.getvalue())
    for name in MNIST:
        assert f"downloading {mirror.address}/{name}" in shown
    assert all(task.finished for task in display._progress.tasks)
