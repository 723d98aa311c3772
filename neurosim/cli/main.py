"""The command line. Imports what a command needs when it runs, so that help is instant."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from neurosim._version import __version__
from neurosim.base import DivergenceError, DocumentError, NeurosimError
from neurosim.cli import options
from neurosim.cli.check import check
from neurosim.cli.sweeps import sweep, table


class _Group(click.Group):
    """Turns the program's own errors into one message, without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except DivergenceError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except NeurosimError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("stopped at once", err=True)
            sys.exit(options.INTERRUPTED)
        except OSError as error:
            click.echo(f"error: {error.filename or ''}: {error.strerror or error}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurosim")
def main() -> None:
    """Simulate asynchronous networks of dyadic neurons.

    \b
    neurosim run scenarios/random_order.yaml
    neurosim run scenarios/random_order.yaml training.epochs=3 seed=1
    """


@main.command()
@options.FILE
@options.OVERRIDES
@options.OUT
@options.RUN_ID
@options.DEVICE
@options.PLUGIN
@options.QUIET
def run(
    file: Path,
    overrides: Sequence[str],
    out: Path,
    run_id: str | None,
    device: str | None,
    quiet: bool,
) -> None:
    """Run the scenario FILE; KEY=VALUE overrides single values (training.epochs=3)."""
    from neurosim.runs import run as runner
    from neurosim.scenario import Scenario

    scenario = Scenario.load(file, options.with_device(overrides, device))
    _finish(runner.run(scenario, out, options.console(quiet), run_id))


@main.command()
@options.FILE
@options.OVERRIDES
@click.option(
    "--weights",
    type=options.PATH,
    help="Weights, such as a run's checkpoints/model.safetensors (default: the initial ones).",
)
@options.OUT
@options.RUN_ID
@options.DEVICE
@options.PLUGIN
@options.QUIET
def converge(
    file: Path,
    overrides: Sequence[str],
    weights: Path | None,
    out: Path,
    run_id: str | None,
    device: str | None,
    quiet: bool,
) -> None:
    """Measure how one inference of the scenario FILE converges; KEY=VALUE overrides values.

    Does the scenario's study (study.samples=20), or the default one where it has none.
    """
    import json

    from neurosim import documents
    from neurosim.runs import run as runner
    from neurosim.scenario import Scenario, overridden

    document = overridden(documents.load(file), options.with_device(overrides, device))
    study = document.value.get("study") if isinstance(document.value, dict) else {}
    more = []
    if study is None or (isinstance(study, dict) and "kind" not in study):
        more.append("study.kind=convergence")
    if weights is not None:
        more.append(f"study.weights={json.dumps(str(weights))}")
    scenario = Scenario.of(overridden(document, more))
    _finish(runner.run(scenario, out, options.console(quiet), run_id))


@main.command()
@click.argument("folder", type=options.PATH)
@options.PLUGIN
@options.QUIET
def resume(folder: Path, quiet: bool) -> None:
    """Continue the interrupted run in FOLDER."""
    from neurosim.runs import run as runner

    _finish(runner.resume(folder, options.console(quiet)))


main.add_command(check)
main.add_command(sweep)
main.add_command(table)


@main.command()
@options.FILE
@options.OVERRIDES
@options.PLUGIN
def validate(file: Path, overrides: Sequence[str]) -> None:
    """Check the scenario FILE and its data without running it."""
    from neurosim.runs import prepare
    from neurosim.scenario import Scenario

    scenario = Scenario.load(file, overrides)
    data = scenario.data()
    if scenario.file.study is not None:
        prepare(scenario, data)
    network = scenario.network
    click.echo(
        f"{file}: valid; {len(network.populations)} populations, {network.dyads:,} dyads, "
        f"schedule {scenario.file.schedule.kind}"
    )


@main.command()
@click.argument("name")
@click.option(
    "--root",
    type=options.PATH,
    default=Path("data"),
    show_default=True,
    help="Folder for it, to be named as data.root.",
)
@options.QUIET
def download(name: str, root: Path, quiet: bool) -> None:
    """Download the data set NAME: mnist, cifar10 or cifar100.

    What is there already stays as it is. Needs the extra data: pip install 'neurosim[data]'.
    """
    import json

    from rich.filesize import decimal

    from neurosim.data import downloads
    from neurosim.runs import DownloadDisplay

    source = downloads.find(name)
    with DownloadDisplay(options.console(quiet)) as display:
        fetched = downloads.fetch(source, root, display.received)
    data, size = fetched.data, sum(remote.size for remote in fetched.downloaded)
    click.echo(f"images         {len(data.train):,} for training, {len(data.test):,} for the test")
    click.echo(f"downloaded     {decimal(size) if size else 'nothing: it is there'}")
    where = json.dumps(str(root.absolute()), ensure_ascii=False)
    click.echo(f"in a scenario  data: {{name: {name}, root: {where}}}")


@main.command()
@click.option("--network", is_flag=True, help="The schema of network files instead.")
@options.PLUGIN
def schema(network: bool) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    import json

    if network:
        from pydantic import TypeAdapter

        from neurosim.network import file_models

        chain, graph = file_models()
        form: Any = chain | graph
        found = TypeAdapter[Any](form).json_schema()
    else:
        from neurosim.families import model_of
        from neurosim.scenario import ScenarioFile

        found = model_of(ScenarioFile).model_json_schema()
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found
    click.echo(json.dumps(found, indent=2))


@main.command()
@options.FILE
@click.option("--drawing", type=options.PATH, help="Write a drawing of the network (SVG).")
@click.option("--batch", type=click.IntRange(1), help="Also the memory for so many samples.")
@options.PLUGIN
def networks(file: Path, drawing: Path | None, batch: int | None) -> None:
    """Show the network FILE (or the network of a scenario): populations, parameters, dyads.

    With --batch also the bytes that inferences need, and learning with Adam (for a scenario: with
    its own schedule, channels and optimizer).
    """
    from rich.console import Console

    from neurosim import documents
    from neurosim.base import write_atomic
    from neurosim.cli.networks import memory_table, network_table
    from neurosim.learning import estimate
    from neurosim.network import Model, Network
    from neurosim.reports import draw_network
    from neurosim.scenario import Scenario
    from neurosim.schedules import Parallel
    from neurosim.simulation import Init, Simulation

    document = documents.load(file)
    described = isinstance(document.value, dict) and "network" in document.value
    scenario = Scenario.of(document) if described else None
    network = Network.from_document(document) if scenario is None else scenario.network
    Console().print(network_table(network))
    if batch is not None:
        if scenario is None:
            model = Model(network, device="meta")
            init: Init = "zero" if network.cycle else "feedforward"
            plain = Simulation(model, schedule=Parallel(), nudge_after=0, init=init, device="meta")
            memory = estimate(plain, batch, "adam")
        else:
            memory = scenario.memory(batch)
        Console().print(memory_table(memory, batch))
    if drawing is not None:
        write_atomic(drawing, draw_network(network))
        click.echo(f"drawing: {drawing}")


@main.command()
@click.argument("folder", type=options.PATH)
@options.PLUGIN
@click.option(
    "--figures", type=options.FOLDER, help="Write every picture of it to this folder (SVG)."
)
def report(folder: Path, figures: Path | None) -> None:
    """Write the report of the run, or of the sweep, in FOLDER anew."""
    from neurosim.base import write_atomic
    from neurosim.reports import report_of
    from neurosim.scenario import Scenario

    try:
        network = Scenario.load(folder / "scenario.yaml").network
    except DocumentError:
        network = None  # the report does without, and says what it lacks
    found = report_of(folder, network)
    click.echo(f"report: {found.write(folder)}")
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for picture in found.pictures():
            write_atomic(figures / f"{picture.name}.svg", picture.svg)
            click.echo(f"figure: {figures / picture.name}.svg")


@main.command()
@click.option("--json", "json_file", type=options.PATH, help="Also write JSON.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Only this measurement, or those like law_* (repeatable).",
)
@click.option("--quick", is_flag=True, help="Smaller sizes: seconds instead of minutes.")
def bench(json_file: Path | None, only: Sequence[str], quick: bool) -> None:
    """Measure speed, side by side in one process."""
    from rich.console import Console

    from neurosim import bench as measurements
    from neurosim.base import write_json
    from neurosim.tensors import keep_memory

    keep_memory()
    progress: Callable[[str], None] = lambda text: click.echo(text, err=True)  # noqa: E731
    found = measurements.run_benchmarks(list(only) or None, quick, progress)
    Console().print(measurements.table(found))
    if json_file is not None:
        write_json(json_file, measurements.to_json(found))
        click.echo(f"json: {json_file}")


def _finish(folder: Path) -> None:
    """Prints the summary of a run and where its report is; the exit status says if it ended."""
    import json

    from neurosim.runs import summary_lines

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for line in summary_lines(summary):
        click.echo(line)
    click.echo(f"report         {folder / 'report.html'}")
    if summary["status"] == "interrupted":
        if summary.get("kind") == "convergence":
            click.echo("A study is not resumed; run it anew.")
        else:
            click.echo(f"resume with    neurosim resume {folder}")
        sys.exit(options.INTERRUPTED)
