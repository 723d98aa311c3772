"""A server on this machine that has small data sets in the form of the official ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from neurosim.data import DataSource, Remote

CIFAR10_IMAGES, CIFAR100_IMAGES = 4, {"train": 6, "test": 5}
Members = list[tuple[tarfile.TarInfo, bytes]]


def idx(*shape: int) -> bytes:
    header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()
    return header + np.random.default_rng(len(shape)).integers(0, 10, shape, np.uint8).tobytes()


def rows(count: int, labels: int) -> bytes:
    values = np.random.default_rng(count).integers(0, 256, (count, labels + 3072), np.uint8)
    values[:, :labels] %= 10
    return values.tobytes()


def regular(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member, b""


def archive(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for member, content in members:
            packed.addfile(member, io.BytesIO(content))
    return file.getvalue()


def cifar10_members() -> Members:
    """In the order of the official archive, with what the reader does not need."""
    inner = "cifar-10-batches-bin"
    names = [f"data_batch_{i}.bin" for i in (1, 5, 4, 3, 2)] + ["test_batch.bin"]
    return [
        folder(inner),
        regular(f"{inner}/readme.html", b"<html>"),
        *(regular(f"{inner}/{name}", rows(CIFAR10_IMAGES, 1)) for name in names),
        regular(f"{inner}/batches.meta.txt", b"airplane\n"),
    ]


def cifar100_members() -> Members:
    inner = "cifar-100-binary"
    counts = CIFAR100_IMAGES.items()
    files = [regular(f"{inner}/{part}.bin", rows(count, 2)) for part, count in counts]
    return [folder(inner), regular(f"{inner}/fine_label_names.txt", b"apple\n"), *files]


def svhn(count: int) -> bytes:
    """As the official files are: compressed, images last, and 10 for the digit 0."""
    draws, file = np.random.default_rng(count), io.BytesIO()
    pixels, labels = draws.integers(0, 256, (32, 32, 3, count), np.uint8), np.arange(count) + 5
    savemat(file, {"X": pixels, "y": labels[:, None].astype(np.uint8)}, do_compression=True)
    return file.getvalue()


def small_files() -> dict[str, bytes]:
    """What the server has, by the official names."""
    mnist = {
        f"{part}-{name}-ubyte.gz": gzip.compress(content)
        for part, count in (("train", 60), ("t10k", 40))
        for name, content in (
            ("images-idx3", idx(count, 28, 28)),
            ("labels-idx1", idx(count)),
        )
    }
    return mnist | {
        "cifar-10-binary.tar.gz": archive(cifar10_members()),
        "cifar-100-binary.tar.gz": archive(cifar100_members()),
        "train_32x32.mat": svhn(6),
        "test_32x32.mat": svhn(5),
    }


@dataclass
class Mirror:
    """The server: its address, what it has, how it behaves, what it was asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=small_files)
    behaviour: str = ""
    asked: list[str] = field(default_factory=list)

    def remote(self, official: Remote) -> Remote:
        """The official file with the address, checksum and sizes of what is here."""
        content = self.files[official.name]
        members = official.members
        if members:
            with tarfile.open(fileobj=io.BytesIO(content)) as packed:
                sizes = {member.name: member.size for member in packed}
            members = tuple((name, sizes.get(name, size)) for name, size in members)
        url, found = f"{self.address}/{official.name}", hashlib.sha256(content).hexdigest()
        return replace(official, url=url, sha256=found, size=len(content), members=members)


def handler_of(mirror: Mirror) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            mirror.asked.append(name)
            if mirror.behaviour in ("404", "503"):
                self.send_error(int(mirror.behaviour))
                return
            content = mirror.files[name]
            self.send_response(200)
            if mirror.behaviour != "no length":
                self.send_header("Content-Length", str(len(content)))
            if mirror.behaviour == "encoding":
                self.send_header("Content-Encoding", "x-gzip")
            self.end_headers()
            if mirror.behaviour == "cut":
                content = content[: len(content) // 2]
            elif mirror.behaviour == "wrong":
                content = bytes(len(content))
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Mirror]:
    """The server for as long as the block runs."""
    mirror = Mirror("")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(mirror)) as server:
        mirror.address = f"http://127.0.0.1:{server.server_port}/official"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mirrored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The program downloads from the server, and its readers take files of that size."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as mirror:
        for source in DataSource.family.values():
            monkeypatch.setattr(source, "remotes", tuple(map(mirror.remote, source.remotes)))
        yield mirror


def below(place: Path) -> list[str]:
    """Every file and folder in a folder, hidden ones too."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))
