"""Five neurons over time, of every inference of a training, on the disk."""

import numpy as np

import neurosim as ns

watched = {"states": {"h1": [0, 1, 2, 3, 4]}, "what": ["plus", "minus"], "every": 2}
run = ns.run("parallel", {"record": watched, "training.epochs": 1, "data.limit": 50})

last = run.states[run.states["inference"] == run.states["inference"].max()]
assert (np.diff(last["tick"]) == 2).all()
curves = np.stack([last[f"plus.h1[{neuron}]"] for neuron in range(5)])
assert curves.shape == (5, len(last))
assert np.isfinite(curves).all()
assert np.ptp(curves)
