"""Hostile scenarios, networks, overrides and options of plugins."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from processes import ROOT, Attack, command

from neurosim.families import plugins

NUMBERS = (0, 1, -1, 3, 0.5, 1e-3, 1e3, 1e-15, 1e-30, 1e-300, 5e-324, 10**6, 10**9, 10**12, 10**15)
NUMBERS += (2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**40, 1e30, 1e300, -1e300)
NUMBERS += tuple(map(float, ("nan", "inf", "-inf")))
TEXTS = (
    "",
    " ",
    "h1",
    "output",
    "é",
    "中" * 50,
    "\u202e",
    "x" * 10_000,
    "\x1b[2J",
    "../../x",
    "->",
)
TEXTS += ("/dev/zero", "null", "1e5", "12e7", "0,5", "0x10", "<script>", "%s%n", "a\nb", "a\tb")
TEXTS += ("cuda:99", "meta", "carry", "neuron", "settled", "bf16-mixed", "weight", "../networks")
OTHERS: tuple[Any, ...] = (None, True, [], {}, [[]], [None] * 1000, {"a": 1}, {"": 1}, [1, 8, 8])
OTHERS += ([10**6] * 3, [10**8], [-1], [1e3], list(range(3000)), {"kind": "tile", "size": 10**12})
OTHERS += ({"kind": "replay", "wakes": [[1e29, "h1", None]]}, {"kind": "sweep", "passes": 10**12})
OTHERS += ({"kind": "lazy", "duration": 3}, {"kind": "exponential", "scale": 1e-30, "high": 1e30})
LINE = {"kind": "uniform", "low": 0.0, "high": 3.0, "per": "synapse"}
MORE: tuple[tuple[str, Any], ...] = (  # what the shipped files do not say; and plugins' options
    ("stop", {"residual": 1e-3, "every": 2}),
    ("faults", {"dead": 0.1, "stuck": 0.1, "stuck_at": 1.0, "weight_noise": 0.1}),
    ("robustness", {"eps": 0.1}),
    ("study", {"kind": "convergence", "samples": 5, "reference": {"sweeps": 3}}),
    ("channels", {"mean": {"delay": LINE, "quantize": {"bits": 4, "range": 2.0}, "loss": 0.1}}),
    ("channels", {"difference": {"jitter": LINE, "refresh": 3, "threshold": 0.01, "noise": 0.1}}),
    ("costs", "loihi"),
    ("data", {"name": "mackey_glass", "length": 100, "tau": 17.0, "washout": 5}),
    ("data", {"name": "hyperplane", "length": 100, "inputs": 10, "drifting": 2}),
    ("plasticity", {"every": 2, "optimizer": {"kind": "adamw", "lr": 1e-3}, "clip": {"norm": 1.0}}),
    ("training", {"epochs": 2, "checkpoints": {"every": 1, "keep": 2}, "validation": 10}),
    ("schedule", {"kind": "coin", "probability": 0.3, "ticks": 4}),
    ("schedule", {"kind": "most_changed", "share": 0.1, "ticks": 4}),
    ("loss", {"kind": "hinge", "margin": 1.0}),
    ("feedback", {"kind": "mirror", "rate": 0.5, "decay": 1e-3}),
    ("channels", {"mean": {"effects": [{"kind": "bursts", "probability": 0.1}]}}),
    ("plasticity", {"kind": "large_differences", "threshold": 1e-4}),
    ("prediction", {"kind": "smoothed", "copies": 3, "std": 0.1}),
)
SENSIBLE = ("data.limit=20", "schedule.ticks=3", "rule.beta=0.1", "seed=1", "dtype=float64")
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
ENDS = (
    BOMB,
    "x: &a [*a]\n",
    "y: !!python/object/apply:os.system ['touch hacked']\n",
    "<<: {a: 1}\n",
)
ENDS += ("x: " + "[" * 20_000 + "\n", "x:\n  " + "- " * 1000 + "1\n", "z: " + "9" * 5000 + "\n")
ENDS += (
    "".join(f"k{i}: {i}\n" for i in range(5000)),
    "z: '" + "a" * 900_000 + "'\n",
    "---\nx: 1\n",
)
ENDS += (
    "---\nx: 1\n",
    "<<: {a: 1}\n",
    "w: 2026-01-01\nv: 1:20:30\n",
    "#" * 900_000 + "\n",
    '"\\ud800": 1\n',
    "z: 1e999\n",
)
SIGNS = "{}[]:,-'\"#&*!|>%@`?\t\0\ufeff\u2028\u0085\xa0\uff1a\x1b\r\v"


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every parent and key in a tree."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


class Fuzz(Attack):
    name, weight = "fuzzed scenarios, networks, overrides, plugins' options; validate", 200

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        for path in sorted((ROOT / "tests/plugins").glob("*.py")):
            plugins.load(path)
        kinds = ("scenarios", "networks")
        self.files = {n: sorted((ROOT / n).glob("*.yaml")) for n in kinds}
        self.texts = {path: path.read_text() for paths in self.files.values() for path in paths}
        trees = [yaml.safe_load(text) for text in self.texts.values()]
        found = [(parent, key) for tree in trees for parent, key in places(tree)]
        self.known: dict[Any, list[Any]] = {}  # what stands somewhere under a key
        for parent, key in found:
            self.known.setdefault(key, []).append(parent[key])
        for key, value in MORE:
            self.known.setdefault(key, []).append(value)

    def value(self, rng: random.Random, old: Any, key: Any) -> Any:
        """Another value: hostile, or near the old one, or what stands there elsewhere."""
        kind = rng.random()
        if kind < 0.3 and isinstance(old, int | float) and not isinstance(old, bool):
            return rng.choice([old * 2, old - 1, -old, old * 1000, old / 7, str(old), [old]])
        if kind < 0.55:
            return copy.deepcopy(rng.choice(self.known.get(key) or [old]))
        return copy.deepcopy(rng.choice(rng.choice([NUMBERS, NUMBERS, TEXTS, OTHERS])))

    def mutated(self, rng: random.Random, text: str) -> str:
        tree = yaml.safe_load(text)
        for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
            found, kind = list(places(tree)), rng.random()
            parent, key = rng.choice(found) if found else (tree, "x")
            if kind < 0.25 and isinstance(tree, dict):
                more, value = rng.choice(MORE)
                tree[more] = copy.deepcopy(value)
            elif kind < 0.8:
                parent[key] = self.value(rng, parent[key] if found else None, key)
            elif kind < 0.9 and found:
                del parent[key]
            elif isinstance(parent, dict):
                parent[rng.choice([*TEXTS, *self.known])] = self.value(rng, None, None)
            else:
                parent.extend(copy.deepcopy(parent) * rng.choice([1, 10]))
        return json.dumps(tree) if rng.random() < 0.2 else yaml.safe_dump(tree, sort_keys=False)

    def mangled(self, rng: random.Random, text: str) -> str:
        at, rows = rng.randrange(len(text)), text.split("\n")
        ways: list[Callable[[], str]] = [
            lambda: text + rng.choice(ENDS),
            lambda: text[:at],
            lambda: text[:at] + rng.choice(SIGNS) + text[at + rng.choice([0, 1]) :],
            lambda: "\n".join(rng.sample(rows, len(rows))),
            lambda: "\n".join([*rows, rng.choice(rows)]),
            lambda: re.sub(
                r"\d+(\.\d+)?(e-?\d+)?",
                lambda found: rng.choice([found[0]] * 4 + [str(rng.choice(NUMBERS))]),
                text,
            ),
        ]
        return rng.choice(ways)()

    def overrides(self, rng: random.Random) -> list[str]:
        found = []
        for _ in range(rng.choice([1, 1, 2, 3])):
            key, value = rng.choice([*MORE, *[(k, v[0]) for k, v in self.known.items()]])
            inner = [k for p, k in places(value)] if isinstance(value, dict | list) else []
            path = f"{key}{''.join(f'.{rng.choice(inner)}' for _ in inner[:1])}"
            path = rng.choice(
                [path, path, path, "probes[-1]", "network.layers[9]", "a..b", "", "x["]
            )
            text = json.dumps(self.value(rng, value, key))
            found.append(rng.choice([f"{path}={text}", f"{path}={text}", path, *SENSIBLE]))
        return [text for text in found if not text.startswith("-")]

    def attempt(self, rng: random.Random) -> tuple[str, str]:
        folder = rng.choice(["scenarios", "scenarios", "networks"])
        source = rng.choice(self.files[folder])
        how = rng.choice([self.mutated, self.mutated, self.mangled])
        text, more = self.texts[source], list[str]()
        if folder == "scenarios" and rng.random() < 0.25:
            more = ["--", *self.overrides(rng)]
        else:
            text = how(rng, text)
        if folder == "scenarios" and rng.random() < 0.5:  # whose data are there
            text = re.sub(r"data: \{name: \w+[^}]*\}", "data: {name: digits}", text)
        path = self.work / folder / "fuzzed.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        command_name = "validate" if folder == "scenarios" else "networks"
        code, output, failure = command(command_name, path, *more)
        if code not in (0, 2) or (code == 2 and "rror: " not in output):
            failure = failure or "unnamed"
        failure = failure or "silent" * (self.work / "hacked").exists()
        said = f": {output[-800:]} {text[-300:]!r}" if failure else ""
        return failure, f"{command_name} {source.name} {more} {how.__name__}{said}"
