"""Holds the tables of the papers as data: which runs they are made of, and what was published.

To add a row is one `TableRow` here: a scenario, what it overrides, and the published figure if
there is one. Nothing here is computed, and nothing measured is written here.
"""

from neurosim.tables.form import Published, Setting, Table, TableRow

DP23 = "Høier, Staudt & Zach, ICML 2023"


# ---- settings ----------------------------------------------------------------------------------

# The paper's Adam 3e-5 is for 100 epochs; a tenth of the epochs takes ten times the rate, and ends
# at 0: at a constant 3e-4 test accuracy goes up and down by 0.2 % from epoch to epoch.
_MNIST = Setting(
    full=(
        "training.epochs=10",
        "plasticity.optimizer.lr=3e-4",
        "plasticity.learning_rate={kind: cosine}",
    ),
    quick=(
        "data={name: digits, batch_size: 50}",
        "network={input: [64], layers: [{name: h1, dense: 100}, {name: h2, dense: 100}, "
        "{name: h3, dense: 100}, {name: output, dense: 10}]}",
        "training.epochs=3",
        "training.validation=0.1",
        "plasticity.optimizer.lr=1e-3",
    ),
)
SMALL_MNIST = Setting(
    full=("training.epochs=5",),
    quick=(
        "data={name: digits, batch_size: 50}",
        "network={input: [64], layers: [{name: h1, dense: 64}, {name: h2, dense: 64}, "
        "{name: output, dense: 10}]}",
        "training.epochs=3",
        "training.validation=0.1",
        "plasticity.optimizer.lr=1e-3",
    ),
)
# Systems that settle cost up to two hundred times what back-propagation does: small networks.
PERCEPTRON = Setting(
    full=(
        "network={input: [784], layers: [{name: h1, dense: 256}, {name: h2, dense: 256}, "
        "{name: output, dense: 10}]}",
        "training.epochs=5",
        "plasticity.optimizer.lr=1e-3",
        "probes=[accuracy]",
    ),
    quick=(*SMALL_MNIST.quick, "probes=[accuracy]"),
)
_CONV_NET = (
    "network={{input: [{}], initialization: lecun_normal, "
    "layers: [{{name: conv1, conv: {}, pool: max}}, {{name: conv2, conv: {}, pool: max}}, "
    "{{name: conv3, conv: {}, pool: max}}, {{name: output, dense: 10}}]}}"
)
CONV_NET = Setting(
    full=(
        _CONV_NET.format("3, 32, 32", 32, 64, 128),
        "data.limit=3000",
        "training.epochs=5",
        "plasticity={optimizer: {kind: adam, lr: 1e-3}}",
        "probes=[accuracy]",
    ),
    quick=(
        "data={name: digits, batch_size: 50}",
        _CONV_NET.format("1, 8, 8", 8, 16, 32),
        "training.epochs=3",
        "plasticity={optimizer: {kind: adam, lr: 1e-3}}",
        "probes=[accuracy]",
    ),
)

# ---- the table of DP23 -------------------------------------------------------------------------

BACKPROP = ("rule={kind: backprop}",)


def _dp23(accuracy: float, std: float) -> Published:
    return Published(accuracy, std, seeds=5, epochs=100, source=f"{DP23}, MNIST")


def _mnist(
    label: str, scenario: str, *overrides: str, published: Published | None = None
) -> TableRow:
    return TableRow((label,), scenario, overrides, _MNIST, published)


def _delayed(delay: int) -> TableRow:
    """P-DP with late messages: 3 delays up for the activity, 3 down for the error, and two more."""
    return _mnist(
        f"P-DP, delay {delay}",
        "mnist_p_dp",
        f"channels.mean.delay={delay}",
        f"channels.difference.delay={delay}",
        f"nudge_after={3 * delay + 1}",
        f"schedule.ticks={8 * delay}",
    )


def _random(updates: int) -> TableRow:
    published = _dp23(98.48, 0.11) if updates == 100 else None
    more = () if updates == 100 else (f"schedule.updates={updates}",)
    return _mnist(f"R-DP-{updates}", "mnist_r_dp_100", *more, published=published)


MNIST_TABLE = Table(
    name="mnist",
    title="Schedules on MNIST",
    text=(
        "Dual propagation under the schedules of its first paper, and under others that it did not "
        "try: clocks of single neurons, blocks whose clocks differ by 10 %, waking by messages "
        "alone, late messages, and too few random updates. All learn the same weights of the same "
        "network, 784-1000-1000-1000-10, with squared error, α = ½, β = 1, Adam, batches of 100, "
        "54,000 training and 6,000 validation images."
    ),
    axes=("system",),
    rows=(
        _mnist("BP", "mnist_dp", *BACKPROP, published=_dp23(98.45, 0.04)),
        _mnist("DP", "mnist_dp", published=_dp23(98.43, 0.03)),
        _mnist("MS-DP", "mnist_ms_dp", published=_dp23(98.40, 0.02)),
        _mnist("L-DP", "mnist_l_dp", published=_dp23(98.42, 0.07)),
        _mnist("P-DP", "mnist_p_dp", published=_dp23(98.47, 0.04)),
        *(_random(updates) for updates in (20, 50, 100, 200)),
        *(_delayed(delay) for delay in (1, 4, 16)),
        _mnist(
            "Poisson neurons",
            "mnist_p_dp",
            "schedule={kind: poisson, unit: neuron, rate: 1.0, tick: 0.5, duration: 24}",
            "nudge_after=0",
        ),
        _mnist(
            "Periodic blocks, 10 % spread",
            "mnist_p_dp",
            "schedule={kind: periodic, unit: block, period: 1.0, spread: 0.1, tick: 0.25, "
            "duration: 12}",
            "nudge_after=0",
        ),
        _mnist(
            "Lazy neurons, threshold 1e-3",
            "mnist_p_dp",
            "schedule={kind: lazy, unit: neuron, duration: 24}",
            "channels={mean: {threshold: 1e-3}, difference: {threshold: 1e-3}}",
            "nudge_after=0",
        ),
    ),
    columns=(
        "test_accuracy difference gradient_angle seconds_per_epoch cpu_seconds_per_epoch "
        "time_over_baseline ticks_per_step wakes_per_step messages_per_sample"
    ),
    pictures="test_accuracy gradient_angle cpu_seconds_per_epoch messages_per_sample",
    seeds=3,
    baseline="BP",
)

# ---- variants by α and β -----------------------------------------------------------------------

ALPHAS = ("0", "0.25", "0.5", "0.75", "1")
BETAS = ("0.01", "0.1", "1")
VARIANTS = ("aro", "damped", "lagrangian")

ALPHA_TABLE = Table(
    name="alpha",
    title="Variants by alpha and beta",
    text=(
        "Where the mean of a dyad lies (α), how strong the nudge is (β), and what a variant makes "
        "of it: a network 784-256-256-10 on MNIST with squared error, the nudge at the "
        "feed-forward prediction and 16 upward sweeps. A run that diverges is a result, and shown "
        "as such. At α = ½ the three variants are one."
    ),
    axes=("alpha", "beta", "variant"),
    rows=tuple(
        TableRow(
            (alpha, beta, variant),
            "mnist_dpt",
            (f"rule.alpha={alpha}", f"rule.beta={beta}", f"rule.variant={variant}"),
            SMALL_MNIST,
        )
        for variant in VARIANTS
        for beta in BETAS
        for alpha in ALPHAS
    ),
    columns=(
        "gradient_angle residual test_accuracy largest_norm lipschitz_bound attack_accuracy "
        "seconds_per_epoch cpu_seconds_per_epoch"
    ),
    pictures="gradient_angle residual test_accuracy lipschitz_bound attack_accuracy",
    seeds=1,
)

# ---- learning systems --------------------------------------------------------------------------


def _systems(
    system: str, *overrides: str, perceptron: tuple[str, ...] = (), conv_net: tuple[str, ...] = ()
) -> tuple[TableRow, ...]:
    """A system on both networks, by what it overrides of dual propagation."""
    return (
        TableRow((system, "perceptron"), "mnist_dp", (*overrides, *perceptron), PERCEPTRON),
        TableRow((system, "conv net"), "cifar10_dp", (*overrides, *conv_net), CONV_NET),
    )


# A free phase of 20 sweeps and nudged ones of 5, each over one half of the layers, then the other.
SETTLING = (
    "schedule={kind: sweep, order: odd_even, passes: 5}",
    "training.evaluation=settled",
    "network.initialization=weak_uniform",
)

SYSTEMS_TABLE = Table(
    name="systems",
    title="Learning systems",
    text=(
        "Systems that learn by local rules, on the same data and simulator, and on networks of the "
        "same layers, with the activation that each needs: a perceptron 784-256-256-10 on MNIST, "
        "and three convolutions of 32, 64 and 128 conv channels, each with pooling, on 3,000 "
        "images of CIFAR-10. BP, DP, KP-DP, LPOM and CHL are relu networks; EP is bounded (hard "
        "sigmoid), H-EP and DTP smooth (tanh), H-EP pools averages; EP and H-EP, and CHL on the "
        "convolutions, begin with small weights. The optimizer is Adam 1e-3; "
        "for KP-DP it is SGD, as with steps of one size for all weights (Adam) those of the lower "
        "layers have moved before feedback and forward weights have turned to each other."
    ),
    axes=("system", "network"),
    rows=(
        *_systems("BP", *BACKPROP),
        *_systems("DP"),
        # Without weight decay the feedback weights would not turn into the forward ones.
        *_systems(
            "KP-DP",
            "feedback=kolen_pollack",
            perceptron=(
                "plasticity={optimizer: {kind: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1e-3}}",
            ),
            conv_net=(
                "plasticity={optimizer: {kind: sgd, lr: 0.01, momentum: 0.9, weight_decay: 1e-3}}",
            ),
        ),
        *_systems(
            "EP",
            "rule={kind: equilibrium_propagation, variant: centered, beta: 0.25, free: 4}",
            "loss=squared_error",
            "init=zero",
            *SETTLING,
            "network.activation=hard_sigmoid",
        ),
        *_systems(
            "H-EP",
            "rule={kind: holomorphic_ep, points: 4, beta: 0.4, free: 4}",
            "loss=cross_entropy",
            "init=zero",
            *SETTLING,
            "network.activation=tanh",
            conv_net=tuple(f"network.layers[{layer}].pool=avg" for layer in range(3)),
        ),
        *_systems(
            "CHL",
            "rule={kind: chl, discount: 0.1, free: 1}",
            "loss=squared_error",
            *SETTLING[:2],
            # From larger weights relu states on their way up and down grow without bound.
            conv_net=("network.initialization=weak_uniform",),
        ),
        *_systems(
            "LPOM",
            "rule={kind: lpom, beta: 1.0}",
            "loss=squared_error",
            "schedule={kind: sweep, order: forward, passes: 12}",
        ),
        *_systems(
            "DTP",
            "rule={kind: difference_target_propagation, beta: 0.7, "
            "jacobian: {steps: 10, std: 0.1, rate: 0.05, momentum: 0.9}}",
            "feedback=local_jacobian",
            "loss=cross_entropy",
            "network.activation=tanh",
        ),
    ),
    columns=(
        "test_accuracy difference seconds_per_epoch cpu_seconds_per_epoch time_over_baseline "
        "ticks_per_step wakes_per_step messages_per_sample peak_memory_bytes"
    ),
    pictures="test_accuracy time_over_baseline messages_per_sample",
    seeds=1,
    baseline="BP",
)

TABLES = {table.name: table for table in (MNIST_TABLE, ALPHA_TABLE, SYSTEMS_TABLE)}
