"""Runs, streams and sweeps that are killed, get signals, or lack what they need; then go on."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import BYTES, ROOT, Attack, Case, memory, outcome

SHORT = ["data.limit=100", "schedule.ticks=4", "training.epochs=3", "probes=[accuracy, reach]"]
SHORT += ["network.layers[0].dense=8", "network.layers[1].dense=8", "threads=1"]
AXES = [*SHORT, "rule.beta=0.5,1"]
RUN, STREAM = "scenarios/parallel.yaml", "scenarios/stream_digits.yaml"
LESS = ["data.limit=12", "stream.window=5", "network.layers[0].dense=8", "threads=1"]
RECORD = "record={states: {h1: [0, 5]}, every: 2}"
BASES: dict[str, tuple[list[str], str]] = {  # the first command, and the folder of what it makes
    "run": (["run", RUN, *SHORT, RECORD, "--id", "x"], "parallel/x"),
    "stream": (["run", STREAM, *LESS, "--id", "x"], "stream_digits/x"),
    "sweep": (["sweep", RUN, *AXES, "--jobs", "0", "--name", "x"], "x"),
}
TERM, INT, HUP, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
SIGNALS: dict[str, tuple[tuple[int, float], ...]] = {  # and the seconds after each
    "TERM": ((TERM, 0),),
    "TERM twice at once": ((TERM, 0), (TERM, 0)),
    "TERM twice": ((TERM, 0.05), (TERM, 0)),
    "INT": ((INT, 0),),
    "INT twice at once": ((INT, 0), (INT, 0)),
    "INT twice": ((INT, 0.6), (INT, 0)),
    "HUP": ((HUP, 0),),
    "USR1, TERM": ((USR1, 0.01), (TERM, 0)),
    "STOP, CONT": ((signal.SIGSTOP, 0.05), (signal.SIGCONT, 0)),
}
POINTS: dict[str, Any] = dict.fromkeys(("fsync", "rename", "replace", "mkdir", "unlink"), os)
POINTS["open"] = io
Act = Callable[[], object]


def at_call(name: str, number: int, act: Act, again: bool = False) -> None:
    """Acts before a call of a function of the system: the ``number``-th, or from there on."""
    real, count = getattr(POINTS[name], name), 0

    def called(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        mode = more.get("mode", arguments[1] if len(arguments) > 1 else "r")
        if name != "open" or set(str(mode)) & set("wax+"):
            count += 1
            if count == number or (again and count > number):
                act()
        return real(*arguments, **more)

    setattr(POINTS[name], name, called)


class Ordeal(Attack):
    """Something happens to a run, and it is continued: it must become what it is undisturbed."""

    whole: dict[str, Any]  # the outcomes of the bases
    walls: dict[str, float]  # how long they take

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        if not hasattr(Ordeal, "whole"):
            Ordeal.whole, Ordeal.walls = {}, {}
            for base, (arguments, name) in BASES.items():
                began, out = time.monotonic(), work / "whole" / base
                case = Case(work, *arguments, "--out", out).wait()
                assert case.code == 0, case.output
                self.walls[base], self.whole[base] = time.monotonic() - began, outcome(out / name)

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        base, out = rng.choice(["run", "run", "run", "stream", "sweep"]), self.out(rng)
        shutil.rmtree(out, ignore_errors=True)
        arguments, name = BASES[base]
        first, folder = [*arguments, "--out", out], out / name
        again = [*first, "--retry"] if base == "sweep" else ["resume", folder]
        failure, detail = self.disturbed(rng, base, first, out, folder)
        saved = list(folder.rglob("last*.safetensors"))
        if not failure and saved and rng.random() < 0.3:  # once more
            failure, more = self.disturbed(rng, base, again, out, folder)
            detail = f"{detail}, then {more}"
        if not failure and outcome(folder) != self.whole[base] and (saved or base == "sweep"):
            case = Case(self.work, *again).wait()
            same = case.code == 0 and outcome(folder) == self.whole[base]
            failure = case.failure or "lost" * (not same)
            detail += f": {case.output[-300:]}" if failure else ""
        return failure, f"{base}: {detail}"

    def out(self, rng: random.Random) -> Path:
        return self.work / "out"

    def disturbed(
        self, rng: random.Random, base: str, arguments: list[Any], out: Path, folder: Path
    ) -> tuple[str, str]:
        raise NotImplementedError

    def signalled(self, case: Case, rng: random.Random, base: str, *sent: Any) -> str:
        """Sends signals at a random moment."""
        time.sleep(moment := rng.uniform(0, 1.1 * self.walls[base]))
        for number, pause in sent:
            case.send(number)
            time.sleep(pause)
        return f"{moment:.3f} s"


class Kill(Ordeal):
    name, weight = "kill -9 at a random moment, or at a rename, fsync, open, …; then go on", 5

    def disturbed(
        self, rng: random.Random, base: str, arguments: list[Any], out: Path, folder: Path
    ) -> tuple[str, str]:
        point, number = rng.choice([*POINTS, *[None] * 4]), rng.randrange(1, 40)
        if point is None:
            case = Case(self.work, *arguments)
            detail = self.signalled(case, rng, base, (signal.SIGKILL, 0))
        else:
            detail = f"{point} {number}"
            dies = lambda: at_call(point, number, lambda: os.kill(os.getpid(), signal.SIGKILL))  # noqa: E731
            case = Case(self.work, *arguments, prepare=dies)
            case.sent.add(signal.SIGKILL)
        return case.wait().failure, detail


class Signals(Ordeal):
    name, weight = "SIGTERM, SIGINT, SIGHUP, SIGUSR1, once and twice, STOP and CONT; then go on", 2

    def disturbed(
        self, rng: random.Random, base: str, arguments: list[Any], out: Path, folder: Path
    ) -> tuple[str, str]:
        how = rng.choice(list(SIGNALS))
        case = Case(self.work, *arguments)
        detail = f"{how} after {self.signalled(case, rng, base, *SIGNALS[how])}"
        case.wait()
        named = case.code in (0, -1, 130) or "nothing to resume" in case.output
        whole = base == "sweep" or (folder / "report.html").is_file() or how == "INT twice"
        early = "stopped at once" in case.output and not folder.exists()  # a run was never made
        lost = not named or (case.code in (0, 130) and not whole and not early)
        return case.failure or "lost" * lost, f"{detail}, exit {case.code}"


ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EMFILE", "ENOENT")
NAMES = ("with spaces", "déjà vu 中文 😀", "new\nline", "quote'\"s", "[bold]x", "a[", "[/x")
NAMES += ("per%cent %s", "-dash", "~", "$HOME", "x" * 200, "back\\slash", "\x1b[31mred", "#?{&")


class Fault(Ordeal):
    name, weight = "disk, folder, files, memory, output, odd paths; then go on", 2

    def out(self, rng: random.Random) -> Path:
        return self.work / "out" / rng.choice(["", "", "", *NAMES])

    def disturbed(
        self, rng: random.Random, base: str, arguments: list[Any], out: Path, folder: Path
    ) -> tuple[str, str]:
        kind = rng.choice(["error", "error", "folder", "size", "files", "memory", "output"])
        detail, prepare = getattr(self, kind)(rng, out, folder)
        case = Case(self.work, *arguments, prepare=prepare).wait()
        said = case.code == 0 or "error: " in case.output or kind == "output"
        said |= "nothing to resume" in case.output or (base == "sweep" and "failed" in case.output)
        if kind == "folder" and (kept := out.with_name(f"{out.name}.moved")).exists():
            shutil.rmtree(out, ignore_errors=True)
            kept.rename(out)
        failure = case.failure or "unnamed" * (not said)
        wrong = case.code == 0 and outcome(folder) != self.whole[base] and kind != "folder"
        more = f": {case.output[-300:]}" if failure or wrong else ""
        return failure or "silent" * wrong, f"{kind} {detail}, exit {case.code}{more}"

    def error(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        name, point = rng.choice(ERRORS), rng.choice(list(POINTS))
        number, again = rng.randrange(1, 40), rng.random() < 0.8

        def fail() -> None:
            raise OSError(code := getattr(errno, name), os.strerror(code))

        return f"{name} {point} {number}", lambda: at_call(point, number, fail, again)

    def folder(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        number, what = rng.randrange(1, 20), rng.choice(["gone", "moved", "checkpoints"])

        def act() -> None:
            if what == "moved" and out.exists():
                out.rename(out.with_name(f"{out.name}.moved"))
            shutil.rmtree(out if what == "gone" else folder / "checkpoints", ignore_errors=True)

        return f"{what} at fsync {number}", lambda: at_call("fsync", number, act)

    def size(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        most = int(1000 * 400 ** rng.random())
        limits = (most, resource.RLIM_INFINITY)
        return f"{most} bytes", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def files(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        more = rng.randrange(0, 12)

        def act() -> None:
            limit = len(os.listdir("/proc/self/fd")) + more  # noqa: PTH208
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        return f"{more} more", act

    def memory(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        more = int(BYTES * rng.random() ** 3 / 4)

        def act() -> None:
            limit = memory("VmSize") + more
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        return f"{more >> 20} MiB more", act

    def output(self, rng: random.Random, out: Path, folder: Path) -> tuple[str, Act]:
        how = rng.choice(["pipe", "full", "closed"])
        streams = rng.choice([(1,), (2,), (1, 2)])

        def act() -> None:
            for stream in streams:
                if how == "closed":
                    os.close(stream)
                else:
                    reader, writer = os.pipe()
                    os.close(reader)
                    full = os.open("/dev/full", os.O_WRONLY)
                    os.dup2(writer if how == "pipe" else full, stream)

        return f"{streams} {how}", act


HASH, C = {"PYTHONHASHSEED": "7"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
BACK = "import time\nreal = time.time\nstart = real()\ntime.time = lambda: 2 * start - real()\n"
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    **{f"PYTHONHASHSEED {n}": {"PYTHONHASHSEED": n} for n in ("0", "1", "42", "4294967295")},
    **{f"LC_ALL {name}": {"LC_ALL": name} for name in ("C", "POSIX", "xx_YY", "tr_TR.UTF-8")},
    "C as it is": C,
    **{f"output {name}": {"PYTHONIOENCODING": name} for name in ("ascii", "latin-1", "cp1252")},
    **{f"HOME {name}": {"HOME": name} for name in (None, "/nonexistent", "/dev/null")},
    **{f"TMPDIR {name}": {"TMPDIR": name} for name in ("/nonexistent", "/proc")},
    **{f"MPLBACKEND {name}": {"MPLBACKEND": name} for name in ("junk", "TkAgg", "module://none")},
    "MPLCONFIGDIR": {"MPLCONFIGDIR": "/proc/none"},
    **{f"TZ {name}": {"TZ": name} for name in ("Pacific/Kiritimati", ":/etc/passwd")},
    **{f"-O {n}": {"PYTHONOPTIMIZE": n} for n in ("1", "2")},
    **{f"OMP {n}": {"OMP_NUM_THREADS": n} for n in ("2", "0", "junk")},
    "COLUMNS": {"COLUMNS": "-5"},
    "TERM": {"TERM": "dumb", "FORCE_COLOR": "1"},
    "clock": {"BACK": "1"},
}


class Environment(Ordeal):
    name, weight = "a new process in an odd environment: the same bits", 1

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        base, what = rng.choice(["run", "run", "stream", "sweep"]), rng.choice(list(ENVIRONMENTS))
        out = self.work / rng.choice(["out", "other/folder", "déjà vu"])
        shutil.rmtree(out, ignore_errors=True)
        site = self.work / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(BACK)
        changes = ENVIRONMENTS[what]
        paths = f"{ROOT}:{site}" if "BACK" in changes else str(ROOT)
        wanted = os.environ | {"PYTHONPATH": paths} | changes
        environment = {key: value for key, value in wanted.items() if value is not None}
        arguments = [sys.executable, "-m", "neurosim", *BASES[base][0], "--out", str(out)]
        found = subprocess.run(arguments, capture_output=True, env=environment, check=False)
        output = (found.stdout + found.stderr).decode(errors="replace")
        failure = "traceback" * ("Traceback" in output)
        if outcome(out / BASES[base][1]) != self.whole[base]:
            failure = failure or ("silent" if found.returncode == 0 else "lost")
        return failure, f"{base}: {what}{f': {output[-500:]}' if failure else ''}"
