"""The doctor: each finding with what to do, and never a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.params import Params, parse_params


def only(results: Iterator[doctor.Result]) -> doctor.Result:
    (result,) = results
    return result


def test_locked_versions_reads_names_and_leaves_other_platforms_out(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "# made by a tool\n"
        "torch==2.14.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "colorama==0.4 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
    )
    assert doctor.locked_versions(lock) == {"torch": "2.14.1"}


def test_packages_that_differ_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("pytest==0.1\nno-such-package==1.0\n")
    result = only(doctor._packages(lock))
    assert result.state == "bad"
    assert "pytest" in result.found
    assert "no-such-package missing (lock: 1.0)" in result.found
    assert "make setup" in result.remedy


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("3.10.13", "bad"),
        ("3.11.0", "ok"),
        ("3.13.0", "ok"),
        ("3.14.0rc1", "ok"),
        ("3.15.0", "bad"),
    ],
)
def test_pythons_out_of_range_are_named(
    version: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.python_version", lambda: version)
    result = only(doctor._python())
    assert (result.state, result.found) == (state, version)
    assert (">=3.11,<3.15" in result.remedy) == (state == "bad")


def test_this_environment_is_as_locked() -> None:
    assert only(doctor._packages()).state == "ok"


def test_full_disk(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(100, 99, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    result = only(doctor._disk(params))
    assert (result.state, result.found) == ("bad", "0 GiB free")
    assert "make clean" in result.remedy


def test_missing_folder_of_own_data(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from pipeline.params import as_dict

    values = as_dict(params)
    values["dataset"].update(source="directory", root="nowhere")
    first, *others = doctor._data(parse_params(values))
    assert (first.state, first.found) == ("bad", "nowhere missing")
    assert {result.state for result in others} == {"note"}


def test_more_gpus_than_there_are(params: Params) -> None:
    from pipeline.params import as_dict

    values = as_dict(params)
    values["train"].update(num_gpus=64, images_per_step=64)
    result = only(doctor._devices(parse_params(values)))
    assert result.state == "bad"
    assert "train.num_gpus is 64" in result.remedy


def test_server_that_does_not_answer(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = only(doctor._tracking(params))
    assert result.state == "bad"
    assert "does not answer" in result.remedy


def test_bad_params_and_a_check_that_breaks_do_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[doctor.Result]:
        raise ImportError("no such library")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_detectron2", broken)
    results = doctor.examine(tmp_path / "no.yaml")
    states = {result.name: result.state for result in results}
    assert states["parameters"] == "bad"
    assert states["detectron2"] == "bad"
    assert states["git"] == "bad"
    assert states["memory"] in ("ok", "note")
    assert all(result.remedy for result in results if result.state == "bad")
