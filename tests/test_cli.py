"""The command line: help with examples, lazy imports, one clear message for each fault."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import cli
from condinst.errors import UserError
from pipeline import STAGES as MODULES

VERBS = [
    "acquire", "prepare", "train", "evaluate", "ablate", "sweep", "compare", "report", "predict",
    "analyze", "convert", "weights", "weights list", "data", "data show", "dashboard", "doctor",
    "profile", "profile list", "profile show", "profile use", "verify", "runs", "runs export",
    "runs import",
]  # fmt: skip
STAGES = ["acquire", "prepare", "train", "evaluate", "sweep", "compare", "report"]
HEAVY = ["torch", "detectron2", "mlflow", "ray", "numpy", "pandas", "dvc", "rich"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without anything, and an environment without a debug switch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONDINST_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def project(in_empty_folder: Path, repository: Path) -> Path:
    """A working folder that holds the default params.yaml."""
    text = (repository / "profiles" / "sample.yaml").read_text()
    (in_empty_folder / "params.yaml").write_text(text)
    return in_empty_folder


def put_stage(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    """Puts a module with these functions where a stage would be imported from."""
    module = types.ModuleType(MODULES[name])
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(verb: str) -> None:
    result = run(*verb.split(), "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"python cli.py {verb}" in result.output


def test_help_names_every_verb() -> None:
    listed = run("--help").output
    assert all(f"  {verb} " in listed for verb in VERBS if " " not in verb)


def test_version_is_the_newest_of_the_changelog(repository: Path) -> None:
    newest = re.search(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert run("--version").output == f"{newest[1]}\n"


def test_help_is_quick_and_imports_nothing_heavy(repository: Path) -> None:
    code = f"import sys, cli; print([name for name in {HEAVY} if name in sys.modules])"
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "[]"
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run(
            [sys.executable, "cli.py", "--help"], cwd=repository, capture_output=True, check=True
        )
        after = os.times()
        # time on the processor: what a clock says on a busy machine is no fault of ours
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(seconds) < 0.5


LIGHT = [f"pipeline.{name}.stage" for name in ("acquire", "prepare", "report", "predict")]
TORCH = [
    "pipeline.train.stage", "pipeline.evaluate.stage", "pipeline.studies.ablate",
    "pipeline.studies.sweep", "condinst.inference.predictor", "condinst.inference.visualizer",
]  # fmt: skip
NEVER = ["mlflow", "ray", "dvc", "optuna", "pandas", "matplotlib", "scipy.stats", "timm"]


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (LIGHT, [*NEVER, "torch", "detectron2", "numba"]),
        pytest.param(TORCH, NEVER, marks=pytest.mark.slow),
        (["pipeline.compare.stage"], [*NEVER, "torch", "detectron2"]),
    ],
    ids=["light stages", "stages with torch", "compare"],
)
def test_stages_import_nothing_heavy_that_not_every_call_needs(
    repository: Path, modules: list[str], unwanted: list[str]
) -> None:
    code = f"import sys, {', '.join(modules)}; print(sorted({set(unwanted)} & {{*sys.modules}}))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    asked = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"


def test_preparing_data_imports_no_torch(project: Path, repository: Path) -> None:
    path = project / "params.yaml"
    small = path.read_text().replace("train_images: 800", "train_images: 4")
    path.write_text(small.replace("val_images: 160", "val_images: 2"))
    verbs = "[cli.app([verb], standalone_mode=False) for verb in ('acquire', 'prepare')]"
    code = f"import sys, cli; {verbs}; print(sorted({{'torch', 'detectron2'}} & {{*sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", code]
    asked = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert asked.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("stage", STAGES)
def test_verb_runs_its_stage_with_the_parameters(
    project: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    seen = []
    put_stage(monkeypatch, stage, run=lambda params, *options: seen.append(params))
    result = run(stage)
    assert result.exit_code == 0, result.output
    assert [params.profile for params in seen] == ["sample"]


def test_ablate_runs_one_study(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def study(params: object, name: str, jobs: int | None, **chosen: object) -> None:
        seen.append((name, jobs, chosen))

    put_stage(monkeypatch, "ablate", run=study)
    assert run("ablate", "coords").exit_code == 0
    wanted = ["--jobs", "2", "--variant", "none", "--variant", "absolute", "--seeds", "3"]
    assert run("ablate", "coords", *wanted).exit_code == 0
    assert seen == [
        ("coords", None, {"variants": [], "seeds": None}),
        ("coords", 2, {"variants": ["none", "absolute"], "seeds": 3}),
    ]


def test_unknown_study_names_the_nearest(project: Path) -> None:
    result = run("ablate", "mask_los")
    assert result.exit_code == 1
    assert "did you mean mask_loss?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_missing_params_file(in_empty_folder: Path, stage: str) -> None:
    result = run(stage)
    assert result.exit_code == 1
    assert "params.yaml is missing" in result.stderr
    assert list(in_empty_folder.iterdir()) == []


def test_wrong_params_file_names_all_faults(project: Path) -> None:
    path = project / "other.yaml"
    path.write_text((project / "params.yaml").read_text().replace("  seed: 0\n  steps:", "  sed:"))
    result = run("train", "--params", "other.yaml")
    assert result.exit_code == 1
    assert "train.sed" in result.stderr
    assert "train.steps: is missing" in result.stderr


def test_users_error_is_one_message_and_debug_shows_the_rest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(params: object) -> None:
        raise UserError("dataset.root: no such folder")

    put_stage(monkeypatch, "acquire", run=fail)
    result = run("acquire")
    assert (result.exit_code, result.stderr) == (1, "dataset.root: no such folder\n")
    monkeypatch.setenv("CONDINST_DEBUG", "1")
    with pytest.raises(UserError):
        CliRunner().invoke(cli.app, ["acquire"], catch_exceptions=False)


def test_full_disk_is_a_message(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(params: object) -> None:
        raise OSError(28, "No space left on device", "data/raw/x.jpg")

    put_stage(monkeypatch, "acquire", run=fail)
    result = run("acquire")
    assert result.exit_code == 1
    assert "No space left on device: data/raw/x.jpg" in result.stderr
    assert "doctor" in result.stderr


def test_bugs_keep_their_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(params: object) -> None:
        raise ValueError("a bug")

    put_stage(monkeypatch, "acquire", run=fail)
    assert isinstance(run("acquire").exception, ValueError)


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (KeyboardInterrupt(), "Interrupted.\n"),
        (KeyboardInterrupt("sweep: interrupted. Kept: all"), "sweep: interrupted. Kept: all\n"),
    ],
)
def test_interrupt_is_clean(
    project: Path, monkeypatch: pytest.MonkeyPatch, stop: KeyboardInterrupt, said: str
) -> None:
    def fail(*given: object) -> None:
        raise stop

    put_stage(monkeypatch, "train", run=fail)
    result = run("train")
    assert (result.exit_code, result.stderr) == (130, said)


def test_no_job_is_no_number_of_jobs(project: Path) -> None:
    result = run("ablate", "coords", "--jobs", "0")
    assert result.exit_code == 2
    assert "--jobs" in result.stderr
    assert "greater than or equal to 1" in result.stderr


def test_train_takes_the_public_repositories_arguments(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    module = types.ModuleType("pipeline.train.config_file")
    vars(module).update(train_from_config_file=lambda *args, **more: seen.append((args, more)))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    result = run(
        "train", "--config-file", "a.yaml", "--num-gpus", "8", "--resume",
        "SOLVER.BASE_LR", "0.02", "MODEL.X", "-1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (given,) = seen
    assert given[0] == (
        Path("a.yaml"), 8, False, True, ["SOLVER.BASE_LR", "0.02", "MODEL.X", "-1"],
    )  # fmt: skip
    more = given[1]
    assert not vars(more.pop("options")).get("fast_dev_run")
    assert more == {
        "num_machines": 1, "machine_rank": 0, "dist_url": "auto", "num_processes": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--eval-only"], "--eval-only needs --config-file"),
        (["--num-gpus", "8"], "--num-gpus needs --config-file"),
        (["MODEL.X", "1"], "KEY needs --config-file"),
        (["--config-file", "a.yaml", "MODEL.X"], "come in pairs"),
        (["--config-file", "a.yaml", "--eval-onyl", "1"], "Unknown option --eval-onyl"),
    ],
)
def test_arguments_of_train_that_do_not_fit(project: Path, arguments: list[str], says: str) -> None:
    result = run("train", *arguments)
    assert result.exit_code == 1
    assert says in words(result.stderr)


def test_more_gpus_than_there_are(repository: Path, in_empty_folder: Path) -> None:
    import torch

    count = torch.cuda.device_count()
    recipe = repository / "configs" / "CondInst" / "MS_R_101_3x.yaml"
    result = run("train", "--config-file", str(recipe), "--num-gpus", str(count + 8))
    assert result.exit_code == 1
    assert f"--num-gpus {count + 8}" in result.stderr
    assert list(in_empty_folder.iterdir()) == []


def test_missing_recipe(in_empty_folder: Path) -> None:
    result = run("train", "--config-file", "no.yaml", "--num-gpus", "0")
    assert result.exit_code == 1
    assert "no.yaml" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "mmdet", "a", "b"], "'mmdet' is not one of 'auto', 'condinst'"),
        (["--to", "auto", "a", "b"], "'auto' is not one of 'condinst'"),
    ],
)
def test_convert_knows_three_kinds(arguments: list[str], says: str) -> None:
    result = run("convert", *arguments)
    assert result.exit_code == 2
    assert says in words(result.stderr)


def test_convert_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def convert(*args: object, **more: object) -> str:
        seen.append((args, more))
        return "3 tensors"

    monkeypatch.setattr("condinst.convert.convert", convert)
    arguments = ["--to", "adelaidet", "--strip-optimizer", "--config-file", "c.yaml"]
    result = run("convert", "a.pth", "b.pth", *arguments)
    assert result.output == "3 tensors\n"
    given = (Path("a.pth"), Path("b.pth"), "auto", "adelaidet", True)
    assert seen == [(given, {"config_file": Path("c.yaml")})]


def test_weights_list_names_the_published_ones() -> None:
    result = run("weights", "list")
    assert result.exit_code == 0
    assert "MS_R_101_3x" in result.output


def test_report_open_shows_the_page_that_is_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)) or True)
    page = project / "outputs" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    result = run("report", "--open")
    assert result.exit_code == 0, result.output
    assert str(page) in words(result.output)
    assert opened == [page.as_uri()]


def test_profile_list_marks_the_one_in_use(project: Path) -> None:
    output = run("profile", "list").output
    assert "*  sample" in output
    assert "coco-r101-3x" in output


def test_profile_use_keeps_edits(project: Path) -> None:
    params = project / "params.yaml"
    assert run("profile", "use", "coco-mini").exit_code == 0
    assert "profile: coco-mini" in params.read_text()
    params.write_text(params.read_text() + "# mine\n")
    result = run("profile", "use", "sample")
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert "# mine" in params.read_text()
    assert "kept in" in run("profile", "use", "sample", "--force").output


def test_unknown_profile(project: Path) -> None:
    result = run("profile", "use", "sampel")
    assert result.exit_code == 1
    assert "did you mean sample?" in result.stderr


def test_unknown_verb() -> None:
    result = run("trian")
    assert result.exit_code == 2
    assert "No such command 'trian'" in result.stderr


def test_data_show_needs_prepared_data(in_empty_folder: Path) -> None:
    result = run("data", "show")
    assert result.exit_code == 1
    assert "cli.py prepare" in result.stderr


@pytest.mark.parametrize("text", ["MODEL.X", "=3"])
def test_set_of_predict_takes_assignments(text: str) -> None:
    result = run("predict", "a.jpg", "--set", text)
    assert result.exit_code == 1
    assert "KEY=VALUE" in result.stderr
