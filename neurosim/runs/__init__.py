"""Runs, sweeps and studies, and their folders."""

from neurosim.runs.door import Run, SweepResults
from neurosim.runs.executors.dask import Dask
from neurosim.runs.executors.executor import Inline, Local
from neurosim.runs.folder import network_in
from neurosim.runs.listeners.display import DownloadDisplay, SweepDisplay, summary_lines
from neurosim.runs.study import prepare
from neurosim.runs.sweep import Checked, SweepPlan, plan
