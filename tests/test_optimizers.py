"""Optimizers, against torch and their formulas."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from forged import leaves, replaced, wrong
from small_trainings import NETWORK, events, make
from torch import Tensor

from neurosim.base.errors import ConfigurationError, StateError
from neurosim.learning.checkpoint import load_optimizer, load_state, save_state
from neurosim.learning.trainer import Trainer, TrainingPlan
from neurosim.maths.optimizers import (
    SGD,
    Adam,
    AdamW,
    OptimizerChoice,
    ParameterGroup,
    TorchOptimizer,
)
from neurosim.tensors import complete

NAMED: Any = {
    "input": [1, 8, 8],
    "layers": [{"name": "h", "dense": 9}, {"name": "output", "dense": 10}],
}

QUICK = """
name: quick
network: {input: [1, 8, 8], layers: [{name: output, dense: 10}]}
data: {name: digits, batch_size: 50, limit: 100}
schedule: {kind: parallel, ticks: 2}
plasticity: {kind: contrastive_hebbian, optimizer: {kind: adam}, learning_rate: {kind: cosine}}
training: {epochs: 1}
"""


def sgd(choice: SGD) -> Callable[[Tensor, Tensor, int], Tensor]:
    velocity: list[Tensor] = []

    def step(weight: Tensor, gradient: Tensor, number: int) -> Tensor:
        if choice.decoupled:
            weight = weight - choice.lr * choice.weight_decay * weight
        else:
            gradient = gradient + choice.weight_decay * weight
        velocity[:] = [choice.momentum * velocity[0] + gradient if number > 1 else gradient]
        ahead = gradient + choice.momentum * velocity[0] if choice.nesterov else velocity[0]
        return weight - choice.lr * ahead

    return step


def adam(choice: Adam | AdamW) -> Callable[[Tensor, Tensor, int], Tensor]:
    first, second = choice.betas
    moments: list[Tensor] = [torch.zeros(()), torch.zeros(())]

    def step(weight: Tensor, gradient: Tensor, number: int) -> Tensor:
        if choice.kind == "adam":
            gradient = gradient + choice.weight_decay * weight
        else:
            weight = weight * (1 - choice.lr * choice.weight_decay)
        moments[0] = first * moments[0] + (1 - first) * gradient
        moments[1] = second * moments[1] + (1 - second) * gradient**2
        mean, variance = moments[0] / (1 - first**number), moments[1] / (1 - second**number)
        return weight - choice.lr * mean / (variance.sqrt() + choice.eps)

    return step


@pytest.mark.parametrize(
    "choice",
    [
        SGD(lr=0.1),
        SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
        SGD(lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
        SGD(lr=0.05, momentum=0.9, weight_decay=0.5, decoupled=True),
        Adam(lr=0.01),
        Adam(lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-3),
        AdamW(lr=0.01, weight_decay=0.1),
    ],
    ids=str,
)
def test_the_optimizers_take_the_steps_of_their_formulas(choice: OptimizerChoice) -> None:
    trainer = make(TrainingPlan(1, batch_size=20, loss_every=1), optimizer=choice)
    model, simulation = trainer.model, trainer.simulation
    formula = sgd if choice.kind == "sgd" else adam
    rules = {name: formula(choice) for name in model.state_dict()}
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    batches = make(TrainingPlan(1, batch_size=20)).batches  # the same order, drawn anew
    for number, _ in enumerate(events(trainer, "step"), 1):
        x, labels = batches.next()
        simulation.model.load_state_dict(expected)
        simulation.infer(x, torch.nn.functional.one_hot(labels, 10).double())
        gradients = simulation.gradients()
        expected = {k: rules[k](expected[k], gradients[k], number) for k in expected}
    fresh = make(TrainingPlan(1, batch_size=20), optimizer=choice)
    events(fresh)
    for name, value in fresh.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)


def test_groups_are_mappings_in_python() -> None:
    said = [{"parameters": "*.bias", "lr": 0.2}, ParameterGroup("h1", lr=0.1)]
    made = OptimizerChoice.of("sgd", groups=said)
    assert made.groups == (ParameterGroup("*.bias", lr=0.2), ParameterGroup("h1", lr=0.1))
    for group, words in (
        ({"parameters": "h1", "rate": 1.0}, "unknown key of a group 'rate'; it is one of param"),
        ({"lr": 1.0}, "a group needs the key 'parameters'"),
        (3, "it must be a ParameterGroup"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            OptimizerChoice.of("sgd", groups=[group])


@pytest.mark.parametrize("decoupled", [False, True])
def test_groups_of_parameters(decoupled: bool) -> None:
    """Each parameter steps as under an optimizer of its own; of two groups the last counts."""
    groups = (
        ParameterGroup("*.bias", weight_decay=0.0),
        ParameterGroup(("output", "h*.weight"), lr=0.3),
        ParameterGroup("h1", lr=0.02),
    )
    common = {"momentum": 0.9, "decoupled": decoupled}
    own = {
        "h1.weight": (0.02, 0.1), "h1.bias": (0.02, 0.0), "h2.weight": (0.3, 0.1),
        "h2.bias": (0.1, 0.0), "output.weight": (0.3, 0.1), "output.bias": (0.3, 0.0),
    }  # fmt: skip
    start = {name: torch.full((3,), float(number)) for number, name in enumerate(own)}
    together = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    optimizer = SGD(0.1, weight_decay=0.1, groups=groups, **common).make_for(together.items())  # type: ignore[arg-type]
    apart = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    each = [
        SGD(lr, weight_decay=decay, **(common if decay else {"momentum": 0.9})).make([apart[name]])  # type: ignore[arg-type]
        for name, (lr, decay) in own.items()
    ]
    for parameters, optimizers in ((together, [optimizer]), (apart, each)):
        for _ in range(3):
            for parameter in parameters.values():
                parameter.grad = parameter.detach().cos()
            for one in optimizers:
                one.step()
    for name, parameter in together.items():
        assert torch.equal(parameter, apart[name]), name
        assert not torch.equal(parameter, start[name])


OPTIMIZERS = sorted(
    name
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name != "Optimizer"
)


@pytest.mark.parametrize("choice", [SGD(), Adam(), AdamW(), *TorchOptimizer.example()], ids=str)
def test_an_optimizer_is_torchs_own_to_the_bit(choice: OptimizerChoice) -> None:
    """Its steps, what it keeps, its hooks and its copies."""
    named = getattr(choice, "name", type(choice).__name__)
    generator = torch.Generator().manual_seed(2)
    steps: list[str] = []

    def fresh(weight: Tensor) -> tuple[torch.nn.Parameter, Any]:
        return (made := torch.nn.Parameter(weight.clone())), choice.make([made])

    own, optimizer = fresh(torch.randn(3, 4, generator=generator))
    theirs = torch.nn.Parameter(own.detach().clone())
    kind = getattr(torch.optim, named)
    known = inspect.signature(kind).parameters
    said = {key: value for key, value in optimizer.defaults.items() if key in known}
    reference = kind([theirs], **said)
    assert type(optimizer) is not type(reference)
    assert isinstance(optimizer, type(reference))
    assert repr(optimizer) == repr(reference)
    optimizer.register_step_post_hook(lambda *_: steps.append(named))
    for number in range(6):
        if number == 3:
            own, later = fresh(own.detach())
            later.load_state_dict(optimizer.state_dict())
            optimizer = pickle.loads(pickle.dumps(copy.deepcopy(later)))
            own = optimizer.param_groups[0]["params"][0]
        gradient = torch.randn(3, 4, generator=generator)
        for parameter, moved in ((own, optimizer), (theirs, reference)):
            parameter.grad = gradient.clone()
            moved.step()
            moved.zero_grad()
        assert torch.equal(own, theirs), number
        assert own.grad is None
        assert str(optimizer.state_dict()) == str(reference.state_dict())
    assert len(steps) == 3


def test_no_compiler_is_loaded(tmp_path: Path) -> None:
    """Torch would load its own, for seconds, at the first step of a run."""
    (tmp_path / "scenario.yaml").write_text(QUICK)
    script = """
import sys
from neurosim.cli.main import main
main(["run", "scenario.yaml"], standalone_mode=False)
assert "torch" in sys.modules
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


@pytest.mark.parametrize("learn_every", [None, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch(name: str, learn_every: int | None, tmp_path: Path) -> None:
    """It trains, saved and resumed to the same bits, or is refused in words."""
    refused = {"LBFGS": "asks for", "SparseAdam": "takes sparse gradients"}
    if name in refused:
        fitting = make(TrainingPlan())
        given = getattr(torch.optim, name)(fitting.model.parameters())
        fitting.simulation.start(torch.zeros(2, 1, 8, 8), torch.zeros(2, 10))
        for act in (
            lambda: OptimizerChoice.of("torch", name=name),
            lambda: make(TrainingPlan(), optimizer=given),
            lambda: fitting.simulation.learn(given),
        ):
            with pytest.raises(ConfigurationError, match=f"{name} {refused[name]}"):
                act()
        return
    network = NETWORK
    if name == "Muon":
        with pytest.raises(ConfigurationError, match="Muon only supports 2D parameters"):
            make(TrainingPlan(), optimizer=OptimizerChoice.of("torch", name=name))
        network = NAMED | {"layers": [layer | {"bias": False} for layer in NAMED["layers"]]}

    def fresh() -> Trainer:
        plan = TrainingPlan(2, batch_size=20)
        choice = OptimizerChoice.of("torch", name=name, lr=0.01)
        return make(plan, optimizer=choice, network=network, learn_every=learn_every)

    whole, part = fresh(), fresh()
    start = {key: value.clone() for key, value in whole.model.state_dict().items()}
    list(whole.events())
    while not part.done:
        before = part.step
        list(part.events(lambda: part.step > before))  # noqa: B023
        save_state(tmp_path / "state", part.state_dict())
        part = fresh()
        part.load_state_dict(load_state(tmp_path / "state"))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, part.model.state_dict()[key]), key
        assert not torch.equal(value, start[key])


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("choice", TorchOptimizer.example(), ids=lambda choice: choice.name)
def test_a_saved_optimizer_that_is_none(choice: OptimizerChoice) -> None:
    """Whatever value is wrong in it, it is refused or it goes on: no error of torch's own."""
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    optimizer = choice.make([weight])
    optimizer.step()
    saved, refused = optimizer.state_dict(), 0
    load_optimizer(choice.make([weight]), saved)  # as it is
    for path, value in leaves(saved):
        number = isinstance(value, int | float)
        for other in [*wrong(value), *[-1.0, -1, 1e30, inf, nan][: 5 * number]]:
            again = choice.make([weight])
            try:
                with complete("optimizer"):
                    load_optimizer(again, replaced(saved, path, other))
            except StateError:
                refused += 1
            else:
                again.step()
    assert refused


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (SGD, {"lr": 0.0}, "lr"),
        (SGD, {"momentum": -1.0}, "momentum"),
        (SGD, {"nesterov": True}, "along a momentum"),
        (SGD, {"decoupled": True}, "no weight_decay"),
        (Adam, {"betas": (0.9, 1.0)}, "betas"),
        (TorchOptimizer, {"name": "rmsprop"}, "did you mean 'RMSprop'"),
        (TorchOptimizer, {"name": "RMSprop", "options": {"alfa": 0.9}}, "did you mean 'alpha'"),
        (TorchOptimizer, {"name": "RMSprop", "options": {"alpha": -1}}, "Invalid alpha value: -1"),
        (TorchOptimizer, {"name": "RMSprop", "options": {"lr": 1}}, "lr is a key beside name"),
        (ParameterGroup, {"parameters": "h1", "lr": -1.0}, "lr"),
        (ParameterGroup, {"parameters": "h1"}, "says nothing"),
    ],
)
def test_refuses_an_optimizer(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        kind(**options)


@pytest.mark.parametrize(
    ("kind", "group", "said"),
    [
        (
            "sgd",
            ParameterGroup("*.bia", lr=1.0),
            "unknown parameter '*.bia'; did you mean 'h.bias'",
        ),
        ("sgd", ParameterGroup(("h", "g"), lr=1.0), "unknown parameter 'g'"),
        ("torch", ParameterGroup("h", weight_decay=1.0), "Rprop has no weight_decay"),
    ],
)
def test_refuses_a_group(kind: str, group: ParameterGroup, said: str) -> None:
    name = {"name": "Rprop"} if kind == "torch" else {}
    choice = OptimizerChoice.of(kind, groups=(ParameterGroup("h", lr=1.0), group), **name)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        make(TrainingPlan(), optimizer=choice)
    assert caught.value.option[:2] == ("groups", 1)
