"""Attacks the command line, and prints tries and failures: ``python tests/chaos SEED BUDGET``.

Each case runs in a process forked from this one, which has imported everything."""

import copy
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import yaml
from click.testing import CliRunner

from neurosim.cli.main import main

ROOT = Path(__file__).parents[2]
SECONDS, BYTES, WALL = 10, 1 << 30, 120  # processor time, memory, and time before a case "hangs"
TIMES = {"seconds", "cpu_seconds", "epoch_seconds", "epoch_cpu_seconds", "peak_memory_bytes"}
SHORT = ["data.limit=100", "schedule.ticks=4", "training.epochs=3", "probes=[accuracy, reach]"]
SHORT += ["network.layers[0].dense=8", "network.layers[1].dense=8", "threads=1"]
FAILURES = ("lost", "silent", "traceback", "died", "hang", "memory")
CUT_OFF = 77  # the exit code of a case that a signal met outside of the program


class Case:
    """A command line in a forked process."""

    def __init__(self, work: Path, *arguments: object) -> None:
        self.answer = work / "answer.json"
        self.answer.unlink(missing_ok=True)
        self.began = time.monotonic()
        self.code, self.output, self.failure = -1, "", ""
        self.sent = set[int]()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._attacked([str(argument) for argument in arguments])
            finally:
                os._exit(CUT_OFF)

    def _attacked(self, arguments: list[str]) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        found = CliRunner().invoke(main, arguments)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        raw = found.exception is not None and not isinstance(found.exception, SystemExit)
        failure = "traceback" if raw or "Traceback" in found.output else ""
        failure = failure or "memory" * (grown > BYTES)
        output = found.output + repr(found.exception) * raw
        self.answer.write_text(json.dumps([found.exit_code, output, failure]))
        os._exit(0)

    def send(self, number: int) -> None:
        """Sends a signal, also to one that has ended and was not waited for."""
        self.sent.add(number)
        os.kill(self.pid, number)

    def wait(self) -> "Case":
        """Waits for its end, which it is made to come to."""
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self.began > WALL:
                self.send(signal.SIGKILL)
                ended = os.waitpid(self.pid, 0)
                self.failure = "hang"
                return self
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(ended[1])
        if self.answer.is_file() and code == 0:
            self.code, self.output, self.failure = json.loads(self.answer.read_text())
        elif code == -signal.SIGXCPU:
            self.failure = "hang"
        elif -code not in self.sent and not (code == CUT_OFF and self.sent):
            self.failure = "died"
        return self


def outcome(folder: Path) -> Any:
    """What a finished run comes to, or None."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        files = [folder / name for name in ("metrics.jsonl", "checkpoints/model.safetensors")]
        found = {key: value for key, value in summary.items() if key not in TIMES}
        return found, [path.read_bytes() for path in files], (folder / "report.html").is_file()
    except (OSError, ValueError):
        return None


class Attack(ABC):
    """One kind of attack; ``weight`` is its share of the budget."""

    name: str
    weight: int

    def __init__(self, work: Path, rng: random.Random, whole: Path, wall: float) -> None:
        self.work, self.rng, self.whole, self.wall = work, rng, whole, wall
        self.reference = outcome(whole)

    @abstractmethod
    def attempt(self) -> tuple[str, str]:
        """One case: the kind of failure, or nothing, and what was done."""


class Signals(Attack):
    """A run that gets signals at a random moment, and is resumed."""

    name, weight = "signals TERM, INT, INT twice, STOP and CONT; then resume", 2
    sequences: tuple[tuple[int, ...], ...] = (
        (signal.SIGTERM,),
        (signal.SIGINT,),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGSTOP, signal.SIGCONT),
    )

    def attempt(self) -> tuple[str, str]:
        out, sent = self.work / "run", self.rng.choice(self.sequences)
        shutil.rmtree(out, ignore_errors=True)
        scenario = self.work / "scenarios/parallel.yaml"
        case = Case(self.work, "run", scenario, *SHORT, "--out", out, "--id", "x")
        moment = self.rng.uniform(0, self.wall)
        time.sleep(moment)
        for number in sent:
            case.send(number)
            time.sleep(self.rng.uniform(0, 0.05))
        failure, folder = case.wait().failure, out / "parallel/x"
        if not failure and (folder / "checkpoints/last.safetensors").is_file():
            again = Case(self.work, "resume", folder).wait()
            same = outcome(folder) == self.reference
            failure = again.failure or ("" if same else "lost")
        return failure, f"{[int(n) for n in sent]} after {moment:.3f} s"


class Kill(Signals):
    """The same with kill -9."""

    name, weight = "kill -9 at a random moment; then resume", 5
    sequences = ((signal.SIGKILL,),)


class Damage(Attack):
    """A file of a run folder is damaged; then a command."""

    name, weight = "damaged files of a run folder; then resume or report", 10
    files: tuple[str, ...] = (
        "scenario.yaml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "manifest.json",
    )
    files += ("checkpoints/last.safetensors", "checkpoints/model.safetensors")

    def attempt(self) -> tuple[str, str]:
        folder, rng = self.work / "damaged", self.rng
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.whole, folder)
        path = folder / rng.choice(self.files)
        data, at = path.read_bytes(), rng.randrange(path.stat().st_size)
        how, after = rng.choice(
            [
                ("bit", data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]),
                ("cut", data[:at]),
                ("zeros", data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]),
                ("grown", data + data[-50:]),
            ]
        )
        path.write_bytes(after)
        command = rng.choice(["resume", "report"])
        case = Case(self.work, command, folder).wait()
        right = outcome(folder) == self.reference
        if command == "report":
            page = (self.whole / "report.html").read_bytes()
            right = (folder / "report.html").read_bytes() == page
        said = case.code != 0 or path.name in case.output
        return case.failure or ("" if right or said else "silent"), f"{command} {path.name} {how}"


class Fuzz(Attack):
    """A shipped scenario with hostile values, through `validate`."""

    name, weight = "fuzzed scenarios; validate", 20
    values: tuple[Any, ...] = (
        0,
        -1,
        1e-30,
        1e-15,
        10**6,
        10**12,
        2**63,
        1e30,
        1e300,
        float("nan"),
        float("inf"),
    )
    values += (None, True, "", "x" * 10_000, "\x1b[2J", [], {}, [1, 8, 8], [None] * 1000)

    def places(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Every parent and key in a tree."""
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in list(pairs):
            yield node, key
            if isinstance(value, dict | list):
                yield from self.places(value)

    def attempt(self) -> tuple[str, str]:
        source = self.rng.choice(sorted((ROOT / "scenarios").glob("*.yaml")))
        tree, changes = yaml.safe_load(source.read_text()), []
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            parent, key = self.rng.choice(list(self.places(tree)))
            parent[key] = copy.deepcopy(self.rng.choice(self.values))
            changes.append(f"{key}={str(parent[key])[:20]!r}")
        path = self.work / "scenarios/fuzzed.yaml"
        path.write_text(yaml.safe_dump(tree))
        return Case(self.work, "validate", path).wait().failure, f"{source.name} {changes}"


def chaos(seed: int, budget: int, work: Path) -> int:
    """Attacks, prints the table, and returns the number of failures."""
    for name in ("scenarios", "networks"):
        shutil.copytree(ROOT / name, work / name)
    scenario = str(work / "scenarios/parallel.yaml")
    CliRunner().invoke(main, ["run", scenario, *SHORT, "--out", str(work / "warm")])  # imports all
    began = time.monotonic()
    arguments = [scenario, *SHORT, "--out", work / "whole", "--id", "x"]
    whole = Case(work, "run", *arguments).wait()
    assert whole.code == 0, whole.output
    wall, failures = time.monotonic() - began, 0
    print(f"seed {seed}, budget {budget}\n\n| attack | tries | {' | '.join(FAILURES)} |")
    print("|---|---" + "|---" * len(FAILURES) + "|")
    for kind in (Fuzz, Damage, Kill, Signals):
        attack = kind(work, random.Random(f"{seed} {kind.name}"), work / "whole/parallel/x", wall)
        tries, counts = budget * kind.weight, Counter[str]()
        for _ in range(tries):
            failure, detail = attack.attempt()
            counts[failure] += 1
            if failure:
                print(f"{failure}: {kind.name}: {detail}", file=sys.stderr, flush=True)
        print(f"| {kind.name} | {tries} | {' | '.join(str(counts[f]) for f in FAILURES)} |")
        sys.stdout.flush()
        failures += tries - counts[""]
    return failures


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        raise SystemExit(bool(chaos(int(sys.argv[1]), int(sys.argv[2]), Path(place))))
