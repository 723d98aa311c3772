"""Shows an inference by tick, on the drawing of its network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from neurosim.base import compact
from neurosim.records import Entry, group, value_at
from neurosim.reports.drawing import Frame, draw_for_page

if TYPE_CHECKING:  # a report needs no torch
    from neurosim.network import Network

MAX_FRAMES = 200
STILLS = 4  # drawings, for a reader whose browser runs no scripts
_FIGURE = Markup('<figure data-frames="{}"><h3>Inference by tick</h3><div class="frames">')
_STILL = Markup('<div><h4>{}</h4><div class="scroll">{}</div></div>')
_NOTE = Markup(
    '</div><p class="note">Boxes: root mean square of the activity (bar: against its greatest), '
    "and the residual, the larger one of mean and difference. Arrows: messages since the moment "
    "before, of the mean (→) and of the difference (←), all samples; the wider the more."
    "</p></figure>"
)


def animate(network: Network, records: Sequence[Entry]) -> Markup:
    """Draws what a study or the probe ``activity`` recorded: a few moments, which the script of the
    page makes one drawing with a slider. Of many records some are left out; empty where records
    have no activity."""
    chosen, frames = _moments(network, records)
    if not frames:
        return Markup("")
    times = [_time(record) for record in chosen]
    found = {
        "times": times,
        "boxes": {p.name: [frame.boxes[p.name] for frame in frames] for p in network.populations},
        "arrows": {q.name: [frame.arrows[q.name] for frame in frames] for q in network.projections},
    }
    parts = [_FIGURE.format(json.dumps(found, separators=(",", ":")))]
    for still in _stills(len(frames)):
        parts.append(_STILL.format(times[still], draw_for_page(network, frames[still])))
    return Markup("").join([*parts, _NOTE])


def stills_of(network: Network, records: Sequence[Entry]) -> dict[str, Frame]:
    """Returns the few moments that `animate` draws, by names such as inference-tick-8; none
    without activity."""
    chosen, frames = _moments(network, records)
    return {f"inference-tick-{chosen[at]['tick']}": frames[at] for at in _stills(len(frames))}


def _moments(network: Network, records: Sequence[Entry]) -> tuple[list[Entry], list[Frame]]:
    size = -(-len(records) // MAX_FRAMES)
    chosen = [*records[:-1:size], records[-1]] if records else []
    paths = [("populations", p.name, "activity") for p in network.dyadic]
    if not chosen or any(value_at(r, path) is None for r in chosen for path in paths):
        return [], []
    return chosen, _frames(network, chosen, records)


def _stills(frames: int) -> list[int]:
    return sorted({round(i * (frames - 1) / (STILLS - 1)) for i in range(STILLS)} if frames else ())


def _time(record: Entry) -> str:
    phase = f"{record['phase']}, " if "phase" in record else ""
    return f"{phase}time {record['time']:g}, tick {record['tick']:,}"


def _frames(network: Network, chosen: Sequence[Entry], records: Sequence[Entry]) -> list[Frame]:
    most = {
        p.name: max(value_at(r, ("populations", p.name, "activity")) or 0.0 for r in chosen)
        for p in network.dyadic
    }
    frames, past = [], list(records)
    for record in chosen:
        boxes = {network.input.name: (0.0, " × ".join(map(str, network.input.shape)), "")}
        for name, greatest in most.items():
            activity = value_at(record, ("populations", name, "activity")) or 0.0
            kinds = ("residual_mean", "residual_difference")
            residual = max(value_at(record, ("populations", name, k)) or 0.0 for k in kinds)
            level = round(activity / greatest, 3) if greatest else 0.0
            boxes[name] = (
                level,
                f"activity {activity:.2g}",
                f"residual {compact(float(f'{residual:.1g}'))}",
            )
        since = []  # that were recorded after the frame before
        while past:
            since.append(past.pop(0))
            if since[-1] is record:
                break
        frames.append(Frame(boxes, _arrows(network, since)))
    return frames


def _arrows(network: Network, since: Sequence[Entry]) -> dict[str, tuple[float, str]]:
    arrows = {}
    for q in network.projections:
        sent = [group(group(record, "projections"), q.name) for record in since]
        up, down = (
            int(sum(value_at(one, (f"{kind}_messages",)) or 0 for one in sent))
            for kind in ("mean", "difference")
        )
        width = 0.6 + 0.45 * len(str(up + down)) if up + down else 0.6
        said = [f"→ {compact(up)}"] * bool(up) + [f"← {compact(down)}"] * bool(down)
        arrows[q.name] = round(width, 2), "  ".join(said)
    return arrows
