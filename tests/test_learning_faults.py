"""What learning does not do in silence: move what is frozen, take a gradient that is not finite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_trainings import make
from test_simulation_errors import chain, set_weights
from torch import Tensor

import neurosim as ns
from neurosim.cli.main import main
from neurosim.learning.plan import TrainingPlan
from neurosim.maths.optimizers import SGD, AdamW, Clip, OptimizerChoice

ROOT = Path(__file__).parents[1]
CHAIN = {
    "input": [6],
    "layers": [{"name": "h1", "dense": 8}, {"name": "output", "dense": 3}],
    "feedback": "kolen_pollack",
}
X, Y = (
    torch.rand(10, 6, generator=torch.Generator().manual_seed(1)),
    torch.eye(3)[[*range(3)] * 3 + [0]],
)


def simulation(**options: Any) -> ns.Simulation:
    model = ns.Model(ns.Network.from_dict(CHAIN))
    return ns.Simulation(model, schedule=ns.schedules.Parallel(8), **options)


# ---- what is frozen ------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_every", [None, 4])
@pytest.mark.parametrize("held", ["all", "those that learn"])
@pytest.mark.parametrize("choice", [SGD(0.1, 0.9, 0.1, decoupled=True), AdamW(0.1)], ids=str)
def test_what_is_frozen_does_not_move(
    choice: OptimizerChoice, held: str, learn_every: int | None
) -> None:
    """Not by its gradient and not by decay; the others move as they do without it."""
    moved = []
    for frozen in ((), ("h1.weight", "output.feedback")):
        sim = simulation(learn_every=learn_every)
        start = {name: value.clone() for name, value in sim.model.state_dict().items()}
        parameters = dict(sim.model.named_parameters())
        for name in frozen:
            parameters[name].requires_grad_(False)
        optimizer = choice.make(p for p in parameters.values() if held == "all" or p.requires_grad)
        sim.infer(X, Y, optimizer=optimizer if learn_every else None)
        if not learn_every:
            sim.learn(optimizer)
        after = sim.model.state_dict()
        moved.append({name: value - start[name] for name, value in after.items()})
        assert all(parameter.grad is None for parameter in parameters.values())
    for name, by in moved[1].items():
        if name in frozen:
            assert not by.any()
        elif not learn_every:
            assert torch.equal(by, moved[0][name])
            assert by.any()


def test_what_is_frozen_counts_neither_for_a_norm_nor_for_a_listener() -> None:
    seen: list[dict[str, Tensor]] = []
    clip = ns.Plasticity.of("contrastive_hebbian", clip=Clip(norm=0.01))
    sim = simulation(plasticity=clip)
    sim.before_step = lambda gradients: seen.append(dict(gradients))
    sim.model.get_submodule("h1").weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    start = {name: value.clone() for name, value in sim.model.state_dict().items()}
    sim.infer(X, Y)
    sim.learn(torch.optim.SGD(sim.model.parameters(), lr=1.0))
    assert "h1.weight" not in seen[0]
    after = sim.model.state_dict()
    moved = torch.cat([(after[name] - start[name]).flatten() for name in start])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-4)


# ---- optimizers that cannot be -------------------------------------------------------------------


class Asks(torch.optim.SGD):
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        return closure()


@pytest.mark.parametrize(
    ("make_one", "said"),
    [
        (lambda model: torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1), "holds no"),
        (lambda model: torch.optim.Adam(model.requires_grad_(False).parameters()), "holds no"),
        (lambda model: torch.optim.LBFGS(model.parameters()), "LBFGS asks for a closure"),
        (lambda model: Asks(model.parameters(), lr=0.1), "Asks asks for a closure"),
        (lambda model: torch.optim.SparseAdam(model.parameters()), "takes sparse gradients"),
    ],
)
def test_refuses_an_optimizer(
    make_one: Callable[[ns.Model], torch.optim.Optimizer], said: str
) -> None:
    sim = simulation(learn_every=4)
    sim.infer(X)
    optimizer, state = make_one(sim.model), sim.state_dict()
    for act in (
        lambda: sim.learn(optimizer),
        lambda: sim.infer(X, Y, optimizer=optimizer),
        lambda: sim.load_state_dict(state, optimizer=optimizer),
        lambda: ns.Trainer(sim, optimizer, *[ns.data.digits().train] * 2),
    ):
        with pytest.raises(ns.ConfigurationError, match=said):
            act()


def test_warns_once_where_nothing_is_learned() -> None:
    """Of an inference that rests before its first update, and of one without an optimizer."""
    resting = simulation(learn_every=4, stop=ns.Stop(residual=1e9, every=3))
    optimizer = torch.optim.SGD(resting.model.parameters(), lr=1.0)
    before = [value.clone() for value in resting.model.parameters()]
    with pytest.warns(ns.NeurosimWarning, match="came to rest after 3 ticks, .* due after 4"):
        resting.infer(X, Y, optimizer=optimizer)
    assert all(map(torch.equal, before, resting.model.parameters()))
    resting.infer(X, Y, optimizer=optimizer)
    later = simulation(learn_every=3, stop=ns.Stop(residual=1e9, every=3))
    later.infer(X, Y, optimizer=torch.optim.SGD(later.model.parameters(), lr=1.0))
    idle = simulation(learn_every=4)
    idle.infer(X)
    with pytest.warns(ns.NeurosimWarning, match="after every 4 ticks, .* no optimizer"):
        idle.infer(X, Y)
    idle.infer(X, Y)


# ---- what is not finite --------------------------------------------------------------------------


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    """All states are finite, and the product of two of them is not."""
    model = set_weights(chain(1, 1, 1).float(), h1=[[1e25]], out=[[1.0]])
    rule = ns.DualPropagation(nudge="potential")
    sim = ns.Simulation(model, schedule=ns.schedules.Parallel(6), rule=rule)
    outcome = sim.infer(torch.ones(1, 1), torch.zeros(1, 1))
    assert outcome.plus["out"].isfinite().all()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    with pytest.raises(
        ns.DivergenceError, match=r"gradient of 'out.weight' .*first at \[0, 0\]"
    ) as caught:
        sim.learn(optimizer)
    with pytest.raises(ns.DivergenceError, match=r"gradient of 'out.weight' is not"):
        sim.gradients()
    assert caught.value.parameter == "out.weight"
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert not optimizer.state


class Steep(ns.Plasticity):
    """Makes gradients of moderate values that overflow."""

    def weight_gradient(self, link: Any, signal: Tensor) -> Tensor:
        found: Tensor = super().weight_gradient(link, signal) * 1e38 * 1e38
        return found


class Steeper(ns.Plasticity):
    """Says all of them itself."""

    def gradients(self, state: Any, rule: Any, share: complex = 1.0) -> Any:
        found, operations = super().gradients(state, rule, share)
        return {name: gradient / 0.0 for name, gradient in found.items()}, operations


@pytest.mark.parametrize("made", [None, Steep, Steeper])
def test_what_is_known_to_be_finite(made: type[ns.Plasticity] | None) -> None:
    """Signals and means say so of their product, run or replayed, and of nothing else."""
    sim = simulation(**({} if made is None else {"plasticity": made()}))
    for _ in range(4):
        sim.infer(X, Y)
        gradients, sure = sim.inference.gradients()
        assert sure == (made is None) == all(bool(g.isfinite().all()) for g in gradients.values())
        if not sure:
            with pytest.raises(ns.DivergenceError, match="is not finite"):
                sim.gradients()


def test_nor_does_one_that_a_listener_makes() -> None:
    class Breaks:
        def on_gradients(self, gradients: dict[str, Tensor]) -> None:
            gradients["h.bias"][3] = float("nan")

    trainer = make(TrainingPlan(1, batch_size=20))
    with pytest.raises(ns.DivergenceError, match=r"'h.bias' is not finite: first at \[3\]"):
        trainer.fit([Breaks()])


@pytest.mark.parametrize(("variant", "duration"), [("aro", 48.0), ("damped", 160.0)])
def test_states_that_grow_end_as_divergence(variant: Any, duration: float) -> None:
    """With spectral norms of 3 the products of two states leave float32 before a state does."""
    layers = [{"name": f"h{number}", "dense": 8} for number in range(4)]
    network = ns.Network.from_dict({"input": 8, "activation": "identity", "layers": layers})
    model = ns.Model(network, seed=3)
    for name, weight in model.named_parameters():
        if name.endswith("weight"):
            weight.data *= 3.0 / torch.linalg.matrix_norm(weight.data, 2)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    sim = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.0, variant=variant, nudge="potential"),
        schedule=ns.schedules.Poisson("population", rate=1.0, duration=duration),
    )
    outcome = sim.infer(torch.ones(4, 8), torch.zeros(4, 8))
    for states in (outcome.plus, outcome.minus):
        assert all(value.isfinite().all() for value in states.values())
    with pytest.raises(ns.DivergenceError, match=r"the gradient of 'h\d.weight' is not finite"):
        sim.learn(torch.optim.SGD(model.parameters(), lr=1e-30))
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("validation", [0, 10])
def test_a_last_update_that_blows_up_is_divergence(validation: int) -> None:
    plan = TrainingPlan(1, max_steps=1, batch_size=20)
    trainer = make(plan, optimizer=SGD(lr=1e25), validation=validation)
    ends: list[ns.EndEvent] = []

    class Told:
        def on_end(self, event: ns.EndEvent) -> None:
            ends.append(event)

    trainer.simulation.model.float()
    with pytest.raises(ns.DivergenceError, match="prediction at 'output' is not finite, or its"):
        trainer.fit([Told()])
    assert ends[0].status == "failed"


def test_weights_that_are_not_finite_are_told_where_no_prediction_shows_them() -> None:
    """relu(−∞) = 0."""

    class Breaks:
        def on_step(self, event: ns.StepEvent) -> None:
            with torch.no_grad():
                dict(trainer.model.named_parameters())["h.bias"][2] = -float("inf")

    trainer = make(TrainingPlan(1, max_steps=1, batch_size=20))
    with pytest.raises(ns.DivergenceError, match=r"after step 1 the weight 'h.bias'") as caught:
        trainer.fit([Breaks()])
    assert caught.value.parameter == "h.bias"


@pytest.mark.parametrize("more", [[], ["training.validation=10"], ["robustness={eps: 0.1}"]])
def test_the_exit_code_is_that_of_divergence(more: list[str], tmp_path: Path) -> None:
    arguments = ["run", str(ROOT / "scenarios/parallel.yaml"), "data.limit=100", *more, "probes=[]"]
    arguments += ["training.max_steps=1", "plasticity.optimizer={kind: sgd, lr: 1.0e+20}"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path), "--id", "it"])
    assert result.exit_code == 1
    summary = json.loads((tmp_path / "parallel/it/summary.json").read_text())
    assert (summary["status"], summary["diverged"]) == ("failed", True)
    assert "is not finite, or its loss (" in summary["error"]
