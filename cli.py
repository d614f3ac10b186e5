"""The command line: each verb checks its arguments, imports one stage and calls it.

Nothing heavy is imported at the top, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import warnings
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pipeline  # noqa: F401 - lets condinst.errors load without torch
from condinst.errors import UserError

INTERRUPTED = 130  # what shells report for Ctrl-C


class _Verbs(TyperGroup):
    """Prints a user's error as one message; a traceback only where it was asked for."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.secho("Interrupted.", err=True, fg="yellow")
            raise typer.Exit(INTERRUPTED) from None
        except (UserError, OSError) as error:
            if os.environ.get("CONDINST_DEBUG"):
                raise
            message = str(error) if isinstance(error, UserError) else _system_fault(error)
            typer.secho(message, err=True, fg="red")
            raise typer.Exit(1) from None


def _system_fault(error: OSError) -> str:
    place = f": {error.filename}" if error.filename else ""
    return (
        f"{error.strerror or error}{place}\n`python cli.py doctor` checks the disk and the data; "
        "`python cli.py --debug VERB` shows where it happened."
    )


def _examples(*lines: str) -> str:
    return "\n".join(["\b", "Examples:", *(f"  python cli.py {line}" for line in lines)])


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help pages take three times as long to import as all else
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Train, measure and ablate CondInst. `make repro` runs all stages in order.",
    epilog=_examples("doctor", "train", "report --open", "VERB --help"),
)
profile_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Ready experiments: list, show, use."
)
weights_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Published weights by name."
)
data_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="What the prepared dataset holds."
)
app.add_typer(
    profile_app, name="profile", epilog=_examples("profile list", "profile use coco-r101-3x")
)
app.add_typer(weights_app, name="weights", epilog=_examples("weights list"))
app.add_typer(data_app, name="data", epilog=_examples("data show"))


def _complete_study(incomplete: str) -> list[str]:
    from pipeline.params import load_params

    try:
        return [name for name in load_params().ablations if name.startswith(incomplete)]
    except UserError:
        return []


def _complete_profile(incomplete: str) -> list[str]:
    from pipeline import profiles

    return [name for name in profiles.names() if name.startswith(incomplete)]


ParamsFile = Annotated[Path, typer.Option("--params", help="The experiment's parameters.")]
PARAMS = Path("params.yaml")


@app.callback()
def main(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (or set CONDINST_DEBUG=1).")
    ] = False,
) -> None:
    """Settings for all verbs."""
    if debug:
        os.environ["CONDINST_DEBUG"] = "1"
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("DVC_NO_ANALYTICS", "1"),
    ):
        os.environ.setdefault(name, value)
    if not os.environ.get("CONDINST_DEBUG"):
        warnings.filterwarnings("ignore", message=".*pkg_resources")


def _run(stage: str, params: Path, *args: object) -> None:
    """Reads the parameters, imports one stage and runs it."""
    from pipeline.params import load_params

    loaded = load_params(params)
    importlib.import_module(f"pipeline.{stage}").run(loaded, *args)


@app.command(epilog=_examples("acquire", "acquire --params profiles/coco-mini.yaml"))
def acquire(params: ParamsFile = PARAMS) -> None:
    """Draw the sample dataset, link a folder, or download COCO, into data/raw."""
    _run("acquire", params)


@app.command(epilog=_examples("prepare"))
def prepare(params: ParamsFile = PARAMS) -> None:
    """Check the raw data and index it into data/prepared."""
    _run("prepare", params)


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=_examples(
        "train",
        "train --config-file configs/CondInst/MS_R_101_3x.yaml --num-gpus 8",
        "train --config-file configs/CondInst/MS_R_50_1x.yaml --num-gpus 1 SOLVER.IMS_PER_BATCH 2",
        "train --config-file configs/CondInst/MS_R_50_1x.yaml --eval-only MODEL.WEIGHTS model.pth",
    ),
)
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY VALUE", help="detectron2 keys, with --config-file."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option(help="A recipe: train it as both public repositories do.")
    ] = None,
    num_gpus: Annotated[int, typer.Option(min=0, help="GPUs on this machine; 0: CPU.")] = 0,
    eval_only: Annotated[bool, typer.Option("--eval-only", help="Measure MODEL.WEIGHTS.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT_DIR.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Train: by params.yaml into outputs/train, or one recipe by --config-file."""
    keys = overrides or []
    stray = [key for key in keys[::2] if key.startswith("-")]
    if stray:
        raise UserError(f"train has no option {stray[0]}. `python cli.py train --help` lists them.")
    if config_file is None:
        given = {"--num-gpus": num_gpus, "--eval-only": eval_only, "--resume": resume, "keys": keys}
        extra = [name for name, value in given.items() if value]
        if extra:
            raise UserError(
                f"{', '.join(extra)} need{'s' if len(extra) == 1 else ''} --config-file. "
                "Without it everything stands in params.yaml: train.num_gpus, model.overrides; "
                "an interrupted training of the same parameters goes on by itself."
            )
        _run("train", params)
        return
    if len(keys) % 2:
        raise UserError(f"KEY VALUE come in pairs, got {len(keys)} words: {' '.join(keys)}")
    from pipeline.train import train_from_config_file

    train_from_config_file(
        config_file, num_gpus=num_gpus, eval_only=eval_only, resume=resume, overrides=keys
    )


@app.command(epilog=_examples("evaluate"))
def evaluate(params: ParamsFile = PARAMS) -> None:
    """Run the trained model on the validation split and measure box and mask AP."""
    _run("evaluate", params)


@app.command(epilog=_examples("ablate mask_loss", "ablate coords"))
def ablate(
    study: Annotated[
        str,
        typer.Argument(
            help="A study of `ablations` in params.yaml.", autocompletion=_complete_study
        ),
    ],
    params: ParamsFile = PARAMS,
) -> None:
    """Train and evaluate every variant of one study."""
    from pipeline import schema
    from pipeline.params import load_params

    loaded = load_params(params)
    if study not in loaded.ablations:
        known = ", ".join(loaded.ablations) or "none"
        near = schema.nearest(study, loaded.ablations)
        raise UserError(f"{params} has no ablations.{study}{near}. Studies there: {known}.")
    importlib.import_module("pipeline.ablate").run(loaded, study)


@app.command(epilog=_examples("sweep", "sweep --params profiles/sample.yaml"))
def sweep(params: ParamsFile = PARAMS) -> None:
    """Search sweep.space for the best sweep.metric; leaves outputs/sweep/best.yaml."""
    _run("sweep", params)


@app.command(epilog=_examples("compare"))
def compare(params: ParamsFile = PARAMS) -> None:
    """Compare all evaluated runs by paired bootstrap."""
    _run("compare", params)


@app.command(epilog=_examples("report", "report --open"))
def report(
    params: ParamsFile = PARAMS,
    show: Annotated[
        bool, typer.Option("--open", help="Open the page that is there; write it if none is.")
    ] = False,
) -> None:
    """Write one page, readable offline: outputs/report/index.html and report.md."""
    page = Path("outputs/report/index.html")
    if not show or not page.is_file():
        _run("report", params)
    typer.echo(f"Report: {page.resolve()}")
    if show and not webbrowser.open(page.resolve().as_uri()):
        typer.echo("No browser could be started here; open that file in one.")


@app.command(
    epilog=_examples(
        "convert CondInst_MS_R_50_1x.pth ours.pth",
        "convert ours.pth theirs.pth --from condinst --to adelaidet --strip-optimizer",
    )
)
def convert(
    src: Annotated[Path, typer.Argument(help="Checkpoint to read (never executed).")],
    dst: Annotated[Path, typer.Argument(help="Checkpoint to write.")],
    source: Annotated[
        str, typer.Option("--from", help="auto, condinst, adelaidet or epiphqny.")
    ] = "auto",
    target: Annotated[
        str, typer.Option("--to", help="condinst, adelaidet or epiphqny.")
    ] = "condinst",
    strip_optimizer: Annotated[
        bool, typer.Option("--strip-optimizer", help="Leave out everything but weights.")
    ] = False,
) -> None:
    """Convert weights between this project's names and those of both public ones."""
    for name, value, allowed in (
        ("--from", source, ("auto", "condinst", "adelaidet", "epiphqny")),
        ("--to", target, ("condinst", "adelaidet", "epiphqny")),
    ):
        if value not in allowed:
            raise UserError(f"{name} is {value}, must be one of {', '.join(allowed)}.")
    from condinst.checkpoint import convert as run

    typer.echo(run(src, dst, source=source, target=target, strip_optimizer=strip_optimizer))


@weights_app.command("list", epilog=_examples("weights list"))
def weights_list() -> None:
    """List the weights that MODEL.WEIGHTS takes by name."""
    from rich.console import Console

    from condinst.checkpoint import zoo

    Console().print(zoo.table())


@app.command(epilog=_examples("doctor"))
def doctor(params: ParamsFile = PARAMS) -> None:
    """Check environment, data, parameters and disk, and say what to do."""
    from rich.console import Console
    from rich.table import Table

    from pipeline import doctor as checks

    table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}
    results = checks.examine(params)
    for result in results:
        table.add_row(marks[result.state], result.name, result.found, result.remedy)
    Console().print(table)
    bad = sum(result.state == "bad" for result in results)
    if bad:
        typer.secho(f"{bad} of {len(results)} checks failed.", err=True, fg="red")
        raise typer.Exit(1)


@app.command(epilog=_examples("dashboard", "dashboard --port 5001"))
def dashboard(
    params: ParamsFile = PARAMS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Start MLflow on this machine, with a link that compares the latest runs."""
    from pipeline import dashboard as server
    from pipeline.params import load_params

    server.serve(load_params(params), port, typer.echo)


@profile_app.command("list", epilog=_examples("profile list"))
def profile_list(params: ParamsFile = PARAMS) -> None:
    """List the ready experiments; a star marks the one in use."""
    from rich.console import Console
    from rich.table import Table

    from pipeline import profiles

    table = Table("", "profile", "what it is", box=None, pad_edge=False)
    current = profiles.current(params)
    for name in profiles.names():
        table.add_row("*" if name == current else "", name, profiles.summary(name))
    Console().print(table)
    if current is None and params.is_file():
        typer.echo(f"{params} has edits of its own; `git diff {params}` shows them.")


@profile_app.command("show", epilog=_examples("profile show coco-r101-3x"))
def profile_show(
    name: Annotated[str, typer.Argument(autocompletion=_complete_profile)],
) -> None:
    """Print one profile."""
    from pipeline import profiles

    typer.echo(profiles.text(name), nl=False)


@profile_app.command(
    "use", epilog=_examples("profile use coco-r101-3x", "profile use sample --force")
)
def profile_use(
    name: Annotated[str, typer.Argument(autocompletion=_complete_profile)],
    params: ParamsFile = PARAMS,
    force: Annotated[
        bool, typer.Option("--force", help="Replace edits too; a backup is kept.")
    ] = False,
) -> None:
    """Make a profile the experiment: copy it to params.yaml, comments and all."""
    from pipeline import profiles

    backup = profiles.use(name, params, force=force)
    if backup:
        typer.echo(f"Your edits are kept in {backup}.")
    typer.echo(f"{params} is now profile {name}. Run it: make repro")


@data_app.command("show", epilog=_examples("data show"))
def data_show() -> None:
    """Print what the prepared dataset holds."""
    from rich.console import Console

    from pipeline import prepare as stage

    Console().print(stage.summary())


if __name__ == "__main__":
    app()
