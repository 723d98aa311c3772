"""What every member of a family must keep, whoever wrote it: checks, with what may help."""

from neurosim.conformance.checks import Check, ConformanceFailure
from neurosim.conformance.suite import attempt, checks_of
