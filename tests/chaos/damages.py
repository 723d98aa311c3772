"""Damaged files: of the folders of runs, streams and sweeps, and of data, for every reader."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ordeals import AXES, LESS, RECORD, RUN, SHORT, STREAM
from processes import Attack, Case, command, outcome

from neurosim.data import CIFAR10, CIFAR100, colour, source
from neurosim.runs import run as runner

Bytes = Callable[[bytes, random.Random], bytes]


def _piece(data: bytes, rng: random.Random, other: Callable[[bytes], bytes]) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
    return data[:at] + other(data[at : at + size]) + data[at + size :]


def _digit(data: bytes, rng: random.Random) -> bytes:
    places = [found.start() for found in re.finditer(rb"[0-9]", data)]
    at = rng.choice(places or [0])
    return data[:at] + rng.choice([b"7", b"0", b"e", b"-"]) + data[at + 1 :]


def _lines(data: bytes, rng: random.Random) -> bytes:
    rows = data.split(b"\n")
    at = rng.randrange(len(rows))
    return b"\n".join([*rows[:at], *[rows[at]] * rng.choice([0, 2]), *rows[at + 1 :]])


def _everywhere(data: bytes, rng: random.Random) -> bytes:
    """As an editor replaces, or as ends of lines are converted."""
    old = rng.choice([b"\n", bytes([rng.choice(data)])])
    return data.replace(old, rng.choice([b"\r\n", b"", bytes([rng.randrange(256)])]))


DAMAGES: dict[str, Bytes] = {
    "bit": lambda d, r: _piece(d, r, lambda p: bytes([p[0] ^ 1 << r.randrange(8)]) + p[1:]),
    "junk": lambda d, r: _piece(d, r, lambda p: r.randbytes(len(p))),
    "zeros": lambda d, r: _piece(d, r, lambda p: bytes(len(p))),
    "huge": lambda d, r: _piece(d[:200], r, lambda p: b"\xff" * len(p[:8]) + p[8:]) + d[200:],
    "cut": lambda d, r: d[: r.choice([0, 1, 8, len(d) // 2, len(d) - 1, r.randrange(len(d))])],
    "digit": _digit,
    "everywhere": _everywhere,
    "line": _lines,
    "grown": lambda d, r: d + r.choice([b"\0", bytes(512), d[-50:], r.randbytes(33)]),
    "nothing": lambda d, r: bytes(len(d)),
}


def damage(path: Path, rng: random.Random) -> str:
    """Damages a file, and says how; it has other bytes then, or is not there."""
    how = rng.choice([*DAMAGES, "deleted", "a folder"])
    before = path.read_bytes()
    if how in DAMAGES:
        after = DAMAGES[how](before, rng) if before else b"?"
        path.write_bytes(after if after != before else before[:-1] + b"?")
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    return f"{path.name}, {how}"


def stopped(after: int) -> Callable[[], object]:
    """Makes a run stop at a step: what a forked process does before it."""
    real = runner.TrainingDisplay.on_step

    def on_step(self: Any, event: Any) -> None:
        real(self, event)
        if event.step == after:
            os.kill(os.getpid(), signal.SIGINT)

    return lambda: setattr(runner.TrainingDisplay, "on_step", on_step)


# ---- folders of runs -----------------------------------------------------------------------------

NEW = {"run": "parallel/x", "stream": "stream_digits/x", "whole": "parallel/x", "sweep": "x"}
MAKE = {
    "run": ["run", RUN, *SHORT, RECORD, "costs=loihi", "--id", "x"],
    "stream": ["run", STREAM, *LESS, "--id", "x"],
    "whole": ["run", RUN, *SHORT, RECORD, "costs=loihi", "--id", "x"],
    "sweep": ["sweep", RUN, *AXES, "--jobs", "0", "--name", "x"],
    "table": ["table", "mnist", "--quick", "--row", "DP", "--epochs", "1", "data.limit=120"],
}
MAKE["table"] += ["network.layers[0].dense=8", "--seeds", "1", "--jobs", "0"]
SMALL = ["study.samples=2", "study.reference.sweeps=2", "record=null", "--id", "s"]
WEIGHTS = "{F}/checkpoints/model.safetensors"
THEN: dict[str, tuple[str, list[str], str]] = {  # the folder, the command, and what it makes
    "resume": ("run", ["resume", "{F}"], "{F}"),
    "resume of a stream": ("stream", ["resume", "{F}"], "{F}"),
    "report": ("whole", ["report", "{F}"], "{F}/report.html"),
    "report of a sweep": ("sweep", ["report", "{F}"], "{F}/report.html"),
    "compare": ("whole", ["compare", "{F}", "whole/{N}", "--to", "c.html"], "c.html"),
    "converge": ("whole", ["converge", "{F}/scenario.yaml", *SMALL, "--weights", WEIGHTS], "out"),
    "sweep": ("sweep", MAKE["sweep"], "{F}"),
    "table": ("table", MAKE["table"], "{F}"),
}


class FolderDamage(Attack):
    name, weight = "damaged files of a folder; then " + ", ".join(THEN), 10

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.folders, self.right = dict[str, Path](), dict[str, Any]()
        for base, arguments in MAKE.items():
            stops = stopped(5) if base in ("run", "stream") else int
            case = Case(work, *arguments, "--out", work / base, prepare=stops).wait()
            assert case.code in (0, 130), case.output
            name = NEW.get(base) or next((work / base).iterdir()).name
            self.folders[base] = work / base / name
        for how in THEN:
            code, self.right[how], output = self.done(how, None)[:3]
            assert code == 0, (how, output)

    def done(self, how: str, rng: random.Random | None) -> tuple[int, Any, str, str, str]:
        base, arguments, product = THEN[how]
        copy, whole = self.work / "damaged", self.folders[base]
        for path in (copy, self.work / "out"):
            shutil.rmtree(path, ignore_errors=True)
        folder = copy / whole.relative_to(self.work / base)
        shutil.copytree(whole, folder)
        detail = ""
        if rng:
            files = [path for path in folder.rglob("*") if path.is_file()]
            files = [p for p in files if p.suffix != ".html"] + files[:1]
            chosen = self.work / WEIGHTS.format(F=folder)
            detail = damage(chosen if how == "converge" else rng.choice(sorted(files)), rng)
        names = {"F": folder, "N": whole.relative_to(self.work / base)}
        given = [argument.format(**names) for argument in arguments]
        where = {"converge": self.work / "out"}.get(how, copy)
        given += ["--out", str(where)] if base in ("sweep", "table") or how == "converge" else []
        given = given[: -2 if how == "report of a sweep" else None]
        code, output, failure = command(*given)
        made = self.work / product.format(F=folder)
        if made.suffix == ".html":
            found = made.read_bytes() if made.is_file() else None
        else:
            found = outcome(made)
        return code, found, output, failure, detail

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        how = rng.choice(list(THEN))
        code, found, output, failure, detail = self.done(how, rng)
        name = detail.partition(",")[0]
        if not failure and found != self.right[how]:
            said = name in output or (code != 0 and str(self.work / "damaged") in output)
            failure = "" if said else "silent" if code == 0 else "unnamed"
        return failure, f"{how}: {detail}, exit {code}{f': {output[-600:]}' if failure else ''}"


# ---- data ----------------------------------------------------------------------------------------


def idx(array: Any) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def _mnist(folder: Path, rng: Any, packed: bool) -> None:
    for part, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for name, array in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            data = gzip.compress(idx(array)) if packed else idx(array)
            (folder / f"{name}-ubyte{'.gz' * packed}").write_bytes(data)


def _cifar(folder: Path, rng: Any, kind: Any) -> None:
    (remote,) = kind.remotes
    for name, size in remote.members:
        rows = rng.integers(0, 256, (size // (3072 + len(kind.labels)), 3072), dtype=np.uint8)
        labels = [rng.integers(0, most, len(rows), dtype=np.uint8) for most in kind.labels]
        (folder / Path(name).name).write_bytes(np.column_stack([*labels, rows]).tobytes())


def _imagenet(folder: Path, rng: Any) -> None:
    names = [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]
    for name in names:
        x = rng.integers(0, 256, (8, 3072), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", data=x, labels=rng.integers(1, 1001, 8))


def _images(folder: Path, rng: Any, suffix: str) -> None:
    from PIL import Image

    for label in "abc":
        (folder / label).mkdir()
        for number in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.{suffix}")


def _table(folder: Path, rng: Any, suffix: str) -> None:
    columns = {name: rng.normal(size=60) for name in "abc"} | {"y": rng.integers(0, 3, 60)}
    if suffix == "csv":
        rows = zip(*columns.values(), strict=True)
        text = "".join(",".join(map(str, row)) + "\n" for row in [tuple(columns), *rows])
        (folder / "d.csv").write_text(text)
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), folder / "d.parquet")


def _arrays(folder: Path, rng: Any, how: str) -> None:
    x, y = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), rng.integers(0, 3, 60, dtype=np.uint8)
    if how in ("npz", "packed"):
        (np.savez if how == "npz" else np.savez_compressed)(folder / "d.npz", x=x, y=y)
    elif how == "npy":
        np.save(folder / "x.npy", x / 255)
        np.save(folder / "y.npy", y)
    else:
        for name, array in (("x", x), ("y", y)):
            data = gzip.compress(idx(array)) if how == "gz" else idx(array)
            (folder / name).write_bytes(data)


def _events(folder: Path, rng: Any) -> None:
    rows = [(t, -1, rng.integers(0, 3)) for t in range(60)]
    rows += [(t, rng.integers(0, 4), rng.normal()) for t in range(60)]
    (folder / "d.csv").write_text("".join(f"{t},{i},{v}\n" for t, i, v in [("t", "i", "v"), *rows]))


ROOTED: dict[str, Any] = {"root": "files"}
# The reader, the shape of what it reads, what a scenario says of it, and what makes its files.
READERS: dict[str, tuple[str, list[int], dict[str, Any], Callable[[Path, Any], None]]] = {
    "digits": ("digits", [1, 8, 8], {}, lambda f, r: None),
    "mnist": ("mnist", [1, 28, 28], ROOTED, lambda f, r: _mnist(f, r, False)),
    "mnist.gz": ("mnist", [1, 28, 28], ROOTED, lambda f, r: _mnist(f, r, True)),
    "cifar10": ("cifar10", [3, 32, 32], ROOTED, lambda f, r: _cifar(f, r, CIFAR10)),
    "cifar100": ("cifar100", [3, 32, 32], ROOTED, lambda f, r: _cifar(f, r, CIFAR100)),
    "imagenet32": ("imagenet32", [3, 32, 32], ROOTED, _imagenet),
    "npz": ("npz", [1, 8, 8], {"file": "files/d.npz"}, lambda f, r: _arrays(f, r, "npz")),
    "npz packed": ("npz", [1, 8, 8], {"file": "files/d.npz"}, lambda f, r: _arrays(f, r, "packed")),
    "npy": (
        "npy",
        [1, 8, 8],
        {"x": "files/x.npy", "y": "files/y.npy"},
        lambda f, r: _arrays(f, r, "npy"),
    ),
    "idx": ("idx", [1, 8, 8], {"x": "files/x", "y": "files/y"}, lambda f, r: _arrays(f, r, "idx")),
    "idx.gz": (
        "idx",
        [1, 8, 8],
        {"x": "files/x", "y": "files/y"},
        lambda f, r: _arrays(f, r, "gz"),
    ),
    "csv": ("csv", [3], {"file": "files/d.csv", "label": "y"}, lambda f, r: _table(f, r, "csv")),
    "parquet": (
        "parquet",
        [3],
        {"file": "files/d.parquet", "label": "y"},
        lambda f, r: _table(f, r, ""),
    ),
    "png": ("images", [3, 8, 8], ROOTED, lambda f, r: _images(f, r, "png")),
    "jpg": ("images", [3, 8, 8], ROOTED, lambda f, r: _images(f, r, "jpg")),
    "events": ("events", [4], {"file": "files/d.csv", "inputs": 4, "classes": 3}, _events),
}
OFFICIAL = ("mnist", "cifar10", "cifar100", "imagenet32")


class DataDamage(Attack):
    name, weight = "damaged data of every reader; then validate with SHA256SUMS, or resume", 10

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        for kind in (CIFAR10, CIFAR100):  # of the official form, but smaller
            (remote,) = kind.remotes
            row = 3072 + len(kind.labels)
            members = tuple((name, 12 * row) for name, _ in remote.members)
            kind.remotes = (replace(remote, members=members),)
        colour.IMAGENET_IMAGES = {"train": 80, "val": 8}
        self.right = dict[str, Any]()
        for name, (kind, shape, keys, make) in READERS.items():
            folder = work / "data" / name
            (folder / "files").mkdir(parents=True)
            make(folder / "files", np.random.default_rng(0))
            classes = {"imagenet32": 1000, "cifar100": 100}.get(kind, 3)
            classes = 10 if kind in ("mnist", "cifar10", "digits") else classes
            scenario = {
                "name": "d",
                "network": {"input": shape, "layers": [{"name": "output", "dense": classes}]},
                "data": {"name": kind, "batch_size": 8, **keys},
                "schedule": {"kind": "parallel", "ticks": 2},
                **{"training": {"epochs": 2}, "probes": [], "threads": 1},
            }
            if kind == "digits":
                shutil.copy(source._DIGITS_FILE, folder / "files")
                scenario["data"]["limit"] = 60
            (folder / "d.yaml").write_text(yaml.safe_dump(scenario))
            arguments = ["run", folder / "d.yaml", "--out", folder / "runs", "--id", "x"]
            case = Case(work, *arguments, prepare=stopped(2)).wait()
            assert case.code == 130, case.output
            copy, arguments = self.copied(name)
            case = Case(work, *arguments).wait()
            self.right[name] = outcome(copy / "runs/d/x")
            assert case.code == 0, case.output

    def copied(self, name: str) -> tuple[Path, list[Any]]:
        """A copy of the data with the run that stopped, and the command that resumes it there."""
        copy = self.work / "data of" / name
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(self.work / "data" / name, copy)
        moved = [
            f"data.{key}={copy / READERS[name][2][key]}"
            for key in ("root", "file", "x", "y")
            if key in READERS[name][2]
        ]
        return copy, ["resume", copy / "runs/d/x", *moved]

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        name = rng.choice(list(READERS))
        copy, arguments = self.copied(name)
        if name == "digits":
            source._DIGITS_FILE = copy / "files/digits.npz"
        data = sorted(path for path in (copy / "files").rglob("*") if path.is_file())
        if listed := name.partition(".")[0] in OFFICIAL and rng.random() < 0.5:
            sums = (f"{sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in data)
            (copy / "files/SHA256SUMS").write_text("".join(sums))
            arguments = ["validate", copy / "d.yaml"]
        detail = damage(rng.choice(data), rng)
        code, output, failure = command(*arguments)
        if code == 0:
            other = listed or outcome(copy / "runs/d/x") != self.right[name]
            failure = failure or "silent" * other
        else:
            failure = failure or "unnamed" * (str(copy) not in output)
        more = f": {output[-600:]}" if failure else ""
        return failure, f"{arguments[0]}, {name}: {detail}, exit {code}{more}"
