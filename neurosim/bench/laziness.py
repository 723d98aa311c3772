"""What sending only what has changed saves: wakes on a stream of digits."""

from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812

from neurosim.bench.timing import Result, Sizes
from neurosim.channels import Channel, Channels
from neurosim.data import digits
from neurosim.maths import Loss
from neurosim.measures import gradients
from neurosim.network import Model, Network
from neurosim.rules import DualPropagation
from neurosim.schedules import Lazy, Parallel, Schedule
from neurosim.simulation import Simulation

TICKS = 24
THRESHOLD = 1e-3


def wakes_fraction(sizes: Sizes) -> Result:
    """Wakes of the lazy schedule over those of all dyads in as many ticks.

    States are carried from one real digit to the next, one at a time. The network has learned for
    some steps, by back-propagation. The angle is that to back-propagation, the median of the
    digits.
    """
    data, loss = digits(), Loss.of("squared_error")
    layers = [{"dense": 128}, {"dense": 64}, {"dense": 10}]
    model = Model(Network.from_dict({"input": [1, 8, 8], "layers": layers}))
    images, labels = data.train.images, F.one_hot(data.train.labels, 10).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for first in range(0, len(images), 50):
        some = slice(first, first + 50)
        found = gradients.back_propagation(model, loss, images[some], labels[some])
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        optimizer.step()

    def wakes(schedule: Schedule, threshold: float) -> tuple[int, float]:
        channel = Channel(threshold=threshold)
        simulation = Simulation(
            model,
            rule=DualPropagation(0.5, 0.1, "aro", "proximal"),
            loss="squared_error",
            schedule=schedule,
            channels=Channels(channel, channel),
            init="carry",
            nudge_after=0,
        )
        total, angles = 0, []
        for index in range(sizes.digits):
            x, y = images[index : index + 1], labels[index : index + 1]
            total += simulation.infer(x, y).wakes
            reference = gradients.back_propagation(model, loss, x, y)
            angles.append(gradients.alignment(simulation.gradients(), reference)[""].angle)
        return total, median(angles)

    lazy, angle = wakes(Lazy(TICKS, "neuron"), THRESHOLD)
    everyone, _ = wakes(Parallel(TICKS), 0.0)
    against = f"to be within 5 degrees of back-propagation: {angle:.1f}; no target"
    return lazy / everyone, "of the wakes", against
