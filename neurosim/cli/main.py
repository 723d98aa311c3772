"""The command line. Imports what a command needs when it runs, so that help is instant."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurosim._version import __version__
from neurosim.base import (
    DivergenceError,
    NeurosimError,
    ignore_at_exit,
    interrupts_raised,
    leads,
)
from neurosim.cli import options
from neurosim.cli.check import check
from neurosim.cli.installation import completion, doctor, examples
from neurosim.cli.options import (
    DEVICE,
    DRY_RUN,
    FILE,
    LIVE,
    NETWORK,
    OUT,
    OVERRIDES,
    PATH,
    PLUGIN,
    QUIET,
    RUN,
    RUN_ID,
    option,
    terminal,
)
from neurosim.cli.pages import compare, figures, report
from neurosim.cli.sweeps import sweep, table

if TYPE_CHECKING:
    from rich.console import Console

    from neurosim.runs import Run
    from neurosim.scenario import Scenario


class _Group(click.Group):
    """Turns the program's own errors into one message, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        os.environ.pop("MPLBACKEND", None)  # no window is opened; nonsense would be an error
        with options.lasting_output():
            return self._in_words(context)

    def _in_words(self, context: click.Context) -> Any:
        try:
            with interrupts_raised(), options.warnings_in_words():
                return super().invoke(context)
        except NeurosimError as error:
            options.complain(str(error))
            sys.exit(1 if isinstance(error, DivergenceError) else 2)
        except KeyboardInterrupt:
            click.echo("stopped at once", err=True)
            sys.exit(options.INTERRUPTED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            options.complain(f"{where}{error.strerror or error}")
            sys.exit(2)
        except (MemoryError, RuntimeError) as error:
            from neurosim.tensors import out_of_memory

            if not out_of_memory(error):
                raise
            options.complain("there is not enough memory for this command")
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurosim")
def main() -> None:
    """Simulate asynchronous networks of dyadic neurons.

    \b
    neurosim run scenarios/random_order.yaml
    neurosim run scenarios/random_order.yaml training.epochs=3 seed=1
    neurosim examples              the scenarios that ship with it
    neurosim run random_order      one of them, by its name
    neurosim doctor                what this installation can do
    """


@options.command(FILE, OVERRIDES, OUT, RUN_ID, DEVICE, DRY_RUN, LIVE, PLUGIN, QUIET)
def run(
    file: Path, overrides: Sequence[str], device: str | None, dry_run: bool, **where: Any
) -> None:
    """Run the scenario FILE; KEY=VALUE overrides single values (training.epochs=3).

    FILE is a YAML file, or the name of an example (neurosim examples). With --dry-run it prints the
    resolved scenario: every default written out, the network inline.
    """
    from neurosim.runs import door
    from neurosim.scenario import Scenario

    scenario = Scenario.load(file, options.given(file, overrides, device))
    if dry_run:
        _check_files(scenario)
        click.echo(scenario.resolved(), nl=False)
        return
    _finish(door.run(scenario, **options.own_process(where)))


@options.command(
    FILE,
    OVERRIDES,
    option(
        "--weights",
        type=PATH,
        help="Weights, such as a run's (default: the initial ones).",
        example="--weights runs/poisson/1/checkpoints/model.safetensors",
    ),
    OUT,
    RUN_ID,
    DEVICE,
    PLUGIN,
    QUIET,
)
def converge(
    file: Path,
    overrides: Sequence[str],
    weights: Path | None,
    device: str | None,
    **where: Any,
) -> None:
    """Measure how one inference of the scenario FILE converges; KEY=VALUE overrides values.

    Does the scenario's study (study.samples=20), or the default one where it has none.
    """
    from neurosim import documents
    from neurosim.runs import door
    from neurosim.scenario import Scenario, overridden

    document = overridden(documents.load(file), options.given(file, overrides, device))
    study = document.value.get("study") if isinstance(document.value, dict) else {}
    more = []
    if study is None or (isinstance(study, dict) and "kind" not in study):
        more.append("study.kind=convergence")
    if weights is not None:
        more.append(f"study.weights={json.dumps(str(weights))}")
    scenario = Scenario.of(overridden(document, more))
    _finish(door.run(scenario, **options.own_process(where)))


@options.command(RUN, OVERRIDES, LIVE, PLUGIN, QUIET)
def resume(folder: Path, overrides: Sequence[str], **how: Any) -> None:
    """Continue the interrupted run in FOLDER.

    KEY=VALUE says where its data are now (data.root=DIR), or prolongs it (training.epochs=20).
    """
    from neurosim.runs import door

    _finish(door.resume(folder, overrides=overrides, **options.own_process(how)))


@options.command(FILE, OVERRIDES, PLUGIN)
def validate(file: Path, overrides: Sequence[str]) -> None:
    """Check the scenario FILE and its data without running it."""
    from neurosim.scenario import Scenario

    scenario = Scenario.load(file, options.given(file, overrides))
    _check_files(scenario)
    network = scenario.network
    click.echo(
        f"{file}: valid; {len(network.populations)} populations, {network.dyads:,} dyads, "
        f"schedule {scenario.file.schedule.kind}"
    )


def _downloadable(context: click.Context, param: click.Parameter, begin: str) -> list[str]:
    from neurosim.data import DataSource

    return [name for name, s in DataSource.family.items() if s.remotes and name.startswith(begin)]


@options.command(
    click.argument("name", shell_complete=_downloadable),
    option(
        "--root",
        type=PATH,
        default=Path("data"),
        show_default=True,
        help="Folder for it, to be named as data.root.",
        example="--root ~/datasets",
    ),
    QUIET,
)
def download(name: str, root: Path, console: Console) -> None:
    """Download the data set NAME: mnist, fashion_mnist, kmnist, svhn, cifar10 or cifar100.

    What is there already stays as it is. Needs the extra data: pip install 'neurosim[data]'.
    """
    from rich.filesize import decimal

    from neurosim.data import downloads
    from neurosim.runs import DownloadDisplay

    source = downloads.find(name)
    with DownloadDisplay(console) as display:
        fetched = downloads.fetch(source, root, display.received)
    data, size = fetched.data, sum(remote.size for remote in fetched.downloaded)
    click.echo(f"samples        {len(data.train):,} for training, {len(data.test):,} for the test")
    click.echo(f"downloaded     {decimal(size) if size else 'nothing: it is there'}")
    where = json.dumps(str(root.absolute()), ensure_ascii=False)
    click.echo(f"in a scenario  data: {{name: {name}, root: {where}}}")


@options.command(
    option(
        "--network",
        is_flag=True,
        help="The schema of network files instead.",
        example="neurosim schema --network",
    ),
    PLUGIN,
)
def schema(network: bool) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from neurosim.scenario import json_schema

    click.echo(json.dumps(json_schema(network), indent=2))


@options.command(
    NETWORK,
    option(
        "--drawing",
        type=PATH,
        help="Write a drawing of the network (SVG).",
        example="--drawing network.svg",
    ),
    option(
        "--batch",
        type=click.IntRange(1),
        help="Also the memory for so many samples.",
        example="--batch 100",
    ),
    PLUGIN,
)
def networks(file: Path, drawing: Path | None, batch: int | None) -> None:
    """Show the network FILE (or the network of a scenario): populations, parameters, dyads.

    With --batch also the bytes that inferences need, and learning with Adam (for a scenario: with
    its own schedule, channels and optimizer).
    """
    from neurosim import documents
    from neurosim.base import write_atomic
    from neurosim.cli.networks import memory_of, memory_table, network_table
    from neurosim.network import Network
    from neurosim.reports import draw_network
    from neurosim.scenario import Scenario

    document = documents.load(file)
    described = isinstance(document.value, dict) and "network" in document.value
    scenario = Scenario.of(document) if described else None
    network = Network.from_document(document) if scenario is None else scenario.network
    terminal().print(network_table(network))
    if batch is not None:
        found = {"": memory_of(network, batch)} if scenario is None else scenario.memory(batch)
        for device, memory in found.items():
            terminal().print(memory_table(memory, batch, device if len(found) > 1 else ""))
    if drawing is not None:
        write_atomic(drawing, draw_network(network))
        click.echo(f"drawing: {drawing}")


@options.command(
    option("--json", "json_file", type=PATH, help="Also write JSON.", example="--json bench.json"),
    option(
        "--only",
        multiple=True,
        metavar="NAME",
        help="Only this measurement, or those like it (repeatable).",
        example="--only 'law_*'",
    ),
    option(
        "--quick",
        is_flag=True,
        help="Smaller sizes: seconds instead of minutes.",
        example="--quick",
    ),
)
def bench(json_file: Path | None, only: Sequence[str], quick: bool) -> None:
    """Measure speed, side by side in one process."""
    from neurosim import bench as measurements
    from neurosim.base import write_json

    options.own_process({})
    found = measurements.run_benchmarks(
        list(only) or None, quick, lambda text: click.echo(text, err=True)
    )
    terminal().print(measurements.table(found))
    if json_file is not None:
        write_json(json_file, measurements.to_json(found))
        click.echo(f"json: {json_file}")


def _check_files(scenario: Scenario) -> None:
    """Reads what the scenario names, its data and weights, and checks them against it."""
    from neurosim.runs import prepare

    data = scenario.data()
    if scenario.file.study is not None:
        prepare(scenario, data)
    else:
        scenario.model()


def _finish(run: Run) -> None:
    """Prints the summary of a run and where its report is; the exit status says if it ended."""
    from neurosim.runs import summary_lines

    if interrupted := run.status == "interrupted":
        ignore_at_exit()
    if leads():
        study = run.summary.get("kind") == "convergence"
        more: list[tuple[str, object]] = [("report", run.report)]
        if interrupted and not study:
            more.append(("resume with", f"neurosim resume {run.folder}"))
        for line in summary_lines(run.summary, more):
            click.echo(line)
        if interrupted and study:
            click.echo("A study is not resumed; run it anew.")
    if interrupted:
        sys.exit(options.INTERRUPTED)


for _one in (bench, check, compare, completion, converge, doctor, download, examples, figures):
    main.add_command(_one)
for _one in (networks, report, resume, run, schema, sweep, table, validate):
    main.add_command(_one)
