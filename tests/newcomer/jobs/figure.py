"""A figure of my own from a sweep, and those of the program at the width of a column."""

import matplotlib

matplotlib.use("pdf")
import matplotlib.pyplot as plt

import neurosim as ns

short = {"training.epochs": 1, "data.limit": 50}
found = ns.sweep("parallel", {"rule.beta": [0.1, 1.0]}, short)

figure, axes = plt.subplots(figsize=(3.3, 2.4), layout="constrained")
for run, record in zip(found.runs, found.records, strict=True):
    angles = run.records["gradient_angle"]
    times = [angle["time"] for angle in angles]
    axes.plot(times, [angle["total_angle"] for angle in angles], label=f"β = {record['rule.beta']}")
axes.legend()
figure.savefig("angle.pdf")

pages = ns.figures(found.runs[0], to="figures", format="pdf", width="85mm")
assert any(page.stem == "angle-to-back-propagation" for page in pages)
assert all(page.read_bytes().startswith(b"%PDF") for page in pages)
