"""What a newcomer writes who knows other programs: a hint of what it is called here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import neurosim as ns
from neurosim.base.suggest import _ELSEWHERE, nearest
from neurosim.cli.main import main
from neurosim.families.kinds import FAMILIES
from neurosim.runs.overrides import assignments

X, Y = torch.rand(20, 4), torch.arange(20) % 2


def network(activation: str = "relu") -> ns.Network:
    hidden = {"dense": 3, "activation": activation}
    return ns.Network.from_dict({"input": [4], "layers": [hidden, {"dense": 2}]})


def trainer(**options: Any) -> ns.Trainer:
    sim = ns.Simulation(ns.Model(network()), schedule="sweep")
    return ns.Trainer(sim, "adam", (X, Y), (X, Y), **{"batch_size": 5} | options)


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("linear", ("elu", "identity", "leaky_relu"), "identity"),
        ("Swish", ("silu", "softmax"), "silu"),
        ("BP", ("backprop", "lpom"), "backprop"),
        ("mse", ("squared_error",), "squared_error"),
        ("tsv", ("csv", "svhn"), "csv"),
        ("top-5", ("r2", "top_k"), "top_k"),
        ("linear", ("relu6", "tanh"), None),  # what it means is not here
        ("linaer", ("linear",), "linear"),
    ],
)
def test_what_is_called_otherwise_elsewhere(
    word: str, known: tuple[str, ...], meant: str | None
) -> None:
    assert nearest(word, known) == meant


def test_hints_in_python() -> None:
    with pytest.raises(ns.NetworkError, match=r"got 'linear' \(text\); did you mean 'identity'"):
        network("linear")
    with pytest.raises(ns.ConfigurationError, match="loss 'mse'; did you mean 'squared_error'"):
        ns.Simulation(ns.Model(network()), schedule="sweep", loss="mse")
    for metrics in (["accuracy"], "loss"):
        with pytest.raises(ns.ConfigurationError, match="what every evaluation measures: leave it"):
            trainer(metrics=metrics)
    assert trainer(metrics="mse").plan.metrics == (ns.Metric.of("mse"),)
    with pytest.raises(ns.DataError, match="batch_size 50 exceeds the 20 samples"):
        trainer(batch_size=50)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.metrics=[accuracy]", "no metric can be 'accuracy', which is what every evalua"),
        ("training.metrics=mse", "expected a list, got 'mse' (text); write [mse]"),
        ("network.activation=linear", "did you mean 'identity'?"),
        ("data={kind: tsv, file: x.tsv}", "unknown kind 'tsv'; did you mean 'csv'?"),
        ("loss=bce", "did you mean 'binary_cross_entropy'?"),
        ("training.lr=0.1", "training: unknown key 'lr'; did you mean plasticity.optimizer.lr?"),
        ("plasticity.lr=0.1", "unknown key 'lr'; did you mean plasticity.optimizer.lr?"),
        ("training.patience=3", "did you mean training.early_stopping.patience?"),
        ("training.batch_size=3", "did you mean data.batch_size?"),
        ("training.epoch=3", "training: unknown key 'epoch'; did you mean 'epochs'?"),
        ("training.zzz=3", "training: unknown key 'zzz'; the keys here are epochs, "),
        ("rule=bp", "did you mean {kind: backprop}?"),
        ("data={limit: 100}", "; data.limit=VALUE changes that alone"),
        (
            "schedule=bursts",
            "expected a mapping with a 'kind', got 'bursts' (text); the kinds are ",
        ),
    ],
)
def test_hints_in_documents(override: str, said: str, root: Path) -> None:
    with pytest.raises(ns.DocumentError) as caught:
        ns.Scenario.load(root / "scenarios/parallel.yaml", [override])
    assert said in str(caught.value)


def test_layers_that_are_refused_are_named() -> None:
    for layer, shape in ((nn.Conv1d(1, 2, 3), (1, 4)), (nn.LSTM(4, 2), (4,))):
        module = nn.Sequential(layer, nn.Flatten(), nn.Linear(4, 2))
        with pytest.raises(ns.NetworkError, match=rf"layer '0' \({type(layer).__name__}\): cannot"):
            ns.Network.from_torch(module, input_shape=shape)


def test_ranges_as_on_the_command_line() -> None:
    axes = {"seed": "1..2", "rule.beta": "log(0.1,1,2)", "schedule.ticks": "4,8", "name": "x.1"}
    said = dict(one.split("=", 1) for one in assignments(axes, swept=True))
    assert said == {
        "seed": "1..2", "rule.beta": "log(0.1,1,2)", "schedule.ticks": "4,8", "name": '"x.1"'
    }  # fmt: skip
    assert assignments({"seed": "1..2"}) == ['seed="1..2"']  # an override is one value


def test_an_axis_of_numpy() -> None:
    said = assignments({"rule.beta": np.linspace(0.25, 1, 3), "seed": np.arange(2)}, swept=True)
    assert said == ["rule.beta=0.25,0.625,1.0", "seed=0,1"]


def test_a_sweep_of_a_range(tmp_path: Path) -> None:
    short = {"training.max_steps": 1, "data.limit": 100}
    found = ns.sweep("parallel", {"seed": "1..2"}, short, out=tmp_path)
    assert [record["seed"] for record in found.records] == [1, 2]
    with pytest.raises(ns.DocumentError, match="both ends must be above 0"):
        ns.sweep("parallel", {"rule.beta": "log(0,1,3)"}, short, out=tmp_path)


def test_what_is_meant_exists() -> None:
    known = {name for family in FAMILIES.values() for name in family}
    assert set(_ELSEWHERE.values()) <= known


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((X, Y[:9]), "20 samples but 9 labels; take both of the same source"),
        (
            (X, Y + 1),
            r"2 outputs: label 2 at index 1 .* TorchData\(…\).read\(\) numbers any labels",
        ),
        ((X, Y[:, None]), r"targets of shape \(1,\) do not fit .* classes are whole numbers"),
        (
            ns.TorchData((X, Y)),
            r"not TorchData; give it data = TorchData\(…\)\.read\(\), data\.tra",
        ),
        (ns.TorchData((X, Y)).read(), r"not Dataset; give it data\.train and data\.test"),
    ],
)
def test_data_that_a_trainer_does_not_take(data: Any, said: str) -> None:
    sim = ns.Simulation(ns.Model(network()), schedule="sweep")
    with pytest.raises(ns.DataError, match=said):
        ns.Trainer(sim, "adam", data, (X, Y), batch_size=5)


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, "rmsprop", "RMSprop"])
def test_an_optimizer_of_torch_is_given_parameters(optimizer: Any) -> None:
    sim = ns.Simulation(ns.Model(network()), schedule="sweep")
    with pytest.raises(ns.ConfigurationError, match=r"give torch\.optim\.RMSprop\(model\.para"):
        ns.Trainer(sim, optimizer, (X, Y), (X, Y), batch_size=5)


def test_options_that_live_elsewhere() -> None:
    with pytest.raises(ns.ConfigurationError, match=r"OptimizerChoice\.of\('adam', lr=…\)"):
        trainer(lr=0.1)
    with pytest.raises(ns.ConfigurationError, match=r"overrides \{'listeners': \[…\]\}"):
        trainer().fit(["tensorboard"])
    with pytest.raises(
        ns.ConfigurationError, match=r"a list, not a \w*Path; give listeners=\[it\]"
    ):
        trainer().fit(Path())  # type: ignore[arg-type]
    with pytest.raises(
        ns.ConfigurationError, match=r"a list, not a \w*Path; give listeners=\[it\]"
    ):
        ns.run(trainer(), listeners=Path(), out="never")  # type: ignore[arg-type]
    sim = ns.Simulation(ns.Model(network()), schedule="sweep", probes="residual")
    assert [probe.kind for probe in sim.probes] == ["residual"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["activation=tanh"], "'activation' belongs to the network: network.activation"),
        (["noise=0.1"], "did you mean channels.mean.noise or channels.difference.noise?"),
        (["seed=1..3"], "got '1..3' (text); several values, 1,2 or 1..5, are for neurosim sweep"),
        (["seed=0,1"], "several values, 1,2 or 1..5, are for neurosim sweep"),
        (["data.kind=npz"], "<command line>:1:1: data: needs the key 'file'"),
        (["network=digits_mpl"], "no example of that name; did you mean 'digits_mlp'?"),
        (["network=nothing_like_it"], "no example of that name; neurosim examples lists them"),
        (["weights=tests"], "tests: is a folder; name the checkpoints/model.safetensors of a run"),
    ],
)
def test_hints_on_the_command_line(
    overrides: list[str], said: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(ns.NeurosimError) as caught:
        ns.run("scenarios/parallel.yaml", overrides, out="never", progress=False)
    assert said in str(caught.value)


def test_a_network_is_no_scenario(root: Path) -> None:
    with pytest.raises(ns.DocumentError, match=r"digits_mlp\.yaml:\d+:1: this is a network, not a"):
        ns.run(root / "networks/digits_mlp.yaml", ["training.epochs=2"], out="never")


def test_a_finished_trainer_goes_on_for_longer(tmp_path: Path) -> None:
    done = ns.run(trainer(epochs=2), out=tmp_path, run_id="a", progress=False)
    with pytest.raises(
        ns.DataError, match=r"is finished; .*, but for longer: with a trainer of more"
    ):
        ns.resume(done.folder, trainer(epochs=2))
    with pytest.raises(ns.ConfigurationError, match="overrides are for the run of a scenario"):
        ns.resume(done.folder, trainer(epochs=3), overrides=["training.epochs=3"])
    more = ns.resume(done.folder, trainer(epochs=3), progress=False)
    whole = ns.run(trainer(epochs=3), out=tmp_path, run_id="b", progress=False)
    for name in ("weights_sha256", "metrics_sha256", "steps"):
        assert more.summary[name] == whole.summary[name]
    scenarios = [(run.folder / "scenario.yaml").read_text() for run in (more, whole)]
    assert scenarios[0] == scenarios[1]
    assert repr(trainer()).startswith("Trainer(Network(")
    assert repr(trainer()).endswith(", step 0 of 40)")


def test_a_kind_leaves_out_a_value_that_it_does_not_take(root: Path) -> None:
    """`variant` is a key of both rules, with other words."""
    scenario = root / "scenarios/random_order.yaml"
    rest = ["rule.beta=0.1", "network=digits_mlp_bounded", "training.evaluation=settled"]
    with pytest.warns(ns.NeurosimWarning) as warned:
        found = ns.Scenario.load(scenario, ["rule.kind=equilibrium_propagation", *rest])
    assert found.file.rule == ns.EquilibriumPropagation(0.1)
    assert any("leaves out 'variant' of " in str(one.message) for one in warned)
    wrong = ["rule.kind=equilibrium_propagation", "rule.variant=aro", *rest]
    with (
        pytest.raises(ns.DocumentError, match="expected 'centered'"),
        pytest.warns(ns.NeurosimWarning),
    ):
        ns.Scenario.load(scenario, wrong)


def test_options_that_are_values_of_the_scenario() -> None:
    for option, place in (("--epochs", "training.epochs"), ("--seed", "seed"), ("--lr", ".lr")):
        said = CliRunner().invoke(main, ["run", "poisson", option, "3"]).output
        assert f"{place}=VALUE." in said.replace("\n", " ")
    said = CliRunner().invoke(main, ["run", "poisson.yaml"]).output
    assert "poisson is an example: give that name alone" in said


def test_data_that_are_called_otherwise(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    np.savez(tmp_path / "c.npz", x=X, y=Y.numpy().astype(object))
    np.savez(tmp_path / "d.npz", x=X[:0], y=Y[:0])
    (tmp_path / "b.csv").write_text("a;label\n1;2\n")
    for part in ("train/x", "train/y", "test/x", "test/y"):
        (tmp_path / "pictures" / part).mkdir(parents=True)
    for data, said in (
        ({"kind": "npz", "file": "a.npz"}, "x and y say which arrays: unknown array 'x'"),
        ({"kind": "npz", "file": "b.csv"}, "say kind: csv if it is that"),
        ({"kind": "csv", "file": "b.csv", "label": "label"}, 'say delimiter: ";"'),
        ({"kind": "npz", "file": "pictures"}, "Is a directory; .* say kind: images, root: FOLD"),
        ({"kind": "npz", "file": "c.npz"}, "c.npz, array 'y': holds object.*astype.str"),
        ({"kind": "npz", "file": "d.npz"}, "d.npz: there are no samples"),
        ({"kind": "parquet", "file": "b.csv", "label": "a"}, "say kind: csv if it is that"),
        ({"kind": "images", "root": "pictures"}, r"parts; say root: .*train, test: .*test"),
    ):
        key = "root" if "root" in data else "file"
        with pytest.raises(ns.NeurosimError, match=said):
            ns.DataSource.of(data.pop("kind"), **data | {key: str(tmp_path / data[key])}).read()
