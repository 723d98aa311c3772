"""The shipped files with slips in them: an error with a line, or a valid file; no traceback."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fewer import randomly
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from malformed import MARK, bounded_memory

from neurosim.base.errors import DivergenceError, DocumentError
from neurosim.cli.main import main
from neurosim.learning.events import EpochEvent
from neurosim.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for folder in ("scenarios", "networks")
    for path in sorted((ROOT / folder).glob("*.yaml"))
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the shipped files, as the current folder."""
    folder, before = tmp_path_factory.mktemp("shipped"), Path.cwd()
    for name in ("scenarios", "networks"):
        shutil.copytree(ROOT / name, folder / name)
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    with bounded_memory():
        yield


def invoke(*arguments: str) -> Result:
    """Runs a command that may fail, but only with errors as they should be."""
    result = CliRunner().invoke(main, arguments)
    shown = (result.output, result.exception)
    if result.exit_code == 0:
        assert result.stderr == "", shown
        return result
    assert isinstance(result.exception, SystemExit), shown
    assert result.stderr.startswith("error: "), shown
    if result.exit_code == 2:
        for line in result.stderr.removeprefix("error: ").splitlines():
            assert MARK.fullmatch(line), line
    return result


# ---- slips -------------------------------------------------------------------------------------


def words(text: str) -> st.SearchStrategy[str]:
    """One of the words; • stands for a space within a word."""
    return st.sampled_from([word.replace("•", " ") for word in text.split()])


VALUES = words("""
    0 1 2 3 -1 0.5 1.5 -0.5 1e-3 1e3 1000000 1000000000000 1e300 1e-300 5e-324 1e999 .inf -.inf .nan
    null ~ true no yes on off '' '1' "a" x h1 h9 input output neuron population sweep lazy zero
    feedforward carry [] {} [1] [[]] [1,2,3] {a:•1} *x &x !x | > @ ` % 2026-01-01 0x1F 0o17 1_000
    99999999999999999999999999 ../networks/digits_mlp.yaml ../networks . / \u00e9 \u200b
""")
LINES = words("""
    # seed:•1 ••seed:•1 -•x ••-•x x x: :•x { } [ ] --- ... %YAML•1.2 ?•x <<:•*a name:•lazy " '
    nudge_after:•2 stop:•{residual:•0.1} dtype:•float64 processes:•neuron
    network:•{input:•64,•layers:•[{dense:•10}]} training:•{evaluation:•settled}
""")
CHARACTERS = st.sampled_from(
    [*" \t\n:,-{}[]'\"#&*!|>%@`?.0159aeE_é\u2028\u0085\x00\x07\ufeff😀", ""]
)
SLIPS = words("""
    value value value value word word character character drop twice insert swap indent cut
""")


@st.composite
def slips(draw: st.DrawFn, text: str) -> str:
    """The text with a few slips, as one makes them with an editor."""
    for _ in range(draw(st.integers(1, 3))):
        slip = draw(SLIPS)
        if slip in ("value", "word"):
            pattern = r"(?:[:,\[] *|- )([^\s,{}\[\]]+)" if slip == "value" else "([a-z_]{2,})"
            places = [found.span(1) for found in re.finditer(pattern, text)]
            start, end = draw(st.sampled_from(places or [(0, 0)]))
            word = text[start:end]
            wrong = st.sampled_from(
                [word[1:], word[:-1], word + word[-1:], word.upper(), word[::-1]]
            )
            text = text[:start] + draw(VALUES if slip == "value" else wrong) + text[end:]
        elif slip == "character":
            place, gone = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
            text = text[:place] + draw(CHARACTERS) + text[place + gone :]
        else:
            text = "\n".join(draw(slipped_lines(slip, text.split("\n"))))
    return text


@st.composite
def slipped_lines(draw: st.DrawFn, slip: str, lines: list[str]) -> list[str]:
    number = draw(st.integers(0, len(lines) - 1))
    before, line, after = lines[:number], lines[number], lines[number + 1 :]
    match slip:
        case "drop":
            return [*before, *after]
        case "twice":
            return [*before, line, line, *after]
        case "insert":
            return [*before, draw(LINES), line, *after]
        case "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[number], lines[other] = lines[other], line
            return lines
        case "indent":
            indent = draw(st.sampled_from(["", " ", "  ", "    ", "\t"]))
            return [*before, indent + line.lstrip(), *after]
        case _:
            return [*before, line]


@pytest.mark.parametrize("count", [15, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TEXTS)
def test_slips_in_the_shipped_files(name: str, count: int) -> None:
    path = Path(name)
    command = "validate" if name.startswith("scenarios") else "networks"

    @given(text=slips(TEXTS[name]))
    @settings(max_examples=count, database=None)
    def check(text: str) -> None:
        path.write_bytes(text.encode())
        assert invoke(command, name).exit_code in (0, 2)

    try:
        check()
    finally:
        path.write_text(TEXTS[name])


@given(data=st.binary(max_size=300) | st.text(st.characters(codec="utf-8")).map(str.encode))
@settings(max_examples=100, database=None)
def test_junk(data: bytes) -> None:
    Path("junk.yaml").write_bytes(data)
    for command in ("validate", "networks", "run"):
        assert invoke(command, "junk.yaml").exit_code == 2


KEYS = words("""
    name network data data.limit data.batch_size rule.alpha rule.beta rule.nudge loss init schedule
    schedule.kind schedule.unit schedule.tick schedule.duration nudge_after stop stop.residual
    channels.mean.threshold channels.overrides.h1 plasticity.every plasticity.optimizer.lr probes
    probes[0] probes.1 training.epochs seed device dtype processes threads network.layers x [0] a..b
""")
SECTIONS = words("{kind:•lazy,•duration:•3} {kind:•replay,•wakes:•[[1,•h1,•[0]]]}")
SIGNS = st.sampled_from(["=", "=", "=", "=", "", "==", " = "])
OVERRIDES = st.builds("{}{}{}".format, KEYS, SIGNS, VALUES | SECTIONS)


@given(
    name=st.sampled_from([name for name in TEXTS if name.startswith("scenarios")]),
    overrides=st.lists(OVERRIDES, min_size=1, max_size=3),
)
@settings(max_examples=150, database=None)
def test_any_overrides(name: str, overrides: list[str]) -> None:
    assert invoke("validate", name, "--", *overrides).exit_code in (0, 2)


# ---- what validates also runs ------------------------------------------------------------------

CYCLE = """
{populations: {i: {shape: 64, role: input}, a: {shape: 9}, b: {shape: 9},
               o: {shape: 10, role: output}},
 projections: [{from: i, to: a}, {from: a, to: b}, {from: b, to: a}, {from: b, to: o},
               {from: a, to: b, op: identity, name: same}]}"""
NETWORKS = (
    "networks/digits_mlp.yaml",
    "networks/digits_conv.yaml",
    "networks/digits_skip.yaml",
    "{input: 64, layers: [{dense: 10}]}",
    "{input: [1, 8, 8], layers: [{pool: avg}, {conv: 3, stride: 2}, {pool: max}, {dense: 10}]}",
    "{input: 64, layers: [{dense: 9, activation: tanh, bias: false}, {dense: 9}, {dense: 10}]}",
    CYCLE,
)
UNITS = (
    *("neuron", "channel", "column", "tile", "block", "population"),
    *("{kind: tile, size: 3}", "{kind: block, size: 7}"),
)
SCHEDULES = (
    "kind: sweep, order: forward, passes: 2",
    "kind: sweep, order: backward",
    "kind: sweep, order: forward_backward, passes: 2",
    "kind: sweep, order: odd_even, passes: 3",
    "kind: parallel, ticks: 6",
    "kind: random_order, groups: 3, passes: 2",
    "kind: random_order, updates: 12",
    "kind: poisson, rate: 0.7, duration: 8",
    "kind: periodic, spread: 0.2, jitter: 0.1, duration: 8",
    "kind: lazy, duration: 8",
)
OTHERS: dict[str, tuple[object, ...]] = {
    "rule.variant": ("aro", "lagrangian", "damped"),
    "rule.alpha": (0, 0.3, 0.5, 1),
    "rule.beta": (0.1, 0.9),
    "nudge_after": (2, 0),
    "channels": ("{}", "{mean: {threshold: 0.01}}", "{difference: {threshold: 100, delay: 0.4}}"),
    "plasticity.every": ("null", 1, 2),
    "plasticity.optimizer": (
        "{kind: sgd, lr: 0.1, momentum: 1}",
        "{kind: adamw, lr: 100}",
        "{kind: sgd, lr: 1.0e+6}",
    ),
    "stop": ("null", "{residual: 0.1, every: 2}"),
    "training.validation": ("null", 7),
    "processes": ("population", "neuron"),
    "dtype": ("float32", "float64"),
    "compute": ("auto", "dense"),
    "data.batch_size": (1, 6),
}


@st.composite
def scenarios(draw: st.DrawFn) -> list[str]:
    """Overrides that make another scenario, most often a valid one."""
    network = draw(st.sampled_from(NETWORKS))
    schedule, unit = draw(st.sampled_from(SCHEDULES)), draw(st.sampled_from(UNITS))
    if "updates" in schedule:
        unit = "population"
    tick = draw(st.sampled_from([1.0, 0.5, 3.0]))
    if network == CYCLE:
        init = draw(st.sampled_from(["zero", "carry"]))
        evaluation, probes = "settled", "[residual, reach]"
    else:
        init = draw(st.sampled_from(["zero", "feedforward", "carry"]))
        evaluation = draw(st.sampled_from(["feedforward", "settled"]))
        probes = "[residual, gradient_angle, reach, messages, {kind: wakes, every: 3}, loss]"
    loss = draw(st.sampled_from(["squared_error", "cross_entropy"]))
    nudges = ["potential"]
    nudges += ["prediction"] if init == "feedforward" else []
    nudges += ["proximal"] if loss == "squared_error" else []
    chosen = {
        "network": network,
        "schedule": f"{{{schedule}, unit: {unit}, tick: {tick}}}",
        "init": init,
        "loss": loss,
        "rule.nudge": draw(st.sampled_from(nudges)),
        "training.evaluation": evaluation,
        "probes": probes,
    }
    chosen |= {key: draw(st.sampled_from(values)) for key, values in OTHERS.items()}
    return [f"{key}={value}" for key, value in chosen.items()]


@pytest.mark.filterwarnings("ignore:in .* ticks nothing was sent")  # thresholds may be too high
@randomly(40, 200, scenarios(), database=None, phases=[Phase.generate])  # shrinking takes minutes
def test_what_validates_also_runs(overrides: list[str]) -> None:
    """Without the command line, whose report takes longer than all the rest."""
    short = ["data.limit=13", "training.epochs=2", "training.max_steps=3"]
    try:
        scenario = Scenario.load(Path("scenarios/parallel.yaml"), [*overrides, *short])
    except DocumentError:
        return
    trainer = scenario.trainer(scenario.data())
    # States may diverge, which is no error in the scenario; what is one has been found by now.
    with contextlib.suppress(DivergenceError):
        events = list(trainer.events())
        assert trainer.done
        assert isinstance(events[-1], EpochEvent)
