"""The pictures in docs/results, made of the JSON files beside them, without any run.

python -m tests.result_pictures
"""

from __future__ import annotations

import json
from pathlib import Path

from neurosim import documents
from neurosim.records import Results, Row
from neurosim.reports import pictures_of
from neurosim.runs import SweepPlan
from neurosim.tables import Choice, page, table_named
from neurosim.tables.table import PlannedTable

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docs/results").rglob("*.json"))


def pictures(file: Path) -> dict[str, str]:
    """What is drawn of a table's JSON file: SVG by the name of its file."""
    said = json.loads(file.read_text(encoding="utf-8"))
    table = table_named(said["table"])
    at = {row.values: row for row in table.rows}
    rows, batches, found = [], [], []
    for one in said["rows"]:
        row = at[tuple(one[axis] for axis in table.axes)]
        rows.append(row)
        scenario = documents.load(ROOT / "scenarios" / one["scenario"]).value
        batches.append(scenario["data"]["batch_size"])
        assert not any("batch_size" in text for text in one["overrides"])
        for run in one["runs"]:
            summary = dict(run)
            if "mean_messages" in run:  # older files have no sum
                summary |= {"messages": run["mean_messages"] + run["difference_messages"]}
            found.append(Row(row.values, run["seed"], run["folder"], "", summary))
    results = Results(said["table"], [(axis, []) for axis in table.axes], found)
    results.axes = list(zip(table.axes, results.texts(), strict=True))
    sweep = SweepPlan(results, [], 1)
    planned = PlannedTable(table, Choice(said["quick"]), tuple(rows), tuple(batches), sweep)
    drawn = pictures_of(page._figures(planned))
    return {f"{planned.stem}-{one.name}.svg": str(one.svg) for one in drawn}


if __name__ == "__main__":
    for file in FILES:
        for name, svg in pictures(file).items():
            file.with_name(name).write_text(svg, encoding="utf-8")
