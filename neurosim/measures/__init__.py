"""What can be read off a simulation."""

from neurosim.dynamics import basal_potential, current_mean, output_potential
from neurosim.families import gather
from neurosim.measures.costs import Cost, Costs, shipped_costs
from neurosim.measures.gradients import (
    Alignment,
    alignment,
    back_propagation,
    feedback_alignment,
    true_gradient,
)
from neurosim.measures.input_change import MEASURES, InputChange
from neurosim.measures.metrics import (
    Residual,
    Staleness,
    accuracy,
    alpha_objective,
    contrastive_objective,
    in_flight,
    parallel_wake,
    parameters_of,
    reach,
    residual,
    staleness,
)
from neurosim.measures.prequential import Prequential, costs_of_all, cross_correlation_lag
from neurosim.measures.probes import Observation, Probe, Recorder, Sink, Trace, in_order
from neurosim.measures.robustness import fgsm, lipschitz_bound, spectral_norms
from neurosim.measures.states import RecordPlan, StatesProbe

gather(__name__)
