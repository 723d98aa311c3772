"""Run folders made by hand, and their pages as somebody reads them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.network.network import Network

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "link", "br", "hr", "img", "input"}
FIGURES = {
    "Loss",
    "Accuracy",
    "Residual of the mean",
    "Residual of the difference",
    "Angle to back-propagation",
    "Messages",
    "Synaptic operations",
    "Wakes",
    "Reach",
}
HOSTILE = "<script>alert('x')</script>\"&$a_b$\u0000\ud800日本]]>"

Lines = list[dict[str, Any]]


def vgg16() -> Network:
    conv = [64, 64, 128, 128, *[256] * 3, *[512] * 6]
    layers: Lines = [{"name": f"conv{i}", "conv": n} for i, n in enumerate(conv, 1)]
    for i in (2, 4, 7, 10, 13):
        layers[i - 1]["pool"] = "max"
    layers += [{"name": f"dense{i}", "dense": 4096} for i in (1, 2)]
    layers += [{"name": "output", "dense": 10}]
    return Network.from_dict({"input": [3, 32, 32], "layers": layers})


def graph(sizes: dict[str, int], edges: list[str]) -> Network:
    populations: dict[str, Any] = {name: {"shape": [size]} for name, size in sizes.items()}
    populations["input"]["role"], populations["output"]["role"] = "input", "output"
    ends = [edge.split() for edge in edges]
    projections = [{"from": pre, "to": post} for pre, post in ends]
    return Network.from_dict({"populations": populations, "projections": projections})


def learning(epochs: int, steps: int = 28) -> Lines:
    lines: Lines = [{"event": "epoch", "epoch": 0, "step": 0, "test_accuracy": 0.1}]
    for step in range(1, epochs * steps + 1):
        epoch = (step - 1) // steps
        loss = 0.5 * 0.99**step
        lines.append({"event": "step", "epoch": epoch, "step": step, "loss": loss, "lr": 0.001})
        if step % steps == 0:
            accuracy = {"test_accuracy": 1 - loss, "validation_accuracy": None}
            means = {
                "train_loss": loss,
                "test_loss": 1.1 * loss,
                "seconds": 3.4,
                "wakes": 10 * step,
            }
            lines.append({"event": "epoch", "epoch": epoch + 1, "step": step} | accuracy | means)
    return lines


def traces(network: Network, epoch: int, ticks: int = 12) -> Lines:
    """What all probes record during one inference."""
    names = [p.name for p in network.dyadic]
    keys = list(network.parameter_shapes())
    rng = np.random.default_rng(epoch)
    lines: Lines = []
    for tick in range(1, ticks + 1):
        moment = {"event": "trace", "epoch": epoch, "step": 28 * epoch, "tick": tick}
        moment["time"] = 0.5 * tick
        residual = {name: 2.0 ** (-tick * (i + 1)) for i, name in enumerate(names)}
        late = {name: value if tick > 3 else 0.0 for name, value in residual.items()}
        total = {"total_mean": 2.0**-tick, "total_difference": 0.0}
        lines.append(moment | {"probe": "residual", "mean": residual, "difference": late} | total)
        angles = dict.fromkeys(keys, 90.0 / tick)
        ratios = dict.fromkeys(keys, 1 - 1 / tick)
        total = {"total_angle": 80.0 / tick, "total_norm_ratio": 0.5}
        angle = {"probe": "gradient_angle", "angle": angles, "norm_ratio": ratios}
        lines.append(moment | angle | total)
        reached = {name: tick > i for i, name in enumerate(reversed(names))}
        lines.append(moment | {"probe": "reach", "reached": reached})
        counts = {"wakes": tick, "mean_messages": 9000 * tick, "difference_messages": 7 * tick}
        lines.append(moment | {"probe": "messages", "synaptic_operations": 10**6 * tick} | counts)
        for p in network.dyadic:
            woken = np.flatnonzero(rng.random(p.size) < 0.3).tolist()
            indices = None if p.name == "output" else woken
            lines.append(moment | {"probe": "wakes", "population": p.name, "indices": indices})
    return lines


def run_folder(path: Path, lines: Lines | None, **summary: Any) -> Path:
    path.mkdir(exist_ok=True)
    whole = {"name": "demo", "status": "finished", "test_accuracy": 0.9125, "test_loss": 0.21}
    whole |= {"seconds": 754.0, "messages": 1_234_567, "dyads": 60, "parameters": 2750}
    (path / "summary.json").write_text(json.dumps(whole | summary))
    (path / "environment.json").write_text(json.dumps({"torch": "2.13.0", "threads": 8}))
    (path / "scenario.yaml").write_text("name: demo  # <b>verbatim</b>\n")
    if lines is not None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (path / "metrics.jsonl").write_text(text)
    return path


# ---- reading a report --------------------------------------------------------------------------


class Page(HTMLParser):
    """A report, checked while it is read: balanced, alone, harmless."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(self.text)
        self.close()
        assert not self.open
        # One script, which the page's policy allows by its hash.
        (script,) = re.findall(r"<script>(.*?)</script>", self.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'\"" in self.text
        assert self.tags.count("script") == self.text.count("<script") == 1
        assert len(self.ids) == len(set(self.ids))
        assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", self.text)
        for label in re.findall(r'aria-labelledby="([^"]*)"', self.text):
            assert label in self.ids
        for target in re.findall(r'(?:href="#|url\(#)([^")]*)', self.text):
            assert target in self.ids

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in {"img", "iframe", "object", "link", "base", "form", "image"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "data", "action"}
            assert "href" not in name or (value or "").startswith("#")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data.strip())

    @property
    def figures(self) -> set[str]:
        return set(self.words.get("h3", []))

    @property
    def svgs(self) -> list[ET.Element]:
        return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", self.text, re.DOTALL)]

    def svg(self, title: str) -> ET.Element:
        after = self.text.split(f"<h3>{title}</h3>")[1]
        return ET.fromstring(after[: after.index("</svg>") + 6])


def series(svg: ET.Element) -> dict[str, list[str]]:
    """The paths of every series by the text of its tooltip."""
    found: dict[str, list[str]] = {}
    for group in svg.iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            paths = [path.get("d", "") for path in group.iter(f"{SVG}path")]
            found.setdefault(title.text or "", []).extend(paths)
    return found


def points(path: str) -> int:
    return len(re.findall(r"[MLCQV]", path))
