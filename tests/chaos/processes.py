"""Command lines in forked processes, what they come to, and many tries in one process."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from neurosim.cli.main import main

ROOT = Path(__file__).parents[2]
SECONDS, BYTES, WALL = 10, 1 << 30, 180  # processor time, memory, and time before a try "hangs"
TIMES = {"seconds", "cpu_seconds", "epoch_seconds", "epoch_cpu_seconds", "peak_memory_bytes"}
FAILURES = ("lost", "silent", "unnamed", "traceback", "died", "hang", "memory")
CUT_OFF = 77  # the exit code of a case that a signal met outside of the program


class Case:
    """A command line in a forked process, as the shell starts it; ``prepare`` runs in it before."""

    def __init__(self, work: Path, *arguments: object, prepare: Callable[[], object] = int) -> None:
        self.answer, self.log = work / "answer.json", work / "output.txt"
        self.answer.unlink(missing_ok=True)
        self.began = time.monotonic()
        self.code, self.output, self.failure = -1, "", ""
        self.sent = set[int]()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._attacked([str(argument) for argument in arguments], prepare)
            finally:
                os._exit(CUT_OFF)

    def _attacked(self, arguments: list[str], prepare: Callable[[], object]) -> None:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, resource.RLIM_INFINITY))
        os.dup2(answer := os.open(self.answer, os.O_WRONLY | os.O_CREAT), 200)
        os.close(answer)
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False, buffering=1) for n in (1, 2))  # noqa: SIM115
        raw = ""
        try:
            prepare()
            main(arguments)
            code = 0
        except SystemExit as end:
            code = 0 if end.code is None else int(end.code)
        except Exception:  # the program answers a Ctrl-C itself: outside of it, it cuts off
            code, raw = 1, traceback.format_exc()
        os.write(200, json.dumps([code, raw]).encode())
        os._exit(0)

    def send(self, number: int) -> None:
        """Sends a signal, also to one that has ended and was not waited for."""
        self.sent.add(number)
        os.kill(self.pid, number)

    def wait(self) -> Case:
        """Waits for its end, which it is made to come to."""
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self.began > WALL:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.failure = "hang"
                return self
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(ended[1])
        self.output = self.log.read_text(errors="replace")
        if code == 0 and self.answer.stat().st_size:
            self.code, raw = json.loads(self.answer.read_text())
            self.output += raw
            self.failure = "traceback" * ("Traceback (most" in self.output)
        elif code == -signal.SIGXCPU:
            self.failure = "hang"
        elif -code not in self.sent and not (code == CUT_OFF and self.sent):
            self.failure = "died"
        return self


def command(*arguments: object) -> tuple[int, str, str]:
    """A command line in this process: exit code, output, and failure."""
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    raw = found.exception is not None and not isinstance(found.exception, SystemExit)
    output = found.output
    if raw and found.exception is not None:
        output += "".join(traceback.format_exception(found.exception))
    return found.exit_code, output, "traceback" * ("Traceback (most" in output)


def outcome(folder: Path) -> Any:
    """What the runs in a folder come to that have finished, each with a report, or None."""
    found = {}
    try:
        for path in sorted(folder.rglob("summary.json")):
            files = [path.with_name(n) for n in ("metrics.jsonl", "checkpoints/model.safetensors")]
            values = {k: v for k, v in json.loads(path.read_text()).items() if k not in TIMES}
            files += sorted(p for p in path.with_name("states.zarr").rglob("*") if p.is_file())
            contents = [file.read_bytes() if file.exists() else None for file in files]
            page = path.with_name("report.html").is_file()
            found[str(path.relative_to(folder))] = values, contents, page
    except (OSError, ValueError):
        return None
    return found or None


class Attack(ABC):
    """One kind of attack; ``weight`` is its share of the budget."""

    name: str
    weight: int

    def __init__(self, work: Path) -> None:
        self.work = work

    @abstractmethod
    def attempt(self, rng: random.Random) -> tuple[str, str]:
        """One try: the kind of failure, or nothing, and what was done."""

    def tries(self, seed: int, total: int) -> Iterator[tuple[str, str]]:
        """Makes all tries in forked processes, a new one where one dies of its try."""
        done, answers = 0, self.work / f"{type(self).__name__}.txt"
        while done < total:
            answers.write_text("")
            pid = os.fork()
            if pid == 0:
                for number in range(done, min(total, done + 100)):
                    found = self.limited(random.Random(f"{seed} {self.name} {number}"))
                    with answers.open("a") as file:
                        file.write(json.dumps([found[0], f"{number}: {found[1]}"]) + "\n")
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            for line in answers.read_text().splitlines():
                done += 1
                yield tuple(json.loads(line))
            if code != 0:
                late = -code in (signal.SIGXCPU, signal.SIGALRM)
                yield "hang" if late else "died", f"{done}: ended with {code}"
                done += 1

    def limited(self, rng: random.Random) -> tuple[str, str]:
        """One try with limits of time and memory."""
        soft = int(time.process_time()) + SECONDS + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        signal.alarm(3 * WALL)
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        failure, detail = self.attempt(rng)
        grown = memory("VmHWM") - before
        return failure or "memory" * (grown > BYTES), f"{detail}, {grown >> 20} MiB"


def memory(key: str) -> int:
    """What this process takes, in bytes."""
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
