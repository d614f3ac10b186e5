"""dvc.yaml: each stage a verb, and dependencies such that nothing runs again for nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import cli
from pipeline.params import Params, as_dict

OWN_SWEEP = "pipeline/dvc.yaml"


@pytest.fixture(scope="module")
def stages(repository: Path) -> dict[str, dict[str, Any]]:
    """All stages, those of the matrix unresolved."""
    return {
        **yaml.safe_load((repository / "dvc.yaml").read_text())["stages"],
        **yaml.safe_load((repository / OWN_SWEEP).read_text())["stages"],
    }


def test_each_stage_is_a_verb(stages: dict[str, dict[str, Any]]) -> None:
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    for name, stage in stages.items():
        assert name in verbs
        assert re.search(rf"python cli\.py {name}\b", stage["cmd"])


def test_dependencies_exist_or_are_made_by_a_stage(
    repository: Path, stages: dict[str, dict[str, Any]], params: Params
) -> None:
    made = [re.sub(r"/\$\{.*", "", out) for stage in stages.values() for out in stage["outs"]]
    for name, stage in stages.items():
        for path in stage["deps"]:
            resolved = path.replace("${model.config}", params.model.config)
            by_stage = any(f"{resolved}/".startswith(f"{out}/") for out in made)
            assert by_stage or (repository / resolved).exists(), (name, path)


def test_parameters_of_stages_exist(stages: dict[str, dict[str, Any]], params: Params) -> None:
    for name, stage in stages.items():
        for key in stage.get("params", []):
            node: Any = as_dict(params)
            for part in key.replace(".${item.study}", "").split("."):
                assert part in node, (name, key)
                node = node[part]


def test_a_changed_evaluation_does_not_train_again(stages: dict[str, dict[str, Any]]) -> None:
    """Only what evaluates on the way does, and its key counts that only where it is asked for."""
    train = stages["train"]
    assert not any(word in path for path in train["deps"] for word in ("pipeline/eval", "report"))
    on_the_way = {"evaluate.backend", "evaluate.max_detections"}
    assert set(train["params"]) == {"dataset.masks", "model", "train", *on_the_way}


def test_recipes_count_with_what_they_stand_on(
    repository: Path, stages: dict[str, dict[str, Any]]
) -> None:
    based = repository.glob("configs/**/*.yaml")
    found = {os.path.relpath(path.parent / base, repository)
             for path in based
             if (base := yaml.safe_load(path.read_text()).get("_BASE_"))}  # fmt: skip
    assert found
    for name in ("train", "ablate", "sweep"):
        assert {*found, "${model.config}"} <= set(stages[name]["deps"]), name


def test_a_changed_study_runs_that_study_alone(stages: dict[str, dict[str, Any]]) -> None:
    assert "ablations.${item.study}" in stages["ablate"]["params"]
    assert not any(key.startswith("ablations") for key in stages["train"]["params"])
    assert stages["ablate"]["matrix"] == {"study": "${ablations}"}


def test_resumable_state_lies_outside_outputs(stages: dict[str, dict[str, Any]]) -> None:
    for stage in stages.values():
        assert all(isinstance(out, str) for out in stage["outs"])  # no `persist: true`
        assert not any(out.startswith(".runs") for out in stage["outs"])


def test_default_repro_does_not_sweep(repository: Path) -> None:
    assert "sweep" not in yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]


def test_page_of_plots_needs_no_network(repository: Path) -> None:
    page = (repository / ".dvc" / "page" / "plots.html").read_text()
    assert "{plot_divs}" in page
    assert "{scripts}" not in page  # where DVC would put links to a network of its own
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert len(page) < 1_500_000
