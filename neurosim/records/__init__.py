"""What a run or a sweep has left on disk, and what its numbers mean."""

from neurosim.records.folder import (
    MANIFEST,
    RunFiles,
    check_lines,
    file_digest,
    files_below,
    read_lines,
    read_object,
    record_line,
    write_manifest,
    write_object,
)
from neurosim.records.run import (
    Entry,
    Run,
    Traces,
    group,
    moment_text,
    names_in,
    value_at,
)
from neurosim.records.states import States, StatesWriter
from neurosim.records.summary import Quantity, measured, quantities, recorded, shown_in, told
from neurosim.records.sweep import LACKING, Lack, Results, Row, Seeds
