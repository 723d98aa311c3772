"""Scenarios: one YAML file that names everything."""

from neurosim.scenario.file import (
    MAX_KEEP,
    CheckpointPlan,
    ConvergenceStudy,
    Robustness,
    ScenarioFile,
    located,
    overridden,
)
from neurosim.scenario.scenario import Scenario
from neurosim.scenario.schema import exemplified, json_schema, places_of, whole_files
