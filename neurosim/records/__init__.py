"""What a run or a sweep has left on disk, and what its numbers mean."""

from neurosim.records.run import (
    Entry,
    Run,
    Traces,
    group,
    moment_text,
    names_in,
    read_object,
    value_at,
)
from neurosim.records.summary import Quantity, measured, quantities, recorded, shown_in, told
from neurosim.records.sweep import LACKING, Lack, Results, Row, Seeds
