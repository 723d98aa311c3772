"""Ticks of a simulation against other ticks, and against the same work without an engine."""

from functools import partial
from itertools import islice
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from neurosim.bench.timing import Result, Sizes, alternate, benchmark, ratio
from neurosim.bench.work import (
    RATE,
    TICK,
    bare_parallel,
    mlp,
    of_images,
    random_batch,
    steady,
    vgg16,
)
from neurosim.channels import Channel, Channels
from neurosim.data import digits
from neurosim.maths import Loss
from neurosim.measures import alignment, back_propagation
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Lazy, Parallel, Poisson, RandomOrder, Schedule
from neurosim.simulation import Simulation

_LAYERS = [{"dense": 128}, {"dense": 64}, {"dense": 10}]


@benchmark("parallel ticks over a loop by hand")
def engine_over_bare_loop(sizes: Sizes) -> Result:
    ticks = 16
    model, x, target = mlp(sizes.width, sizes.batch)
    rule = DualPropagation(0.5, 1.0, "aro", "potential")
    simulation = Simulation(model, rule=rule, schedule=Parallel(ticks), init="zero")
    names = [p.name for p in model.network.dyadic]
    weights = [model.get_parameter(f"{name}.weight") for name in names]
    biases = [model.get_parameter(f"{name}.bias") for name in names]

    def bare() -> tuple[Tensor, list[Tensor], list[Tensor]]:
        # From zero no state is the prediction that an outcome has: it takes a pass of its own.
        with torch.no_grad():
            prediction = model(x)
        return prediction, *bare_parallel(weights, biases, x, target, ticks)

    outcome = simulation.infer(x, target)
    states = ([found[name] for name in names] for found in (outcome.plus, outcome.minus))
    torch.testing.assert_close((outcome.prediction, *states), bare(), rtol=1e-4, atol=1e-5)
    turns = partial(simulation.infer, x, target), bare
    return ratio(*turns, sizes.repeats, "at most 1.10", "a hand-written loop with the prediction")


@benchmark("delays of 8 ticks over ideal channels")
def delayed_tick_over_ideal(sizes: Sizes) -> Result:
    """Every tick does all there is to do: everything is computed, and every dyad sends.

    Where only changes are computed and sent the delayed network does much less in a tick, as what
    it does once depends on what arrives once in eight ticks.
    """
    ticks, given, schedule = 16, mlp(sizes.width, sizes.batch), Parallel(10**5)
    late = steady(given, schedule, Channel(delay=8, refresh=1))
    ideal = steady(given, schedule, Channel(refresh=1))
    what = f"{ticks} ticks over ideal channels"
    turns = partial(late.advance, ticks), partial(ideal.advance, ticks)
    return ratio(*turns, sizes.repeats, "at most 1.30", what)


@benchmark("neurons in random order")
def random_order_tick_milliseconds(sizes: Sizes) -> Result:
    groups = 8
    simulation = Simulation(
        Model(Network.from_dict({"input": [64], "layers": _LAYERS})),
        rule=DualPropagation(0.5, 1.0, "aro", "proximal"),
        schedule=RandomOrder(unit="neuron", groups=groups, passes=sizes.passes),
        init="zero",
    )
    x, target = random_batch(50, 64)
    seconds = alternate({"ours": partial(simulation.infer, x, target)}, sizes.repeats)["ours"]
    return 1e3 * seconds / (groups * sizes.passes), "ms", "mean over an inference; no target"


@benchmark("VGG16: a tenth of the neurons over all")
def vgg16_async_tick_over_dense(sizes: Sizes) -> Result:
    """One tick in which a tenth of the neurons wake, over one in which all do."""
    given = of_images(vgg16, sizes)
    some = steady(given, Poisson(unit="neuron", rate=RATE, tick=TICK, duration=1e5))
    everyone = steady(given, Parallel(10**5))
    turns = partial(some.advance, 1), partial(everyone.advance, 1)
    return ratio(*turns, sizes.repeats, "at most 1.10", "a parallel tick")


@benchmark("send-on-delta on real digits")
def lazy_wakes_fraction(sizes: Sizes) -> Result:
    """Wakes of the lazy schedule over those of all dyads in as many ticks.

    States are carried from one real digit to the next, one at a time. The network has learned for
    some steps, by back-propagation. The angle is that to back-propagation, the median of the
    digits.
    """
    ticks, train, loss = 24, digits().train, Loss.of("squared_error")
    model = Model(Network.from_dict({"input": [1, 8, 8], "layers": _LAYERS}))
    data = TensorDataset(train.take(slice(None)), F.one_hot(train.labels, 10).float())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in DataLoader(data, 50):
        found = back_propagation(model, loss, x, y)
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        optimizer.step()

    def wakes(schedule: Schedule, threshold: float) -> tuple[int, float]:
        channel = Channel(threshold=threshold)
        simulation = Simulation(
            model,
            rule=DualPropagation(0.5, 0.1, "aro", "proximal"),
            schedule=schedule,
            channels=Channels(channel, channel),
            init="carry",
            nudge_after=0,
        )
        total, angles = 0, []
        for x, y in islice(DataLoader(data), sizes.digits):
            total += simulation.infer(x, y).wakes
            found = back_propagation(model, loss, x, y)
            angles.append(alignment(simulation.gradients(), found)[""].angle)
        return total, median(angles)

    lazy, angle = wakes(Lazy(ticks, "neuron"), 1e-3)
    everyone, _ = wakes(Parallel(ticks), 0.0)
    against = f"to be within 5 degrees of back-propagation: {angle:.1f}; no target"
    return lazy / everyone, "of the wakes", against
