"""What an edit makes do again: the keys of results, and DVC's stages."""

from __future__ import annotations

import ast
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import STAGES, dependencies
from pipeline.identity import measuring_code, training_code

TRAININGS = ("train", "ablate", "sweep")
MEASURED = ("evaluate", "ablate", "sweep")


@dataclasses.dataclass(frozen=True)
class Edit:
    """A change of one file, and what it must make do again.

    Attributes:
        name: for people; a row of docs/architecture.md.
        file: that is changed.
        stages: that DVC runs again.
        trains: whether trainings have another key.
        measures: whether evaluations have another key.
        how: ``code``, ``comment``, ``docstring`` or ``format``.
    """

    name: str
    file: str
    stages: tuple[str, ...]
    trains: bool = False
    measures: bool = False
    how: str = "code"


ALL = (*TRAININGS, "evaluate")
EDITS = [
    Edit("table of a checkpoint's keys", "condinst/checkpoint/head_order.py", ALL, True, True),
    Edit("loss", "condinst/modeling/fcos/losses.py", ALL, True, True),
    Edit("mapper", "condinst/data/mapper.py", ALL, True, True),
    Edit("augmentation", "condinst/data/augmentation.py", ALL, True, True),
    Edit("training step", "condinst/engine/trainer.py", TRAININGS, True),
    Edit("inference copy", "condinst/inference/inference_copy.py", MEASURED, measures=True),
    Edit("evaluator's matching", "condinst/evaluation/matching.py", (*ALL, "compare"),
         measures=True),
    Edit("evaluator of COCO's numbers", "condinst/evaluation/coco.py", ALL, measures=True),
    Edit("contact sheet", "condinst/inference/contact_sheet.py", ("prepare",)),
    Edit("check of annotations", "condinst/annotations/screening.py", ("prepare",)),
    Edit("recipe from params.yaml", "pipeline/recipe.py", ALL, measures=True),
    Edit("report's template", "pipeline/report/templates/index.html.j2", ("report",)),
    Edit("rule of params.yaml", "pipeline/params/rules.py", ()),
    Edit("tracking", "pipeline/tracking/run.py", ()),
    Edit("text of the command line", "cli.py", ()),
    Edit("comment in the loss", "condinst/modeling/fcos/losses.py", ALL, how="comment"),
    Edit("docstring of the mapper", "condinst/data/mapper.py", ALL, how="docstring"),
    Edit("formatting of the trainer", "condinst/engine/trainer.py", TRAININGS, how="format"),
]  # fmt: skip
each_edit = pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])


def edited(text: str, how: str) -> str:
    if how == "comment":
        return f"{text}# edited\n"
    if how == "docstring":
        return text.replace('"""', '"""Edited. ', 1)
    if how == "format":
        return ast.unparse(ast.parse(text)) + "\n"
    return f"{text}\nEDITED = True\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The project's sources in a folder of their own."""
    root = tmp_path_factory.mktemp("project")
    for name in ("condinst", "pipeline", "configs"):
        shutil.copytree(repository / name, root / name, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("cli.py", "dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(repository / name, root / name)
    return root


@pytest.fixture
def changed(copy: Path, edit: Edit) -> Iterator[Path]:
    """The copy with an edit, for one test."""
    path = copy / edit.file
    before = path.read_text()
    path.write_text(edited(before, edit.how))
    assert path.read_text() != before
    yield copy
    path.write_text(before)


def deps(root: Path) -> dict[str, list[str]]:
    """Stage -> its dependencies, of both files."""
    return {
        name: stage["deps"]
        for file in dependencies.FILES
        for name, stage in yaml.safe_load((root / file).read_text())["stages"].items()
    }


@pytest.mark.slow
@each_edit
def test_an_edit_does_again_what_it_decides(changed: Path, edit: Edit, repository: Path) -> None:
    again = {
        stage
        for stage, paths in deps(changed).items()
        if any(f"{edit.file}/".startswith(f"{path}/") for path in paths)
    }
    assert again == set(edit.stages)
    assert (training_code(root=changed) != training_code(root=repository)) == edit.trains
    assert (measuring_code(changed) != measuring_code(repository)) == edit.measures
    measures = edit.trains or edit.file.startswith("condinst/evaluation/")
    now, before = (training_code(measures=True, root=one) for one in (changed, repository))
    assert (now != before) == measures


@pytest.mark.parametrize("stage", STAGES)
def test_stages_depend_on_the_code_that_they_import(stage: str, repository: Path) -> None:
    listed = [path for path in deps(repository)[stage] if dependencies.is_code(path)]
    assert listed == dependencies.code_deps(stage), "`python -m pipeline.dependencies` mends it"


def test_dependencies_are_written_in_their_place(repository: Path) -> None:
    for name in dependencies.FILES:
        text = (repository / name).read_text()
        assert dependencies.rewritten(text) == text
    wrong = (repository / "dvc.yaml").read_text().replace("      - condinst/engine\n", "")
    assert dependencies.rewritten(wrong) == (repository / "dvc.yaml").read_text()


def test_what_lies_aside_is_there(repository: Path) -> None:
    for name in dependencies.ASIDE:
        assert (repository / f"{name.replace('.', '/')}.py").is_file()


def test_the_table_of_edits_is_in_the_docs(repository: Path) -> None:
    text = (repository / "docs/architecture.md").read_text()
    for edit in EDITS:
        keys = ["training"] * edit.trains + ["evaluation"] * edit.measures
        stages = ", ".join(sorted(edit.stages)) or "none"
        row = f"| {edit.name} | {' and '.join(keys) or 'nothing'} | {stages} |"
        assert row in text, row


@pytest.mark.slow
def test_dvc_agrees(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc status` names the stages of the table, for every edit."""
    from dvc.repo import Repo

    monkeypatch.chdir(copy)
    repo = Repo.init(no_scm=True)
    made = {
        out: stage
        for file in dependencies.FILES
        for stage, content in yaml.safe_load(Path(file).read_text())["stages"].items()
        for out in content["outs"]
    }
    for out in made:
        studies = ("mask_loss", "coords") if "${" in out else ("",)
        for study in studies:
            folder = Path(out.replace("${item.study}", study))
            for inner in ("dataset.json/x", "train/x", "val/x", "config.yaml/x", "model.pth/x"):
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                (folder / inner).write_text(f"{folder}/{inner}")
    for target in ("dvc.yaml", "pipeline/dvc.yaml"):
        repo.commit(target, force=True)
    assert repo.status() == {}
    for edit in EDITS:
        path = copy / edit.file
        before = path.read_text()
        path.write_text(edited(before, edit.how))
        found = {name.rpartition(":")[2].partition("@")[0] for name in Repo(".").status()}
        path.write_text(before)
        assert found == set(edit.stages), edit.name
