"""Profiles: all of them valid, and none replaces edits that nobody asked to lose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from condinst.errors import UserError
from pipeline.params import load_params, profiles

NAMES = [
    "sample",
    "coco-mini",
    "coco-r101-3x",
    "coco-r50-1x",
    "coco-r50-1x-studies",
    "custom",
    "sample-studies",
]


def test_default_comes_first() -> None:
    assert profiles.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_valid_bears_its_name_and_finds_its_recipe(repository: Path, name: str) -> None:
    params = load_params(profiles.FOLDER / f"{name}.yaml")
    assert params.profile == name
    assert (repository / params.model.config).is_file()
    assert profiles.summary(name)


def test_default_params_are_the_sample_profile(repository: Path) -> None:
    assert (repository / "params.yaml").read_text() == profiles.text("sample")


@pytest.mark.parametrize("name", NAMES)
def test_all_that_decides_is_written_out(name: str) -> None:
    """DVC looks at the file alone: a default in the code would change without its knowing."""
    content = yaml.safe_load(profiles.text(name))
    params = load_params(profiles.FOLDER / f"{name}.yaml")
    for section in ("prepare", "model", "train", "evaluate", "compare", "report", "sweep"):
        fields = {field.name for field in dataclasses.fields(getattr(params, section))}
        assert fields - {"skip_preflight"} == set(content[section]), section


@pytest.mark.parametrize("base", ["sample", "coco-r50-1x"])
def test_studies_differ_from_their_base_in_the_studies_alone(base: str) -> None:
    usual = load_params(profiles.FOLDER / f"{base}.yaml")
    studies = load_params(profiles.FOLDER / f"{base}-studies.yaml")
    kept = {"profile": usual.profile, "ablations": usual.ablations}
    assert dataclasses.replace(studies, **kept) == usual
    assert len(studies.ablations) == 14
    assert all(study.seeds == (0, 1, 2) for study in studies.ablations.values())


@pytest.mark.slow
@pytest.mark.parametrize("base", ["sample", "coco-r50-1x"])
def test_every_variant_of_the_ready_studies_is_a_model(
    base: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from detectron2.modeling import build_model

    from pipeline.recipe import PreparedData, resolve
    from pipeline.studies.study import plan

    monkeypatch.chdir(repository)
    params = load_params(profiles.FOLDER / f"{base}-studies.yaml")
    data = PreparedData(Path(), "six", "0", tuple("abcdef"))
    for name, section in params.ablations.items():
        single = dataclasses.replace(section, seeds=(0,))
        studies = {**params.ablations, name: single}
        trials = plan(dataclasses.replace(params, ablations=studies), name, data)
        assert len({trial.key for trial in trials}) == len(section.variants)  # none equal
        for trial in trials if base == "sample" else ():
            cfg = resolve(trial.params, data).cfg
            cfg.MODEL.DEVICE = "meta"
            with torch.device("meta"):
                build_model(cfg)


def test_use_copies_comments_and_all(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    assert profiles.use("sample", params) is None
    assert profiles.use("coco-r101-3x", params) is None
    assert params.read_text() == profiles.text("coco-r101-3x")
    assert profiles.current(params) == "coco-r101-3x"
    assert list(tmp_path.iterdir()) == [params]


def test_edits_are_not_lost_unasked(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    edited = profiles.text("sample") + "# mine\n"
    params.write_text(edited)
    assert profiles.current(params) is None
    with pytest.raises(UserError, match="--force"):
        profiles.use("custom", params)
    assert params.read_text() == edited

    backup = profiles.use("custom", params, force=True)
    assert backup is not None
    assert backup.read_text() == edited
    assert params.read_text() == profiles.text("custom")


def test_a_second_backup_does_not_replace_the_first(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    backups = set()
    for edit in ("a: 1", "a: 2"):
        params.write_text(edit)
        backups.add(profiles.use("sample", params, force=True))
    assert len(backups) == 2
    assert {path.read_text() for path in backups if path} == {"a: 1", "a: 2"}


def test_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean coco-r101-3x\?"):
        profiles.use("coco-r101-3", tmp_path / "params.yaml")
    assert not (tmp_path / "params.yaml").exists()
