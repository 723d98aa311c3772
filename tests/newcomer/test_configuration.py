"""What people expect of configuration files, as a newcomer tries it in a folder of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

import neurosim as ns
from neurosim.cli.main import main
from neurosim.documents import load

BASE = """\
name: base
network: {input: [64], layers: [{name: h1, dense: 8}, {dense: 10}]}
data: {name: digits, batch_size: 50, limit: 100}
schedule:
  kind: parallel
  ticks: 4
  tick: 0.5
training: {epochs: 1}
seed: 3
"""
MINE = """\
# My own variant.
defaults: [base.yaml]
name: mine
schedule: {kind: poisson, duration: 2.0}
training: {max_steps: 2}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    Path("mine.yaml").write_text(MINE)
    return tmp_path


def neurosim(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ---- defaults ------------------------------------------------------------------------------------


def test_a_file_says_only_what_differs() -> None:
    file = ns.Scenario.load(Path("mine.yaml")).file
    assert (file.name, file.seed, file.training.epochs, file.training.max_steps) == (
        "mine",
        3,
        1,
        2,
    )
    # What both kinds have stays; ticks belong to the former kind alone.
    assert file.schedule == ns.schedules.Poisson(duration=2.0, tick=0.5)


def test_files_on_files_are_seen_from_where_they_are() -> None:
    Path("deep/er").mkdir(parents=True)
    Path("deep/net.yaml").write_text("input: [64]\nlayers: [{dense: 10}]\n")
    Path("deep/base.yaml").write_text(BASE.replace("{input", "net.yaml # {input"))
    Path("deep/er/seeds.yaml").write_text("defaults: ../base.yaml\nseed: 8\n")
    Path("top.yaml").write_text("defaults: [deep/er/seeds.yaml, steps.yaml]\nname: top\n")
    Path("steps.yaml").write_text("training: {max_steps: 5}\n")
    scenario = ns.Scenario.load(Path("top.yaml"))
    assert (scenario.file.seed, scenario.file.training.max_steps) == (8, 5)
    assert scenario.network.dyads == 10
    assert "defaults" not in scenario.resolved()


def test_shipped_networks_and_defaults_go_by_name() -> None:
    Path("a.yaml").write_text("defaults: parallel\nname: a\nnetwork: digits_skip\n")
    scenario = ns.Scenario.load(Path("a.yaml"), ["network.initialization=he_normal"])
    assert ("h1", "output") in [(one.pre, one.post) for one in scenario.network.projections]
    Path("digits_skip").write_text("input: [64]\nlayers: [{dense: 10}]\n")  # a file goes first
    assert ns.Scenario.load(Path("a.yaml")).network.dyads == 10


@pytest.mark.parametrize(
    ("base", "mine", "said"),
    [
        ("seeed: 3\n", "", "base.yaml:10:1: unknown key 'seeed'; did you mean 'seed'?"),
        ("init: 3\n", "", "base.yaml:10:7: init: expected 'zero', 'feedforward' or 'carry'"),
        ("", "init: 3\n", "mine.yaml:6:7: init: expected 'zero', 'feedforward' or 'carry'"),
        ("", "loss: 0\n", "mine.yaml:6:7: loss: expected 'binary_cross_entropy'"),
        ("x: *a", "", "base.yaml:10:4: aliases are not supported"),
        ("defaults: mine.yaml\n", "", "base.yaml:10:11: mine.yaml leads back to itself"),
        ("defaults: [1]\n", "", "base.yaml:10:11: defaults names a file, or lists up to 20"),
        ("defaults: bse.yaml\n", "", "base.yaml:10:11: defaults: 'bse.yaml': no such file; did"),
    ],
)
def test_errors_name_the_right_file_and_line(base: str, mine: str, said: str) -> None:
    Path("base.yaml").write_text(BASE + base)
    Path("mine.yaml").write_text(MINE + mine)
    assert said in neurosim("validate", "mine.yaml", code=2).stderr


# ---- variables of the environment ----------------------------------------------------------------


def test_variables_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "17")
    monkeypatch.setenv("WHO", "me")
    Path("mine.yaml").write_text(MINE + "seed: ${env:SEED}\n")
    scenario = ns.Scenario.load(Path("mine.yaml"), ["name='by-${env:WHO}'"])
    assert (scenario.file.seed, scenario.file.name) == (17, "by-me")
    assert "${env" not in scenario.resolved()
    monkeypatch.delenv("SEED")
    error = neurosim("validate", "mine.yaml", code=2).stderr
    assert "mine.yaml:6:7: the environment has no variable 'SEED'; set it" in error


# ---- kinds ---------------------------------------------------------------------------------------


def test_another_kind_leaves_out_what_only_the_former_has() -> None:
    done = neurosim("validate", "base.yaml", "schedule.kind=poisson")
    assert done.stdout.endswith("schedule poisson\n")
    assert done.stderr == "warning: schedule.kind=poisson leaves out 'ticks' of base.yaml:6\n"
    done = neurosim("sweep", "base.yaml", "schedule.kind=parallel,poisson", "--dry-run")
    assert done.stderr.count("leaves out") == 1
    # What was asked for in the same breath is not left out.
    done = neurosim("validate", "base.yaml", "schedule.kind=poisson", "schedule.ticks=3", code=2)
    assert "schedule: unknown key 'ticks'" in done.stderr
    assert "'ticks' belongs to parallel" in done.stderr


@pytest.mark.parametrize("text", ["", "plasticity: {every: 2}\n"])
def test_a_key_belongs_to_the_kind_that_is_the_default(text: str) -> None:
    Path("base.yaml").write_text(BASE + text)
    said = ["rule.beta=0.25", "plasticity.optimizer.lr=0.1", "plasticity.optimizer.eps=1e-6"]
    file = ns.Scenario.load(Path("base.yaml"), said).file
    assert file.rule == ns.DualPropagation(beta=0.25)
    chosen: Any = file.plasticity.optimizer
    assert (chosen.kind, chosen.lr, chosen.eps) == ("adam", 0.1, 1e-6)
    done = neurosim("validate", "base.yaml", "plasticity.optimizer.momentum=0.9", code=2)
    assert "'momentum' belongs to sgd" in done.stderr
    # What the file says another kind of has no keys of the default.
    Path("base.yaml").write_text(BASE + "rule: {kind: backprop}\n")
    assert "unknown key 'beta'" in neurosim("validate", "base.yaml", said[0], code=2).stderr
    assert "needs a 'kind'" in neurosim("validate", "base.yaml", "rule={beta: 1}", code=2).stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lr=0.1", "unknown key 'lr'; did you mean plasticity.optimizer.lr?"),
        ("momentum=0.9", "did you mean plasticity.optimizer.momentum of kind sgd?"),
        ("rate=3", "did you mean schedule.rate of kind poisson?"),
        ("optimizer.lr=0.1", "unknown key 'optimizer'; did you mean plasticity.optimizer?"),
        ("epoch=3", "unknown key 'epoch'; did you mean training.epochs?"),
        (
            "delay=1",
            "did you mean channels.mean.delay or channels.difference.delay or stream.target.delay?",
        ),
        ("name=12e7", "got 120000000.0 (a number); put it into quotes, twice: key='\"…\"'"),
    ],
)
def test_a_hint_where_a_key_lives(override: str, said: str) -> None:
    assert said in neurosim("validate", "base.yaml", override, code=2).stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n\u00a0\u00a0epochs: 3\n", "2:1: unknown key '\\xa0\\xa0epochs'; write an or"),
        ("name:\u00a0x\n", "1:1: expected a mapping"),
        ("name： x\nseed: 1\n", "2:5: a ':' cannot stand here"),
        ("training:\n  epochs： 3\n", "got 'epochs： 3' (text); write ':' for '：' (U+FF1A)"),
        ("name: “x”\n", "name: must match the pattern"),
        ("plasticity: {optimizer: {kind: adam, lr: 0,1}}", "1:44: a ',' ends a value here"),
        ("plasticity:\n  optimizer: {kind: adam, lr: '0,1'}", "got '0,1' (text); write 0.1"),
        ("name: 12e7\n", "got 120000000.0 (a number); put it into quotes"),
        ("data: {root: ${env:HOME}}\n", "1:15: put ${env:…} into quotes within [ ] and { }"),
    ],
)  # fmt: skip
def test_slips_get_a_remedy_that_helps(text: str, said: str) -> None:
    Path("slip.yaml").write_text(text)
    error = neurosim("validate", "slip.yaml", code=2).stderr
    assert said in error
    if "\u00a0" in text or "：" in text or "“" in text:
        assert "; write " in error


# ---- before it is run, and where it begins -------------------------------------------------------


def test_a_dry_run_writes_nothing(here: Path) -> None:
    before = sorted(here.rglob("*"))
    text = neurosim("run", "mine.yaml", "seed=5", "--dry-run").stdout
    done = neurosim(
        "sweep", "mine.yaml", "schedule.rate=log(1e-1,10,3)", "--seeds", "2", "--dry-run"
    )
    assert sorted(here.rglob("*")) == before
    Path("again.yaml").write_text(text)
    assert ns.Scenario.load(Path("again.yaml")).file.seed == 5
    rows = re.findall(r"schedule.rate=(\S+) seed=(\d)", done.stdout)
    assert rows == [(rate, seed) for rate in ("0.1", "1", "10") for seed in "34"]
    assert "6 runs, 6 to be made" in done.stdout


@pytest.mark.parametrize(
    ("axis", "seeds"),
    [
        ("1..3", [1, 2, 3]),
        ("4..0..-2", [4, 2, 0]),
        ("lin(0,10,3)", [0, 5, 10]),
        ("7,1..2", [7, 1, 2]),
    ],
)
def test_ranges(axis: str, seeds: list[int]) -> None:
    done = neurosim("sweep", "mine.yaml", f"seed={axis}", "--dry-run")
    assert [int(seed) for seed in re.findall(r"seed=(\d+)", done.stdout)] == seeds


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("log(0,1,3)", "log(0,1,3): both ends must be above 0"),
        ("log(1,2)", "write it as log(low, high, number)"),
        ("lin(1,2,1.5)", "a whole number of values, 2 to 10000"),
        ("1..1000000", "more than 10000 values"),
        ("1..5..0", "1..5..0: the step leads nowhere"),
        ("0.1..0.5", "in steps of 1 there is one value; say a step, 0.1..0.5..0.1"),
    ],
)
def test_ranges_that_are_none(axis: str, said: str) -> None:
    assert said in neurosim("sweep", "mine.yaml", f"seed={axis}", "--dry-run", code=2).stderr


def test_training_starts_from_given_weights() -> None:
    network = ns.Scenario.load(Path("base.yaml")).network
    save_file(ns.Model(network, seed=99).state_dict(), "mine.safetensors")
    scenario = ns.Scenario.load(Path("base.yaml"), ["weights=mine.safetensors"])
    model = scenario.model()
    for name, value in ns.Model(network, seed=99).state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert load("base.yaml").value["seed"] == 3
    neurosim("run", "base.yaml", "weights=mine.safetensors", "--id", "a")
    first = Path("runs/base/a/scenario.yaml").read_text().partition("\n")[0]
    assert re.fullmatch("# weights mine.safetensors, SHA-256 [0-9a-f]{64}", first)
    Path("mine.safetensors").unlink()  # a checkpoint has what a resumed run needs
    resumed = ns.Scenario.load(Path("runs/base/a/scenario.yaml"))
    assert resumed.trainer(resumed.data(), resumed=True)
    assert load("runs/base/a/scenario.yaml").value["weights"] in resumed.resolved()
    save_file({"h1.weight": torch.zeros(2, 2)}, "other.safetensors")
    error = neurosim("run", "base.yaml", "weights=other.safetensors", "--id", "b", code=2).stderr
    assert (
        "<command line>:1:1: weights: other.safetensors: not the weights of this network" in error
    )
    assert not Path("runs/base/b").exists()


def test_a_run_says_when_and_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["neurosim", "run", "base.yaml", "name=a b"])
    neurosim("run", "base.yaml", "training.max_steps=1", "--id", "a", "--quiet")
    made = json.loads(Path("runs/base/a/environment.json").read_text())
    assert made["command"] == "neurosim run base.yaml 'name=a b'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made["began"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", made["commit"] or "0" * 40)
