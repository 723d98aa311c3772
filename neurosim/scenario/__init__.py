"""Scenarios: one YAML file that names everything."""

from neurosim.scenario.file import ConvergenceStudy, ScenarioFile, overridden
from neurosim.scenario.located import located
from neurosim.scenario.scenario import Scenario
