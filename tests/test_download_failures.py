"""Downloads that fail, from a server on this machine: what is said, and that nothing is left."""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import socket
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from mirror import Mirror, archive, below, cifar10_members, regular
from test_downloads import LAYOUT, NAMES, OFFICIAL, download, ignore, refused

from neurosim.base.errors import DataError
from neurosim.data import Remote, downloads
from neurosim.data.downloads import fetch, find
from neurosim.runs.listeners.display import DownloadDisplay

# ---- what goes wrong on the way ----------------------------------------------------------------

BY_HAND = {
    "mnist": "by other means and put what you get into {root}",
    "cifar10": "and unpack it in {root}: tar -xzf cifar-10-binary.tar.gz -C {quoted}",
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("404", "cannot be downloaded: the server answers 404 Not Found; try again later, or get "),
        ("503", "cannot be downloaded: the server answers 503 Service Unavailable; "),
        ("cut", "cannot be downloaded: "),
        ("wrong", "what came is not the official file (SHA-256 "),
    ],
)
def test_a_server_that_fails(
    mirror: Mirror, tmp_path: Path, name: str, behaviour: str, said: str
) -> None:
    mirror.behaviour = behaviour
    root = tmp_path / "my data"
    line = refused(name, "--root", root)
    (first, *_) = find(name).remotes
    assert line.startswith(f"{first.url}: {said}")
    assert line.endswith(BY_HAND[name].format(root=root, quoted=shlex.quote(str(root))))
    assert all(remote.url in line for remote in find(name).remotes)
    assert below(tmp_path) == []
    mirror.behaviour = ""
    download(name, "--root", root)


def test_no_server(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/x.gz"
        remote = replace(find("mnist").remotes[0], url=address)
        monkeypatch.setattr(find("mnist"), "remotes", (remote,))
        line = refused("mnist", "--root", tmp_path)
    assert line.startswith(f"{address}: cannot be downloaded: Connection refused; try again later")
    assert below(tmp_path) == mirror.asked == []


def test_no_network(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, remotes in OFFICIAL.items():
        monkeypatch.setattr(find(name), "remotes", remotes)
        line = refused(name, "--root", tmp_path)
        address = remotes[0].url
        assert line.startswith(f"{address}: cannot be downloaded: Name or service not known; ")
    assert below(tmp_path) == mirror.asked == []


def test_without_pooch(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    line = refused("cifar10", "--root", tmp_path / "data")
    assert line.startswith(
        "downloading needs pooch, which is not installed: pip install 'neurosim[data]'; or get "
        f"{mirror.address}/cifar-10-binary.tar.gz by other means and unpack it in "
    )
    assert below(tmp_path) == mirror.asked == []


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_download(
    mirror: Mirror, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_CHUNK", 512)

    def interrupt(self: DownloadDisplay, remote: Remote, done: int) -> None:
        if done > 1500:
            assert any(".download-" in path for path in below(tmp_path))
            raise KeyboardInterrupt

    monkeypatch.setattr(DownloadDisplay, "received", interrupt)
    result = download(name, "--root", tmp_path / "data", code=130)
    assert result.stderr == "stopped at once\n"
    assert below(tmp_path) == []
    assert len(mirror.asked) == 1


def test_interrupted_while_writing(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is whole, and the next time completes it."""
    write, written = downloads.write_atomic, [0]

    def interrupt(path: Path, content: bytes) -> None:
        written[0] += 1
        if written[0] == 3:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "write_atomic", interrupt)
        download("cifar10", "--root", tmp_path, code=130)
    there = below(tmp_path)
    assert len(there) == 3  # the folder and two files
    assert set(there) < set(LAYOUT["cifar10"])
    assert all((tmp_path / name).stat().st_size == 12292 for name in there[1:])
    download("cifar10", "--root", tmp_path)
    assert below(tmp_path) == LAYOUT["cifar10"]
    assert len(mirror.asked) == 2


def test_pooch_says_nothing_itself(mirror: Mirror, tmp_path: Path) -> None:
    pooch = pytest.importorskip("pooch")
    before = pooch.get_logger().level
    out = io.StringIO()
    handler = type(pooch.get_logger().handlers[0])(out)
    pooch.get_logger().addHandler(handler)
    try:
        fetch(find("mnist"), tmp_path, ignore)
        mirror.behaviour = "404"
        with pytest.raises(DataError):
            fetch(find("cifar10"), tmp_path, ignore)
    finally:
        pooch.get_logger().removeHandler(handler)
    assert out.getvalue() == ""
    assert pooch.get_logger().level == before


# ---- archives that are not what they should be -------------------------------------------------

INNER = "cifar-10-batches-bin/data_batch_3.bin"


def link(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def changed(mirror: Mirror, content: bytes) -> None:
    """The server has another archive, of which the checksum is right."""
    official = find("cifar10").remotes[0].members
    mirror.files["cifar-10-binary.tar.gz"] = content
    remote = Remote(
        f"{mirror.address}/cifar-10-binary.tar.gz",
        hashlib.sha256(content).hexdigest(),
        len(content),
        official,
    )
    find("cifar10").remotes = (remote,)  # undone with the fixture's own


def test_only_expected_names_are_written(mirror: Mirror, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    more = [
        regular("../outside", b"x"),
        regular("cifar-10-batches-bin/../../outside", b"x"),
        regular(str(outside), b"x"),
        regular("data_batch_1.bin", b"x"),
        link("cifar-10-batches-bin/way", tarfile.SYMTYPE, str(tmp_path)),
        regular("cifar-10-batches-bin/way/outside", b"x"),
        regular(INNER, b"the second of this name"),
    ]
    members = [regular(f"./{m.name}", c) if m.isreg() else (m, c) for m, c in cifar10_members()]
    changed(mirror, archive([*members, *more]))
    fetch(find("cifar10"), tmp_path / "data", ignore)
    assert below(tmp_path / "data") == LAYOUT["cifar10"]
    assert not outside.exists()


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (None, "does not hold cifar-10-batches-bin/data_batch_3.bin"),
        (regular(INNER, b"short"), "data_batch_3.bin in it is not a file of 12292 bytes"),
        (link(INNER, tarfile.SYMTYPE, "/etc/passwd"), "in it is not a file of 12292 bytes"),
        (link(INNER, tarfile.LNKTYPE, "cifar-10-batches-bin/data_batch_1.bin"), "is not a file"),
        (link(INNER, tarfile.FIFOTYPE, ""), "in it is not a file of 12292 bytes"),
        (link(INNER, tarfile.DIRTYPE, ""), "in it is not a file of 12292 bytes"),
    ],
)
def test_an_archive_with_a_wrong_member(
    mirror: Mirror, tmp_path: Path, instead: tuple[tarfile.TarInfo, bytes] | None, said: str
) -> None:
    members = [(m, c) for m, c in cifar10_members() if m.name != INNER]
    changed(mirror, archive([*members, instead] if instead else members))
    with pytest.raises(DataError) as caught:
        fetch(find("cifar10"), tmp_path, ignore)
    assert str(caught.value).startswith("cifar-10-binary.tar.gz: ")
    assert said in str(caught.value)
    assert INNER not in below(tmp_path)


def test_an_archive_that_is_none(mirror: Mirror, tmp_path: Path) -> None:
    whole = mirror.files["cifar-10-binary.tar.gz"]
    for content in (b"", b"<html>", whole[: len(whole) // 2], gzip.compress(b"no archive" * 99)):
        changed(mirror, content)
        place = tmp_path / str(len(content))
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: "):
            fetch(find("cifar10"), place, ignore)
        assert not [path for path in below(tmp_path) if ".download" in path]
