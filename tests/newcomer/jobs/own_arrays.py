"""My arrays, my network, a training in Python."""

import numpy as np
import torch
from torch import nn

import neurosim as ns

torch.manual_seed(0)
mine = np.load("points.npz")
layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
sim = ns.Simulation(ns.Model(ns.Network.from_torch(layers)), schedule="sweep")
data = ns.TorchData((mine["x"], mine["y"]), test=0.25).read()
optimizer = ns.OptimizerChoice.of("adam", lr=0.05)
trainer = ns.Trainer(sim, optimizer, data.train, data.test, epochs=6, batch_size=10)
run = ns.run(trainer, name="mine")

assert run.summary["test_accuracy"] > 0.8
assert run.report.exists()
