"""The six diffs of CONTRIBUTING.md: each touches one file of the package, and works everywhere."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"^```diff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(SWEEP,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WORDS = shlex.split(SWEEP.replace("\\\n", ""))[1:]
SHORT = ["training.epochs=1", "data.limit=100", "--jobs", "0", "--quiet"]

# In a sweep, in the schemas, checked, resumed within an inference; the array is counted and saved.
WORKS = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
from neurosim.cli.main import main
from neurosim.learning import load_state, save_state
from neurosim.scenario import Scenario
from neurosim.tensors import Dimensions

def said(*arguments):
    return CliRunner().invoke(main, arguments, catch_exceptions=False).stdout

said(*json.loads(sys.argv[2]))
for kind in ("clipped_backprop", "round_robin", "clip"):
    assert f'"const": "{kind}"' in said("schema")
assert '"gain"' in said("schema", "--network")
assert "checks, none failed" in said("check", "neurosim/channels/clip.py")

scenario = Scenario.load("scenarios/parallel.yaml", json.loads(sys.argv[1]))
whole, part = (scenario.trainer(scenario.data()) for _ in range(2))
ticks = iter(range(30))
list(part.events(lambda: next(ticks) == 29))
save_state(Path("saved"), part.state_dict())
again = scenario.trainer(scenario.data())
again.load_state_dict(load_state(Path("saved")))
assert again.simulation.tick == part.simulation.tick > 0
(link, *_) = again.simulation.state.links
assert "peak" in link.arrays() and link.peak.value.equal(part.simulation.state.links[0].peak.value)
assert link.peak.nbytes(Dimensions(50, 4, 20)) == 50 * 4 * 64
for trainer in (whole, again):
    trainer.fit()
found, expected = (t.model.state_dict() for t in (again, whole))
assert all(found[name].equal(expected[name]) for name in expected)
"""


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the six of them, where all of the above has been done."""
    folder = tmp_path_factory.mktemp("patched")
    for name in ("neurosim", "scenarios", "networks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for diff in DIFFS:
        subprocess.run(["git", "apply"], input=diff, text=True, cwd=folder, check=True)
    settings = [part for part in WORDS[2:] if not part.startswith("rule.limit")]
    given = [*settings, *SHORT[:2]], [*WORDS, *SHORT, "--out", "swept"]
    command = [sys.executable, "-c", WORKS, *map(json.dumps, given)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_each_touches_one_file() -> None:
    files = [re.findall(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE) for diff in DIFFS]
    assert len(files) == 6
    assert all(len(names) == 1 and names[0].startswith("neurosim/") for names in files)


def test_a_sweep_uses_all(worked: Path) -> None:
    (table,) = worked.glob("swept/**/results.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["rule.limit"] for row in rows] == ["0.05", "0.1"]
    assert all(float(row["largest_weight"]) > 0 for row in rows)
    assert "Largest weight" in (table.parent / "report.html").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in table.parent.glob("*/*/report.html")]
    assert len(pages) == 2
    assert all("<dt>Largest weight</dt>" in page for page in pages)
