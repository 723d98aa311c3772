"""What a run or a sweep has left on disk."""

from neurosim.records.run import Moment, Record, Run, Traces, group, moment_text, names_in, time_of
from neurosim.records.sweep import Results, Row, read_object

__all__ = [
    "Moment",
    "Record",
    "Results",
    "Row",
    "Run",
    "Traces",
    "group",
    "moment_text",
    "names_in",
    "read_object",
    "time_of",
]
