"""The command line: each verb checks its arguments, imports one stage and calls it.

Nothing heavy is imported at the top, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    import typer
except ModuleNotFoundError:
    raise SystemExit("Not the project's Python: make setup; source .venv/bin/activate") from None
from typer.core import TyperGroup

from condinst.errors import UserError
from pipeline import STAGES, console
from pipeline.layout import RAW, REPORT
from pipeline.starting import importing

if TYPE_CHECKING:
    from pipeline.train.options import TrainOptions

INTERRUPTED = 130  # what shells report for Ctrl-C


class _Verbs(TyperGroup):
    """Prints a user error as one message; shows a traceback only on request."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            typer.secho(str(stop) or "Interrupted.", err=True, fg="yellow")
            raise typer.Exit(INTERRUPTED) from None
        except (UserError, OSError) as error:
            if os.environ.get("CONDINST_DEBUG"):
                raise
            message = str(error) if isinstance(error, UserError) else console.system_fault(error)
            typer.secho(console.shown(message), err=True, fg="red")
            if isinstance(error, UserError) and "TORCHELASTIC_RUN_ID" in os.environ:
                from pipeline import torchrun

                torchrun.end_for_good(error)
            raise typer.Exit(1) from None


def _examples(*lines: str) -> str:
    return "\n".join(["\b", "Examples:", *(f"  python cli.py {line}" for line in lines)])


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich's help pages takes three times as long as all the rest
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Train, measure and ablate CondInst. `make repro` runs all stages in order.",
    epilog=_examples("doctor", "train", "report --open", "VERB --help"),
)
profile_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Ready-made experiments: list, show, use."
)
weights_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Published weights by name."
)
data_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Look into the prepared dataset."
)
app.add_typer(
    profile_app, name="profile", epilog=_examples("profile list", "profile use coco-r101-3x")
)
runs_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Move recorded runs between stores."
)
app.add_typer(
    runs_app, name="runs", epilog=_examples("runs export runs.zip", "runs import runs.zip")
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
    from pipeline.params import profiles

    return [name for name in profiles.names() if name.startswith(incomplete)]


ParamsFile = Annotated[Path, typer.Option("--params", help="The experiment's parameters.")]
PARAMS = Path("params.yaml")


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline import project

        typer.echo(project.version())
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (or set CONDINST_DEBUG=1).")
    ] = False,
) -> None:
    """Settings for all verbs."""
    for stream in (sys.stdout, sys.stderr):  # names the terminal cannot encode must not be fatal
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if debug:
        os.environ["CONDINST_DEBUG"] = "1"
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("DVC_NO_ANALYTICS", "1"),
        # OpenMP's threads wait awake, by default so long that beside other work a training is slow
        ("GOMP_SPINCOUNT", "1000"),
    ):
        os.environ.setdefault(name, value)
    if not os.environ.get("CONDINST_DEBUG"):
        warnings.filterwarnings("ignore", message=".*pkg_resources")
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)


def _stage(name: str) -> Any:
    with importing():
        return importlib.import_module(STAGES[name])


def _run(stage: str, params: Path, *args: object) -> None:
    """Reads the parameters, imports one stage and runs it."""
    from pipeline import runs
    from pipeline.params import load_params

    loaded = load_params(params)
    with runs.in_turn(stage):
        _stage(stage).run(loaded, *args)


def _add_stage(stage: str, text: str) -> None:
    def verb(params: ParamsFile = PARAMS) -> None:
        _run(stage, params)

    other = f"{stage} --params profiles/coco-mini.yaml"
    app.command(stage, help=text, epilog=_examples(stage, other))(verb)


@app.command(
    epilog=_examples("acquire", "acquire --params profiles/coco-mini.yaml", "acquire --check")
)
def acquire(
    params: ParamsFile = PARAMS,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether linked files have changed.")
    ] = False,
) -> None:
    """Draw, link or download the dataset into data/raw."""
    if not check:
        _run("acquire", params)
        return
    from pipeline.acquire.changes import check as check_files

    typer.echo(check_files(RAW))


_add_stage("prepare", "Check the raw data and index it into data/prepared.")


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=_examples(
        "train",
        "train --config-file configs/CondInst/MS_R_101_3x.yaml --num-gpus 8",
        "train --config-file configs/CondInst/MS_R_50_1x.yaml --num-gpus 1 SOLVER.IMS_PER_BATCH 2",
        "train --config-file configs/CondInst/MS_R_50_1x.yaml --eval-only MODEL.WEIGHTS model.pth",
        "train --max-time 8h",
        "train --fast-dev-run",
    ),
)
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY VALUE", help="detectron2 keys, with --config-file."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option(help="Train this recipe, as both public repositories do.")
    ] = None,
    num_gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs on this machine; 0: CPU.", show_default="1 or 0")
    ] = None,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Only evaluate MODEL.WEIGHTS.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from OUTPUT_DIR.")] = False,
    num_processes: Annotated[
        int | None, typer.Option(min=1, help="Processes on a CPU.", show_default="1")
    ] = None,
    max_time: Annotated[
        str, typer.Option(help="Stop after 30m, 8h, 1:30:00; the same command resumes.")
    ] = "",
    skip_preflight: Annotated[
        bool, typer.Option("--skip-preflight", help="Train even if the preflight check refuses.")
    ] = False,
    overfit: Annotated[int, typer.Option(min=0, help="Debug: train on this many images.")] = 0,
    fast_dev_run: Annotated[
        bool, typer.Option("--fast-dev-run", help="Debug: run everything once, in 3 steps.")
    ] = False,
    detect_anomaly: Annotated[
        bool,
        typer.Option("--detect-anomaly", help="Debug: find the operation behind the first NaN."),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Debug: trace 4 steps, to view in a browser.")
    ] = False,
    num_machines: Annotated[int, typer.Option(min=1, help="How many run this command.")] = 1,
    machine_rank: Annotated[int, typer.Option(min=0, help="Rank of this machine.")] = 0,
    dist_url: Annotated[str, typer.Option(help="Where machines meet: tcp://HOST:PORT.")] = "auto",
    params: ParamsFile = PARAMS,
) -> None:
    """Train the experiment in params.yaml, or a recipe with --config-file."""
    from pipeline.train.options import TrainOptions, seconds_of

    keys = console.key_values(overrides)
    options = TrainOptions(
        max_seconds=seconds_of(max_time) if max_time else 0.0,
        skip_preflight=skip_preflight,
        overfit=overfit,
        fast_dev_run=fast_dev_run,
        detect_anomaly=detect_anomaly,
        profile=profile,
    )
    if config_file is None:
        given = {"--num-gpus": num_gpus, "--eval-only": eval_only, "--resume": resume, "KEY": keys}
        extra = [name for name, value in given.items() if value]
        if extra:
            raise UserError(
                f"{', '.join(extra)} need{'s' if len(extra) == 1 else ''} --config-file. "
                "Without it, set train.num_gpus and model.overrides in params.yaml; "
                "an interrupted training with the same parameters resumes by itself."
            )
        _run_train(params, options, num_processes)
        return
    with importing():
        import torch

        from pipeline.train.config_file import train_from_config_file

    if num_gpus is None:
        num_gpus = min(torch.cuda.device_count(), 1)
    train_from_config_file(
        config_file,
        num_gpus,
        eval_only,
        resume,
        keys,
        num_machines=num_machines,
        machine_rank=machine_rank,
        dist_url=dist_url,
        num_processes=num_processes or 1,
        options=options,
    )


def _run_train(params: Path, options: TrainOptions, num_processes: int | None) -> None:
    from pipeline.params import load_params, override

    loaded = load_params(params)
    if num_processes is not None:
        loaded = override(loaded, {"train.num_processes": num_processes})
    _stage("train").run(loaded, options)


@app.command(epilog=_examples("replay .runs/HASH/nonfinite/step_0000012_rank0.pth"))
def replay(
    dump: Annotated[Path, typer.Argument(help="Dump that a non-finite loss left.")],
    detect_anomaly: Annotated[
        bool, typer.Option("--detect-anomaly", help="Name the operation that produced the NaN.")
    ] = False,
) -> None:
    """Repeat the step that stopped a training: same batch, weights and random numbers."""
    from pipeline.train.replay import run

    run(dump, detect_anomaly)


_add_stage("evaluate", "Measure box, mask and boundary AP of the trained model.")


@app.command(
    epilog=_examples(
        "ablate mask_loss",
        "ablate coords --seeds 3 --jobs 2",
        "ablate stride --params profiles/sample-studies.yaml --dry-run",
    )
)
def ablate(
    study: Annotated[
        str,
        typer.Argument(
            help="A study of `ablations` in params.yaml.", autocompletion=_complete_study
        ),
    ],
    params: ParamsFile = PARAMS,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Run only this one; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="Number of seeds.", show_default="the study's"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, help="Trainings at a time.", show_default="all that fit"
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only print what would run, its time and its disk space.",
        ),
    ] = False,
) -> None:
    """Train and evaluate every variant of one study."""
    from pipeline.params import load_params, schema

    loaded = load_params(params)
    if study not in loaded.ablations:
        known = ", ".join(loaded.ablations) or "none"
        near = schema.nearest(study, loaded.ablations)
        raise UserError(f"{params} has no ablations.{study}{near}. Its studies: {known}.")
    chosen = variant or []
    if dry_run:
        with importing():
            from pipeline.studies import estimate

        typer.echo(estimate.describe(estimate.costs(loaded, study, chosen, seeds), loaded, jobs))
        return
    _stage("ablate").run(loaded, study, jobs, variants=chosen, seeds=seeds)


_add_stage(
    "sweep",
    "Search sweep.space for the best sweep.metric.\n\n"
    "Writes the best parameters to outputs/sweep/best.yaml, a ready-made profile.",
)


@app.command(
    epilog=_examples(
        "compare",
        "compare outputs/evaluate outputs/ablate/coords/none/seed0",
        "compare main exp-higher-lr --output outputs/compare-lr",
    )
)
def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Folders of evaluations, DVC revisions or MLflow run ids; the first is the "
            "baseline. Without any: every study's variants against its baseline.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="With RUNs: folder for JSON, Markdown, LaTeX and CSV.")
    ] = None,
    primary: Annotated[
        str, typer.Option(help="With RUNs: the metric that the verdicts are about.")
    ] = "segm/AP",
    params: ParamsFile = PARAMS,
) -> None:
    """Compare evaluated runs by paired bootstrap: better, worse, the same, or not told apart."""
    if not runs:
        if output is not None:
            raise UserError("--output needs RUNs; without them the output is outputs/compare.")
        _run("compare", params)
        return
    from pipeline.compare.stage import compare_runs
    from pipeline.params import load_params

    compare_runs(runs, rules=load_params(params).compare, primary=primary, output=output)


@app.command(epilog=_examples("verify outputs/report", "verify outputs/evaluate"))
def verify(
    report: Annotated[
        Path, typer.Argument(help="A report, an evaluation, a study, or outputs/compare.")
    ] = REPORT,
) -> None:
    """Recompute the tables from stored detections and say whether they match."""
    from pipeline.compare import verify as checks

    found = checks.verify(report)
    typer.echo(checks.describe(found))
    wrong = sum(bool(check.wrong) for check in found)
    if wrong:
        raise UserError(f"{wrong} of {len(found)} tables do not hold.")


@app.command(epilog=_examples("report", "report --open"))
def report(
    params: ParamsFile = PARAMS,
    show: Annotated[
        bool, typer.Option("--open", help="Open the page; write it first if there is none.")
    ] = False,
) -> None:
    """Write the report: one page on everything, readable offline.

    The page is outputs/report/index.html; report.md beside it has the same content.
    """
    page = REPORT / "index.html"
    if not show or not page.is_file():
        _run("report", params)
    typer.echo(f"Report: {page.resolve()}")
    if show and not webbrowser.open(page.resolve().as_uri()):
        typer.echo("No browser could be started here; open the file in one yourself.")


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
        Literal["auto", "condinst", "adelaidet", "epiphqny"], typer.Option("--from")
    ] = "auto",
    target: Annotated[
        Literal["condinst", "adelaidet", "epiphqny"], typer.Option("--to")
    ] = "condinst",
    strip_optimizer: Annotated[
        bool, typer.Option("--strip-optimizer", help="Keep only the weights.")
    ] = False,
    config_file: Annotated[
        Path | None,
        typer.Option(help="Recipe of the weights, if shapes do not tell the mask head's size."),
    ] = None,
) -> None:
    """Convert weights to and from both public projects."""
    from condinst.convert import convert as run

    typer.echo(run(src, dst, source, target, strip_optimizer, config_file=config_file))


@app.command(
    epilog=_examples(
        "predict photo.jpg",
        "predict --config-file configs/CondInst/MS_R_50_1x.yaml --weights model.pth photos/",
        "predict 'photos/*.jpg' film.mp4 --score 0.3 --masks",
    )
)
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders, globs, videos.")],
    config_file: Annotated[
        Path | None, typer.Option(help="Recipe of the weights.", show_default="last training's")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="File, URL or name.", show_default="last training's")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("outputs/predict"),
    score: Annotated[float, typer.Option(help="Leave out instances that score lower.")] = 0.5,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 4,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or fp16 on a GPU.")] = "fp32",
    overlays: Annotated[bool, typer.Option(help="Write images with the instances drawn.")] = True,
    json: Annotated[bool, typer.Option(help="Write predictions.json in COCO's format.")] = True,
    masks: Annotated[bool, typer.Option(help="Write one PNG per instance.")] = False,
    opts: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the recipe; repeatable.")
    ] = None,
) -> None:
    """Find instances in images and videos."""
    from pipeline.predict.stage import run_predict

    run_predict(
        config_file,
        weights,
        inputs,
        output,
        score_threshold=score,
        batch_size=batch_size,
        precision=precision,
        save_overlays=overlays,
        save_json=json,
        save_masks=masks,
        overrides=console.assignments(opts),
    )


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=_examples("analyze", "analyze --config-file configs/CondInst/MS_R_50_1x.yaml --depth 3"),
)
def analyze(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY VALUE", help="Keys of the recipe.")
    ] = None,
    config_file: Annotated[Path, typer.Option(help="The recipe.")] = Path(
        "outputs/train/config.yaml"
    ),
    height: Annotated[int, typer.Option(help="Height of the input.")] = 800,
    width: Annotated[int, typer.Option(help="Width of the input.")] = 1216,
    weights: Annotated[str | None, typer.Option(help="Weights to load first.")] = None,
    depth: Annotated[int, typer.Option(help="Levels of modules to show.")] = 2,
    repeats: Annotated[int, typer.Option(help="Number of timed runs.")] = 3,
    output: Annotated[Path | None, typer.Option(help="JSON file to write as well.")] = None,
) -> None:
    """Count parameters and FLOPs per module, and time them."""
    keys = console.key_values(overrides)
    from pipeline.analyze import run_analyze

    run_analyze(
        config_file,
        height=height,
        width=width,
        weights=weights,
        depth=depth,
        repeats=repeats,
        output=output,
        overrides=keys,
    )


@weights_app.command("list", epilog=_examples("weights list"))
def weights_list() -> None:
    """List the weights that MODEL.WEIGHTS takes by name."""
    header = ("MODEL.WEIGHTS", "box AP", "mask AP", "file")
    console.print_table(header, console.weights_rows())


@app.command(epilog=_examples("doctor", "doctor --tune"))
def doctor(
    params: ParamsFile = PARAMS,
    tune: Annotated[
        bool, typer.Option("--tune", help="Instead show what was found fastest on this machine.")
    ] = False,
    retune: Annotated[bool, typer.Option("--retune", help="The same, measured again.")] = False,
) -> None:
    """Check environment, data and disk, and say what to fix."""
    from rich.text import Text

    from pipeline import doctor as checks

    if tune or retune:
        console.print_table(
            ("recipe", "threads", "memory format", "a step", "measured"),
            checks.decisions(params, again=retune),
        )
        return
    with console.terminal(stderr=True).status("Checking, which takes about 15 s"):
        results = checks.examine(params)
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    console.print_table(
        ("", "check", "found", "what to do"),
        [(Text(r.state, colours[r.state]), r.name, r.found, r.remedy) for r in results],
    )
    bad = sum(result.state == "bad" for result in results)
    if bad:
        raise UserError(f"{bad} of {len(results)} checks failed.")


@app.command(epilog=_examples("dashboard", "dashboard --port 5001"))
def dashboard(
    params: ParamsFile = PARAMS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Start MLflow here, with a link that compares runs."""
    from pipeline.params import load_params
    from pipeline.tracking import dashboard as server

    server.serve(load_params(params), port, typer.echo)


@profile_app.command("list", epilog=_examples("profile list"))
def profile_list(params: ParamsFile = PARAMS) -> None:
    """List the ready-made experiments; a star marks the one in use."""
    from pipeline.params import profiles

    current = profiles.current(params)
    rows = [("*" if n == current else "", n, profiles.summary(n)) for n in profiles.names()]
    console.print_table(("", "profile", "what it is"), rows)
    if current is None and params.is_file():
        typer.echo(f"{params} has been edited; `git diff {params}` shows the changes.")


@profile_app.command("show", epilog=_examples("profile show coco-r101-3x"))
def profile_show(
    name: Annotated[str, typer.Argument(autocompletion=_complete_profile)],
) -> None:
    """Print one profile."""
    from pipeline.params import profiles

    typer.echo(profiles.text(name), nl=False)


@profile_app.command(
    "use", epilog=_examples("profile use coco-r101-3x", "profile use sample --force")
)
def profile_use(
    name: Annotated[str, typer.Argument(autocompletion=_complete_profile)],
    params: ParamsFile = PARAMS,
    force: Annotated[
        bool, typer.Option("--force", help="Replace edits as well; a backup is kept.")
    ] = False,
) -> None:
    """Copy a profile to params.yaml as the experiment."""
    from pipeline.params import profiles

    backup = profiles.use(name, params, force=force)
    if backup:
        typer.echo(f"Your edits are kept in {backup}.")
    typer.echo(f"{params} is now profile {name}. Run it: make repro")


@runs_app.command("export", epilog=_examples("runs export runs.zip", "runs export one.zip 1f2e..."))
def runs_export(
    archive: Annotated[Path, typer.Argument(help="Zip file to write.")],
    run_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN_ID", help="Runs, with nested ones; none: all."),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write runs with parameters, metrics and files to one archive."""
    from pipeline.params import load_params
    from pipeline.tracking import archive as run_archive

    number = run_archive.export_runs(load_params(params).tracking, archive, run_ids or [])
    typer.echo(f"{number} runs written to {archive}")


@runs_app.command("import", epilog=_examples("runs import runs.zip"))
def runs_import(
    archive: Annotated[Path, typer.Argument(help="What `runs export` wrote.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Add an archive's runs to the store, except those already there."""
    from pipeline.params import load_params
    from pipeline.tracking import archive as run_archive

    added, there = run_archive.import_runs(load_params(params).tracking, archive)
    typer.echo(f"{added} runs added, {there} already there")


@data_app.command("show", epilog=_examples("data show", "data show --images 60 --seed 3"))
def data_show(
    images: Annotated[int, typer.Option(min=0, help="Images per sheet; 0: no sheets.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed that chooses them.")] = 0,
) -> None:
    """Print a summary of the prepared dataset; draw sheets of its images with masks."""
    from pipeline.prepare import stage as prepare

    console.terminal().print(prepare.summary())
    if images:
        from pipeline.prepare import show

        for path in show.write_sheets(images, seed):
            typer.echo(f"Sheet: {path}")


if __name__ == "__main__":
    app()
