"""Attacks the command line, and prints tries and failures: ``python tests/chaos SEED BUDGET``.

With the beginning of an attack's name only that attack is made, and with a number after it only
that try. Each try runs in a process forked from this one, which has imported everything. Linux."""

import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from damages import DataDamage, FolderDamage
from forgeries import Forgery
from fuzz import Fuzz
from ordeals import BASES, Environment, Fault, Kill, Signals
from processes import FAILURES, ROOT, command

ATTACKS = (Fuzz, FolderDamage, Forgery, DataDamage, Kill, Signals, Fault, Environment)


def chaos(seed: int, budget: int, work: Path, only: str = "", number: int | None = None) -> int:
    """Attacks, prints the table, and returns the number of failures."""
    for name in ("scenarios", "networks"):
        shutil.copytree(ROOT / name, work / name)
    os.chdir(work)
    for arguments, _ in BASES.values():  # imports all
        command(*arguments, "--out", work / "warm")
    print(f"seed {seed}, budget {budget}\n\n| attack | tries | {' | '.join(FAILURES)} |")
    print("|---|---" + "|---" * len(FAILURES) + "|")
    failures = 0
    for kind in (kind for kind in ATTACKS if kind.name.startswith(only)):
        attack = kind(work)
        if number is not None:
            print(attack.limited(random.Random(f"{seed} {kind.name} {number}")))
            continue
        tries, counts = budget * kind.weight, Counter[str]()
        for failure, detail in attack.tries(seed, tries):
            counts[failure] += 1
            if failure:
                print(f"{failure}: {kind.name}: {detail}", file=sys.stderr, flush=True)
        cells = " | ".join(str(counts[failure]) for failure in FAILURES)
        print(f"| {kind.name} | {tries} | {cells} |", flush=True)
        failures += tries - counts[""]
    return failures


if __name__ == "__main__":
    torch.set_num_threads(1)
    seed, budget, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        which = (rest[0], *map(int, rest[1:])) if rest else ()
        raise SystemExit(bool(chaos(int(seed), int(budget), Path(place), *which)))
