"""A training in TensorBoard."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import neurosim as ns

short = {"training.epochs": 2, "data.limit": 50, "probes": ["accuracy"]}
run = ns.run("parallel", {"listeners": ["tensorboard"], **short})

events = EventAccumulator(str(run.folder / "tensorboard"))
events.Reload()
accuracy = [event.value for event in events.Scalars("epoch/test_accuracy")]
assert abs(accuracy[-1] - run.summary["test_accuracy"]) < 1e-6
