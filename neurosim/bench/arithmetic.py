"""The arithmetic of small networks: ticks and steps against the same work without an engine."""

import torch
from torch import Tensor

from neurosim.bench.steps import autograd_of, step_of
from neurosim.bench.timing import Result, Sizes, alternate, ratio
from neurosim.bench.work import bare_parallel, check_angle, mlp, random_batch
from neurosim.channels import Channel, Channels
from neurosim.measures import metrics
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Parallel, RandomOrder, Sweep
from neurosim.simulation import Simulation


def engine_over_bare_loop(sizes: Sizes) -> Result:
    ticks = 16
    model, x, target = mlp(sizes.width, sizes.batch)
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="potential"),
        loss="squared_error",
        schedule=Parallel(ticks),
        init="zero",
    )
    names = [p.name for p in model.network.dyadic]
    weights = [model.get_parameter(f"{name}.weight") for name in names]
    biases = [model.get_parameter(f"{name}.bias") for name in names]

    def bare() -> tuple[list[Tensor], list[Tensor]]:
        return bare_parallel(weights, biases, x, target, ticks)

    outcome = simulation.infer(x, target)
    for name, plus, minus in zip(names, *bare(), strict=True):
        torch.testing.assert_close(outcome.plus[name], plus, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outcome.minus[name], minus, rtol=1e-4, atol=1e-5)
    ours = lambda: simulation.infer(x, target)  # noqa: E731
    return ratio(ours, bare, sizes.repeats, "at most 1.10", "a hand-written loop")


def dp_step_over_bp(sizes: Sizes) -> Result:
    model, x, target = mlp(sizes.width, sizes.batch)
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=0.1, variant="aro", nudge="prediction"),
        loss="cross_entropy",
        schedule=Sweep("backward", passes=1),
        init="feedforward",
    )

    ours, bare = step_of(simulation, x, target), autograd_of(simulation, x, target)
    check_angle(ours(), bare())
    return ratio(ours, bare, sizes.repeats, "at most 1.25", "autograd")


def random_order_tick(sizes: Sizes) -> Result:
    groups = 8
    layers = [{"dense": 128}, {"dense": 64}, {"dense": 10}]
    model = Model(Network.from_dict({"input": [64], "layers": layers}))
    simulation = Simulation(
        model,
        rule=DualPropagation(alpha=0.5, beta=1.0, variant="aro", nudge="proximal"),
        schedule=RandomOrder(unit="neuron", groups=groups, passes=sizes.passes),
        init="zero",
    )
    x, target = random_batch(50, 64)
    seconds = alternate({"ours": lambda: simulation.infer(x, target)}, sizes.repeats)["ours"]
    return 1e3 * seconds / (groups * sizes.passes), "ms", "mean over an inference; no target"


def delayed_tick(sizes: Sizes) -> Result:
    """Every tick does all there is to do: everything is computed, and every dyad sends.

    Where only changes are computed and sent the delayed network does much less in a tick, as what
    it does once depends on what arrives once in eight ticks.
    """
    ticks, delay = 16, 8
    model, x, target = mlp(sizes.width, sizes.batch)

    def make(channel: Channel) -> Simulation:
        simulation = Simulation(
            model,
            rule=DualPropagation(alpha=0.5, beta=0.1, variant="aro", nudge="potential"),
            schedule=Parallel(10**5),
            channels=Channels(channel, channel),
            nudge_after=0,
        )
        simulation.caching = False
        simulation.start(x, target)
        simulation.advance(2 * delay * len(model.network.dyadic))  # the nudge is everywhere
        assert all(metrics.reach(simulation.state).values())
        return simulation

    delayed, ideal = make(Channel(delay=delay, refresh=1)), make(Channel(refresh=1))
    late, at_once = (lambda: delayed.advance(ticks)), (lambda: ideal.advance(ticks))
    return ratio(late, at_once, sizes.repeats, "at most 1.30", f"{ticks} ticks over ideal channels")
