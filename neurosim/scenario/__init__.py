"""Scenarios: one YAML file that names everything."""

from neurosim.scenario.file import ScenarioFile, overridden
from neurosim.scenario.located import located
from neurosim.scenario.scenario import Scenario
from neurosim.scenario.sections.study import ConvergenceSection

__all__ = [
    "ConvergenceSection",
    "Scenario",
    "ScenarioFile",
    "located",
    "overridden",
]
