"""Sizes at which every measurement takes a moment."""

from __future__ import annotations

from neurosim import bench

TINY = bench.Sizes(
    dyads=200,
    neuron_ticks=3,
    population_ticks=2,
    width=32,
    batch=4,
    passes=2,
    planes=1,
    images=1,
    thinner=16,
    digits=2,
    samples=100,
    span=(1, 2),
    repeats=1,
)
