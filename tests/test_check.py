"""`neurosim check`: what it says of plugins that conform, and of those that do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurosim.cli.main import main
from neurosim.compiled import kernels
from neurosim.families import plugins
from tests.plugged import EXTRAS, SCHEDULE, Write, write

__all__ = ["write"]  # the fixture


def checked(path: Path, code: int) -> str:
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_the_extras_conform() -> None:
    try:
        output = checked(EXTRAS, 0)
    finally:
        plugins.forget(plugins.load(EXTRAS))
    assert "schedule coin\n  ✓ written in a document\n" in output
    assert output.endswith("checks, none failed\n")


FAILING = {
    "draws elsewhere": (
        "np.full(len(due), tick + 1)",
        "tick + np.random.default_rng().integers(1, 4, len(due))",
        "the same seed gives other wakes",
        "Draw from the generator that you are given",
    ),
    "the wrong shape": (
        "np.full(len(due), tick + 1)",
        "np.full(len(due) + 1, tick + 1)",
        "ValueError: shape mismatch",
        "See",
    ),
    "forgets": (
        'Every(state["next"].numpy().copy()',
        "Every(np.full(at.layout.total, at.tick + 3)",
        "goes on in another way",
        "Save all that changes in state_dict",
    ),
    "never wakes": (
        "at.tick + 1), at.tick",
        "at.tick + 1) + 99 * (at.layout.population_of == 1), at.tick",
        "the population 'h2' never wakes",
        "Start every unit with a wake",
    ),
    "the past": (
        "np.full(len(due), tick + 1)",
        "np.full(len(due), tick)",
        "was passed over",
        "must be ticks that are still to come",
    ),
    "repeats": (
        "def start(self, at):\n            return Every(np.full(at.layout.total, at.tick + 1)",
        "repeats = True\n\n        def start(self, at):\n"
        "            return Every(at.tick + at.random.integers(1, 4, at.layout.total)",
        "other draws give other wakes",
        "Leave repeats out",
    ),
    "no example": ("ticks: int = 8", "ticks: int", "there is no example", "a classmethod example"),
}


@pytest.mark.parametrize("failing", list(FAILING))
def test_what_fails_and_how_to_mend_it(write: Write, failing: str) -> None:
    before, after, what, mend = FAILING[failing]
    text = SCHEDULE.replace(before, after)
    assert text != SCHEDULE
    if failing == "no example":  # a field without a default comes first
        text = text.replace("ticks: int", "").replace("unit: str", "ticks: int\n        unit: str")
    path = write(text)
    output = checked(path, 1)
    assert f"{path}:" in output
    assert what in output
    assert mend in output
    assert re.search(r"checks, [1-9]\d* failed\n$", output)


# What is replaced in the extras, and what is said of it.
SPOILED = {
    "activation of another dtype": (
        "threshold=50.0)",
        "threshold=50.0).double()",
        "f(a) of torch.float32 is torch.float64",
        "Keep the dtype",
    ),
    "activation over all dyads": (
        "return torch.nn.functional.softplus(potential",
        "return torch.nn.functional.softplus(potential - potential.mean()",
        "f(a) of some values is not that of all",
        "Act on each alone",
    ),
    "derivative": (
        "    sharpness: Positive = 1.0\n",
        "    sharpness: Positive = 1.0\n"
        "    def backward(self, potential, state, apical): return apical\n",
        "backward is f'(a) Δ\n",
        "Leave the closed form out, or mend it",
    ),
    "ceiling": (
        "    sharpness: Positive = 1.0\n",
        "    sharpness: Positive = 1.0\n    ceiling = 4.0\n",
        "f(a) is not min(max(a, 0), ceiling)",
        "Leave the ceiling out",
    ),
    "mean over the batch": (
        ".flatten(1).sum(1)",
        ".flatten(1).sum(1).mean().expand(len(target))",
        "value is not (B,), or a sample's loss depends on the others",
        "Sum over the outputs of each sample",
    ),
    "gradient": (
        "    margin: Positive = 1.0\n",
        "    margin: Positive = 1.0\n    gradient = lambda self, y, target: y - target\n",
        "gradient is not that of value",
        "Leave the closed form out, or mend it",
    ),
    "effect that draws elsewhere": (
        'parcel.normal(draws, "how")',
        "torch.randn_like(parcel.values)",
        "the same message becomes another one",
        "Draw from the generator that you are given",
    ),
    "effect that draws for the selected alone": (
        'parcel.normal(draws, "how")',
        'draws.normal("how", parcel.moment, parcel.values.shape, parcel.values.dtype)',
        "some neurons get other values",
        "Draw by Parcel.uniform and Parcel.normal",
    ),
    "effect of another shape": (
        "parcel.values = torch.where(burst, parcel.values * factor, parcel.values)",
        "parcel.values = (parcel.values * factor)[:1]",
        "it changes the shape or dtype",
        "Keep both as they are",
    ),
    "effect that moves zero": (
        "parcel.values * factor",
        "parcel.values + factor",
        "0 becomes another value",
        "Leave moves_zero out",
    ),
    "effect that is another in every inference": (
        'parcel.normal(draws, "how").abs()',
        'parcel.normal(draws, "how").abs() * (1 + parcel.moment.inference % 2)',
        "an inference that is replayed gives other results",
        "What repeats depends on what it is given and what it draws",
    ),
    "probe that writes": (
        "cell.plus.value.abs()",
        "cell.plus.value.mul_(1.5).abs()",
        "with the probe, plus is another",
        "Read the state, never write",
    ),
    "probe that records tensors": (
        "float(cell.plus.value.abs().max())",
        "cell.plus.value.abs().max()",
        "records a Tensor as ",
        ": record numbers, float(…)",
    ),
    "probe that records lists of tensors": (
        "float(cell.plus.value.abs().max())",
        "[cell.plus.value.abs().max()]",
        "a record is not what is read again (Object of type Tensor is not JSON serializable)",
        "Record numbers, text, lists and mappings",
    ),
    "not local": (
        "* prediction)",
        "* prediction.softmax(1))",
        "local: a gradient depends on its own output alone\n",
        "Set local = False",
    ),
}


@pytest.mark.parametrize("name", list(SPOILED))
def test_spoiled_extras(write: Write, name: str) -> None:
    before, after, what, mend = SPOILED[name]
    text = EXTRAS.read_text(encoding="utf-8")
    assert before in text
    # The others are not registered: that they conform is checked once.
    head, *members = re.split(r"^(?=@register)", text, flags=re.MULTILINE)
    spoiled = [m.replace(before, after) if before in m else m.split("\n", 1)[1] for m in members]
    path = write(head + "".join(spoiled))
    output = checked(path, 1)
    assert f"    {path}:" in output
    assert what in output
    assert mend in output
    assert "1 failed" in output


OPTIMIZER = """
    from dataclasses import dataclass
    import torch
    from neurosim.families import (register)
    from neurosim.maths import OptimizerChoice

    class Slower(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            self.steps += 1
            self.param_groups[0]["lr"] = 0.1 / self.steps
            super().step(closure)

    @register("slower")
    @dataclass(frozen=True)
    class SlowerAndSlower(OptimizerChoice):
        def make(self, parameters):
            return Slower(parameters, lr=0.1)
"""


SIGNS = """p = self.param_groups[0]["params"][0]
            self.held = 0.9 * getattr(self, "held", 0.0) + p.grad
            p.grad = self.held.sign()
"""


@pytest.mark.parametrize("remembers", ["steps", "signs"])
def test_an_optimizer_that_forgets(write: Write, remembers: str) -> None:
    """What it has outside of its state: how many steps, or a momentum of which the sign counts."""
    text = OPTIMIZER
    if remembers == "signs":
        begin, end = text.index("self.steps += 1"), text.index("            super().step")
        text = text[:begin] + SIGNS + text[end:]
    assert "a step after a pause is another" in checked(write(text), 1)


OPERATOR = """
    from dataclasses import dataclass
    import torch
    from neurosim.families import (register)
    from neurosim.maths import Operator

    @register("shifted")
    @dataclass(frozen=True)
    class Shifted(Operator):
        def forward(self, mean, weight):
            return mean.roll(1, -1)

        def adjoint(self, difference, weight):
            return difference.roll(-1, -1)
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "", "10 checks, none failed"),
        ("roll(-1, -1)", "roll(1, -1)", "Let adjoint be the transpose of forward"),
        ("return mean.", "return mean[..., 1:].", "adjoint gives"),
        (
            "def adjoint",
            "def forward_reach(self, sent):\n            return sent\n\n        def adjoint",
            "forward_reach is wrong",
        ),
    ],
)
def test_operators(write: Write, before: str, after: str, said: str) -> None:
    """The other half of an operator follows from the two methods that it has."""
    path = write(OPERATOR.replace(before, after))
    assert said in checked(path, 1 if before else 0)


RULE = """
    from dataclasses import dataclass
    from neurosim.families import (register)
    from neurosim.rules import DualPropagation

    @register("quick")
    @dataclass(frozen=True)
    class Quick(DualPropagation):
        def wake(self, woken):
            wake, last = super().wake(woken), woken.last
            told = last is not None and last.mean is not None
            return wake.knowing(news=(0, 0, False)) if told else wake

        def wake_at_once(self, woken, rows):
            return None
"""
ONE_PASS = "found = super().wake_at_once(woken, rows); rows.plus[:] *= 1.01; return found"


@pytest.mark.parametrize(
    ("before", "after", "fails"),
    [("if told", "if False", False), ("", "", True), ("return None", ONE_PASS, True)],
    ids=["right", "news", "pass"],
)
def test_a_rule_that_is_quick(write: Write, before: str, after: str, fails: bool) -> None:
    """What it does in one pass is what its wakes do one by one."""
    if after == ONE_PASS and kernels("wakes") is None:
        pytest.skip("only Numba makes passes")
    output = checked(write(RULE.replace(before, after)), 1 if fails else 0)
    assert (
        "✗ in one pass, poisson (5)" in output if fails else "✓ in one pass, parallel (5)" in output
    )
    assert ("one pass gives other results than `wake` alone" in output) == fails


MASKED = """
    from dataclasses import dataclass
    import torch
    from neurosim.families import (register)
    from neurosim.maths import Operator
    from neurosim.maths.operators.dense import Dense

    @register("masked")
    @dataclass(frozen=True)
    class Masked(Dense):
        def forward(self, mean, weight):
            return super().forward(mean, weight * (weight > 0))
"""
UNFIT = """
    from dataclasses import dataclass
    import torch
    from neurosim.families import (register)
    from neurosim.maths import Operator

    @register("unfit")
    @dataclass(frozen=True)
    class Unfit(Operator):
        def forward(self, mean, weight):
            return mean * torch.ones(mean.shape)

        def adjoint(self, difference, weight):
            return difference
"""


def test_what_nobody_would_ask_is_refused(write: Write) -> None:
    """Where the class that it is derived from computes in another way."""
    path = write(MASKED)
    assert f"{path}:8: Masked defines forward, of which nothing is asked" in checked(path, 2)


def test_an_operator_without_an_example_fails(write: Write) -> None:
    output = checked(write(UNFIT), 1)
    assert "there is no example of it: Unfit fails on [2, 6, 5]" in output


RULES = """
    from dataclasses import dataclass
    from neurosim.families import (register)
    from neurosim.rules import BackPropagation

    @register("loud")
    @dataclass(frozen=True)
    class Loud(BackPropagation):
        def mean(self, plus, minus):
            return 2 * plus
"""


def test_a_mean_that_is_not_sent(write: Write) -> None:
    output = checked(write(RULES), 1)
    assert "the population 'h1' sends another mean than that of its states" in output


def test_a_plugin_that_registers_nothing(write: Write) -> None:
    path = write("import numpy\n")
    output = checked(path, 2)
    assert output.startswith(f"error: {path}:1: it registers nothing")


METRIC = """
    from dataclasses import dataclass
    import neurosim as ns

    @ns.register("mine")
    @dataclass(frozen=True)
    class Mine(ns.Metric):
        def sums(self, prediction, target):
            return (prediction - target).double().square().sum()

        def value(self, sums, samples):
            return VALUE
"""


@pytest.mark.parametrize("value", ["None", "'high'", "float('nan')", "True", "{'a': 1.0}"])
def test_a_metric_that_is_no_number(write: Write, value: str) -> None:
    output = checked(write(METRIC.replace("VALUE", value)), 1)
    assert "value is " in output
    assert "Return a number, or lists of numbers" in output


def test_a_metric_that_is_a_number(write: Write) -> None:
    checked(write(METRIC.replace("VALUE", "float(sums) / samples")), 0)
