"""Scenarios: one YAML file that names everything."""

from neurosim.scenario.file import ConvergenceStudy, Robustness, ScenarioFile, located, overridden
from neurosim.scenario.scenario import Scenario
