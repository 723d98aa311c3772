"""The same inferences by neurosim and by the literal simulation of `reference.py`, compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from reference import Network
from reference_channel import Channel
from reference_neurons import Rule

import neurosim as ns
from neurosim.channels.channel import Given
from neurosim.channels.distributions import Distribution
from neurosim.channels.effects import Draws, Moment
from neurosim.maths.spectrum import spectral_norm

TOLERANCE = 1e-12


@dataclass
class Example:
    """What both simulate. Inferences after the first carry on from it."""

    description: dict[str, Any]
    rule: Rule
    loss: str
    init: str
    batch: int
    wakes: list[list[tuple[float, str, list[int] | None]]]
    nudge_after: int = 0
    targeted: bool = True
    released: bool = False  # whether every other inference has no target
    tick: float = 1.0
    seed: int = 0
    scale: float = 1.0
    compute: str = "auto"
    processes: str = "population"
    channels: ns.Channels = field(default_factory=ns.Channels)
    probes: tuple[Any, ...] = ("wakes",)
    presynaptic: str = "mean"


@dataclass
class Pair:
    """The same inference by both: neurosim's outcome and one reference network per sample."""

    outcome: ns.Outcome
    simulation: ns.Simulation
    networks: list[Network]


def model_of(example: Example) -> ns.Model:
    """Random weights of a size that keeps a population's potential near ``scale``."""
    network = ns.Network.from_dict(example.description)
    model = ns.Model(network, dtype=torch.float64)
    generator = np.random.default_rng(example.seed)
    values = {}
    for key, value in model.state_dict().items():
        owner, kind = key.rsplit(".", 1)
        draws = generator.standard_normal(tuple(value.shape))
        if kind == "weight":
            draws *= example.scale / np.sqrt(network.projection(owner).operator.fans[0])
        values[key] = torch.from_numpy(0.3 * draws if kind == "bias" else draws)
    model.load_state_dict(values)
    return model


def both(
    example: Example, schedule: ns.schedules.Schedule
) -> tuple[list[Network], ns.Simulation, tuple[np.ndarray, np.ndarray]]:
    """Reference networks, one per sample, the simulation, and an input with its target."""
    model = model_of(example)
    network, rule = model.network, example.rule
    sigma = {
        p.name: spectral_norm(p.operator, model.parameter(p.name, "weight"))
        for p in network.projections
    }
    parameters = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    networks = [
        Network(
            example.description,
            parameters,
            rule,
            example.loss,
            sigma=sigma,
            channels=literal_channels(example, network, sample),
        )
        for sample in range(example.batch)
    ]
    for literal in networks:
        literal.presynaptic = example.presynaptic
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(
            alpha=rule.alpha, beta=rule.beta, variant=rule.variant, nudge=rule.nudge
        ),
        loss=example.loss,
        schedule=schedule,
        channels=example.channels,
        init=example.init,
        plasticity=ns.Plasticity.of("contrastive_hebbian", presynaptic=example.presynaptic),
        nudge_after=example.nudge_after,
        compute=example.compute,
        processes=example.processes,
        probes=example.probes,
        seed=example.seed,
    )
    return networks, simulation, data(example, network, 0)


def literal_channels(
    example: Example, network: ns.Network, sample: int
) -> dict[tuple[str, str], Channel]:
    """The same channels, with the draws of this sample as numbers."""
    found = {}
    defaults = {"mean": example.channels.mean, "difference": example.channels.difference}
    for projection, (kind, default) in product(network.projections, defaults.items()):
        channel = example.channels.overrides.get(projection.name, {}).get(kind, default)
        draws = Draws(example.seed, "channels", projection.name, kind)
        senders = network[projection.pre if kind == "mean" else projection.post].shape
        found[kind, projection.name] = literal_channel(example, channel, draws, senders, sample)
        if isinstance(channel.delay, Distribution):
            shape = senders
            if channel.delay.per == "synapse":
                shape = projection.operator.weight_shape
            times = channel.delay.quantile(draws.once("delay", shape).numpy())
            times = times if channel.delay.per == "synapse" else times.reshape(-1)
            found[kind, projection.name].delay = times
    return found


def literal_channel(
    example: Example, channel: ns.Channel, draws: Draws, senders: tuple[int, ...], sample: int
) -> Channel:
    delay, jitter, quantize = channel.delay, channel.jitter, channel.quantize
    if isinstance(delay, Given):
        delay = delay.values.reshape(-1) if delay.values.shape == senders else delay.values

    @cache
    def draw(effect: str, inference: int, tick: int) -> np.ndarray:
        moment, shape = Moment(inference, tick), (example.batch, *senders)
        if effect == "noise":
            drawn = draws.normal(effect, moment, shape)
        elif effect == "loss":
            drawn = draws.uniform(effect, moment, shape, torch.float32)
        else:
            drawn = draws.uniform(effect, moment, shape)
        return drawn[sample].flatten().numpy()

    return Channel(
        channel.threshold,
        channel.refresh,
        delay,
        None if jitter is None else lambda share: float(jitter.quantile(np.array(share))),
        channel.ordering,
        channel.loss,
        None if channel.noise is None else (channel.noise.kind, channel.noise.std),
        None if quantize is None else quantize.grid,
        "nearest" if quantize is None else quantize.rounding,
        example.tick,
        draw,
    )


def data(example: Example, network: ns.Network, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The input and the target of that inference; some of the input is that of the one before."""
    generator = np.random.default_rng([example.seed, number])
    x = generator.standard_normal((example.batch, *network.input.shape))
    y = generator.standard_normal((example.batch, *network.output.shape))
    if number:
        x = np.where(generator.random(x.shape) < 0.3, data(example, network, number - 1)[0], x)
    if example.loss == "cross_entropy":
        y = np.exp(y)
        y /= y.reshape(example.batch, -1).sum(1).reshape(-1, *[1] * (y.ndim - 1))
    return x, y


def simulate(example: Example) -> Pair:
    schedule = ns.schedules.Replay(example.wakes[0], tick=example.tick)
    networks, simulation, _ = both(example, schedule)
    for number, wakes in enumerate(example.wakes):
        x, y = data(example, simulation.model.network, number)
        target = torch.from_numpy(y) if example.targeted else None
        outcome = simulation.infer(torch.from_numpy(x), target)
        for literal, own, wanted in zip(networks, x, y, strict=True):
            literal.start(
                own,
                wanted if example.targeted else None,
                init=example.init,
                nudge_after=example.nudge_after,
            )
            literal.replay(wakes, example.tick)
    return Pair(outcome, simulation, networks)


def error(actual: torch.Tensor, expected: np.ndarray) -> float:
    """The largest deviation, relative to the largest value but at least 1."""
    assert tuple(actual.shape) == expected.shape
    deviation = np.abs(actual.detach().numpy() - expected).max()
    return float(deviation / max(1.0, np.abs(expected).max()))


def check(pair: Pair) -> None:
    network = pair.simulation.model.network
    for population in network.dyadic:
        for side, values in enumerate((pair.outcome.plus, pair.outcome.minus)):
            expected = np.stack([n.states(population.name)[side] for n in pair.networks])
            deviation = error(values[population.name], expected)
            assert deviation <= TOLERANCE, (population.name, ["plus", "minus"][side])
    gradients = pair.simulation.gradients()
    literal = [n.gradients() for n in pair.networks]
    assert set(gradients) == set(literal[0])
    for name, gradient in gradients.items():
        expected = np.mean([own[name] for own in literal], axis=0)
        assert error(gradient, expected) <= TOLERANCE, name
    assert pair.outcome.wakes == sum(n.counts["wakes"] for n in pair.networks) // len(pair.networks)
