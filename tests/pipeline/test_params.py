"""params.yaml: every fault is named with key, value and remedy, all of them at once."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from condinst.errors import UserError
from pipeline.params import Ablation, Params, as_dict, load_params, override, parse_params
from pipeline.params.axis import check_axis, find_axis


@pytest.fixture
def plain(repository: Path) -> dict[str, Any]:
    """The default file as plain values, free to be spoilt."""
    return yaml.safe_load((repository / "profiles" / "sample.yaml").read_text())


def set_key(values: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    *parents, name = key.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[name] = value
    return values


def message(values: object) -> str:
    with pytest.raises(UserError) as caught:
        parse_params(values)
    return str(caught.value)


def test_default_file_is_read_into_frozen_fields(params: Params) -> None:
    assert params.train.steps is not None
    assert params.ablations["mask_loss"].variants["stride8"] == {
        "MODEL.CONDINST.MASK_OUT_STRIDE": 8
    }
    assert params.ablations["coords"].seeds == (0,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.train.lr = 1.0  # type: ignore[misc]  # that it cannot be is the test


def test_plain_values_and_back_is_the_identity(params: Params) -> None:
    assert parse_params(as_dict(params)) == params


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dataset.source", "sampel", ["'sampel'", "sample, directory, coco2017", "mean sample?"]),
        ("dataset.sample.train_images", 0, ["is 0", "at least 1"]),
        ("train.seed", -1, ["is -1", "at least 0"]),
        ("train.lr", "fast", ["'fast'", "a number above 0, or null"]),
        ("train.lr", float("nan"), ["nan", "above 0"]),
        ("train.lr", float("inf"), ["inf", "above 0"]),
        ("train.steps", 1.5, ["1.5", "an integer"]),
        ("train.steps", True, ["true", "an integer"]),
        ("train.threads", 0, ["is 0", "at least 1 and of at most 1024, or null"]),
        ("train.threads", 5000, ["is 5000", "at most 1024"]),
        ("train.workers", None, ["null", "an integer"]),
        ("train.images_per_step", [8], ["[8]", "an integer"]),
        ("prepare.policy", "lax", ["strict, repair, drop"]),
        ("compare.confidence", 1, ["above 0 and below 1"]),
        ("compare.margin", 0, ["above 0"]),
        ("compare.family", "all", ["one of study, report"]),
        ("ablations.mask_loss.primary", "segm/ap", ["one of bbox/AP", "did you mean segm/AP"]),
        ("evaluate.backend", "coco", ["pycocotools", "auto"]),
        ("sweep.metric", "AP", ["segm/AP"]),
        ("tracking.enabled", "yes", ["'yes'", "true or false"]),
        ("tracking.experiment", "", ["text"]),
        ("train", None, ["null", "mapping", "steps"]),
        ("ablations.mask_loss.seeds", [], ["[]", "list with at least one"]),
        ("ablations.mask_loss.seeds", [0, -3], ["is -3"]),
        ("ablations.mask_loss.variants", {}, ["mapping"]),
        ("sweep.space", {}, ["mapping"]),
    ],
)
def test_value_out_of_range(
    plain: dict[str, Any], key: str, value: object, words: list[str]
) -> None:
    text = message(set_key(plain, key, value))
    assert f"  {key}" in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.stesp", "train.steps"),
        ("train.learning_rate", ""),
        ("trian", "train"),
        ("dataset.sample.sede", "dataset.sample.seed"),
        ("model.override", "model.overrides"),
    ],
)
def test_unknown_key_is_a_fault_and_the_nearest_is_named(
    plain: dict[str, Any], key: str, nearest: str
) -> None:
    text = message(set_key(plain, key, 1))
    assert f"  {key}: is not a known key" in text
    assert (f"did you mean {nearest}?" if nearest else "known: ") in text


def test_missing_key_is_a_fault_unless_null_is_its_meaning(plain: dict[str, Any]) -> None:
    del plain["model"]["weights"]
    assert parse_params(plain).model.weights is None
    del plain["train"]["steps"], plain["compare"]
    text = message(plain)
    assert "  train.steps: is missing" in text
    assert "  compare: is missing" in text


def test_all_faults_are_reported_together(plain: dict[str, Any]) -> None:
    set_key(plain, "train.lr", -1)
    set_key(plain, "train.stesp", 1)
    set_key(plain, "dataset.source", "moon")
    set_key(plain, "ablations.coords.baseline", "relativ")
    text = message(plain)
    assert "4 faults" in text
    for key in ("train.lr", "train.stesp", "dataset.source", "ablations.coords.baseline"):
        assert f"  {key}" in text


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_file_that_is_no_mapping(value: object) -> None:
    assert "the file" in message(value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset.source": "directory"}, ["dataset.root", "COCO layout"]),
        ({"dataset.root": "x", "dataset.train": {"json": "a", "images": "b"},
          "dataset.val": {"json": "a", "images": "b"}, "dataset.source": "directory"},
         ["dataset.train", "only one of them"]),
        ({"dataset.train": {"json": "a", "images": "b"}}, ["only for source: directory"]),
        ({"dataset.sample": None}, ["dataset.sample", "seed"]),
        ({"dataset.subset": {"val": 5}}, ["dataset.subset", "only for source: coco2017"]),
        ({"dataset.source": "directory", "dataset.split": {"images": "b", "val_share": 0.1}},
         ["dataset.split.json", "format coco needs the JSON"]),
        ({"dataset.source": "directory",
          "dataset.split": {"images": "b", "val_share": 0.1, "format": "yolo-seg", "json": "a"}},
         ["dataset.split.names", "data.yaml", "dataset.split.json", "only for format coco"]),
        ({"dataset.source": "directory",
          "dataset.split": {"images": "b", "val_share": 0.1, "json": "a", "list": "c"}},
         ["dataset.split.list", "not for format coco"]),
        ({"train.num_gpus": 2, "train.num_processes": 2}, ["train.num_processes", "own process"]),
        ({"train.amp": "fp16"}, ["needs a GPU"]),
        ({"train.num_gpus": 3}, ["train.images_per_step", "multiple of the 3"]),
        ({"train.min_workers": 1}, ["train.min_workers", "only for train.launcher: ray"]),
        ({"train.min_workers": 3, "train.launcher": "ray", "train.num_processes": 2},
         ["train.min_workers", "at most the 2 workers"]),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other(
    plain: dict[str, Any], changes: dict[str, object], words: list[str]
) -> None:
    for key, value in changes.items():
        set_key(plain, key, value)
    text = message(plain)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ({"a": {"MODEL.X": 1}, "b": {"MODEL.X": 1}}, [".b", "equals variant a"]),
        ({"a": {}, "b": {"MODLE.X": 1}}, ["MODLE.X", "did you mean MODEL?"]),
        ({"a": {}, "b": {"train.lrr": 1}}, ["train.lrr", "did you mean train.lr?"]),
        ({"a": {}, "b": {"train.lr": -1}}, ["b.train.lr", "above 0"]),
        ({"a": {}, "b": {"MODEL.X": {"y": 1}}}, ["b.MODEL.X", "a list"]),
        ({"a": {}, "b": {"MODEL.X": None}}, ["b.MODEL.X", "null"]),
        ({"a": {}, "b": {"DATASETS.TRAIN": "x"}}, ["dataset.*"]),
        ({"a": {}, "b c": {"MODEL.X": 1}}, ["folder"]),
        ({"a": {}, "b": 3}, ["b", "mapping"]),
    ],
)
def test_variants_of_a_study(
    plain: dict[str, Any], variants: dict[str, Any], words: list[str]
) -> None:
    plain["ablations"]["mask_loss"].update(variants=variants, baseline="a")
    text = message(plain)
    for word in words:
        assert word in text


def test_equal_seeds_and_unknown_baseline_are_faults(plain: dict[str, Any]) -> None:
    plain["ablations"]["coords"].update(seeds=[1, 2, 1], baseline="relativ")
    text = message(plain)
    assert "ablations.coords.seeds[2]: is 1, which is already in the list" in text
    assert "did you mean relative?" in text


def test_a_profile_may_have_no_ablation(plain: dict[str, Any]) -> None:
    plain["ablations"] = {}
    assert parse_params(plain).ablations == {}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"train.lr": {"uniform": [1, 2], "choice": [1]}}, ["exactly one"]),
        ({"train.lr": {"loguniform": [1, 2]}}, ["did you mean log_uniform?"]),
        ({"train.lr": {"uniform": [2, 1]}}, ["first must be less"]),
        ({"train.lr": {"log_uniform": [0, 1]}}, ["above 0"]),
        ({"train.steps": {"int_uniform": [1.5, 3]}}, ["two integers"]),
        ({"train.lr": {"uniform": [1]}}, ["[low, high]"]),
        ({"train.lr": {"choice": []}}, ["at least one value"]),
        ({"report.best": {"choice": [1, 2]}}, ["report.best"]),
    ],
)
def test_space_of_a_sweep(plain: dict[str, Any], space: dict[str, Any], words: list[str]) -> None:
    plain["sweep"]["space"] = space
    text = message(plain)
    for word in words:
        assert word in text


def test_override_goes_where_the_key_belongs(params: Params) -> None:
    changed = override(
        params, {"train.lr": 0.5, "model.weights": "w.pth", "MODEL.CONDINST.MASK_OUT_STRIDE": 2}
    )
    assert changed.train.lr == 0.5
    assert changed.model.weights == "w.pth"
    assert changed.model.overrides == {"MODEL.CONDINST.MASK_OUT_STRIDE": 2}
    assert params.model.overrides == {}
    with pytest.raises(UserError, match=r"train\.lrr"):
        override(params, {"train.lrr": 1})


def test_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing.*profile use"):
        load_params(tmp_path / "no.yaml")
    with pytest.raises(UserError, match="a folder"):
        load_params(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"train:\n  a: [1,\n", ["not valid YAML", "line"]),
        (b"a: 1\n\tb: 2\n", ["not valid YAML", "line 2"]),
        (b"", ["empty"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b"train:\n  lr: 1\n  lr: 2\n", ["twice", "train.lr", "lines 2 and 3"]),
        (b"a: !!python/object:os.system x\n", ["not valid YAML"]),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_params(path)
    for word in words:
        assert word in str(caught.value)


def test_faults_carry_line_numbers(tmp_path: Path, repository: Path) -> None:
    rows = (repository / "profiles" / "sample.yaml").read_text().splitlines()
    place = next(i for i, row in enumerate(rows) if row.startswith("  lr: "))
    rows[place] = "  lr: -1"
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(rows))
    line = place + 1
    with pytest.raises(UserError, match=rf"train\.lr \(line {line}\)"):
        load_params(path)


def test_numbers_and_words_are_read_as_dvc_reads_them(
    tmp_path: Path, plain: dict[str, Any]
) -> None:
    values = copy.deepcopy(plain)
    values["train"]["lr"] = "LR"
    values["tracking"]["experiment"] = "EXPERIMENT"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values).replace("LR", "1e-3").replace("EXPERIMENT", "off"))
    params = load_params(path)
    assert params.train.lr == 0.001
    assert params.tracking.experiment == "off"


STRIDE, UPSAMPLING = "MODEL.CONDINST.MASK_OUT_STRIDE", "MODEL.CONDINST.UPSAMPLING"


def with_grid(plain: dict[str, Any], grid: object, **section: Any) -> dict[str, Any]:
    study = {"question": "?", "baseline": "a-x", "seeds": [0], "steps": 1, "grid": grid, **section}
    plain["ablations"] = {"grid": study}
    return plain


def test_grid_is_all_combinations(plain: dict[str, Any]) -> None:
    grid = {"one": {"a": {STRIDE: 8}, "b": {STRIDE: 4}}, UPSAMPLING: ["x", "y"]}
    params = parse_params(with_grid(plain, grid))
    assert params.ablations["grid"].variants == {
        "a-x": {STRIDE: 8, UPSAMPLING: "x"},
        "a-y": {STRIDE: 8, UPSAMPLING: "y"},
        "b-x": {STRIDE: 4, UPSAMPLING: "x"},
        "b-y": {STRIDE: 4, UPSAMPLING: "y"},
    }
    assert parse_params(as_dict(params)) == params
    named = parse_params(with_grid(plain, {STRIDE: [8, 4]}, baseline="mask_out_stride-8"))
    assert list(named.ablations["grid"].variants) == ["mask_out_stride-8", "mask_out_stride-4"]


@pytest.mark.parametrize(
    ("grid", "section", "words"),
    [
        ({STRIDE: list(range(100)), UPSAMPLING: list(range(100))}, {},
         ["10,000 variants x 1 seeds = 10,000 trainings", "at most 500"]),
        ({STRIDE: 8}, {}, [f"grid.{STRIDE}", "must be a list of values"]),
        ({}, {}, ["is empty"]),
        ({"one": {"a": {STRIDE: 8}}, "two": {"x": {STRIDE: 4}}}, {}, ["on two axes"]),
        ({"one": {"a": {STRIDE: 8}}, "two": {"x": {UPSAMPLING: "y"}}},
         {"variants": {"a-x": {STRIDE: 1}}}, ["a-x, which already exists"]),
        ({"one": {"a": {STRIDE: 8}}, "two": {"x": {"MODLE.X": "y"}}}, {}, ["MODLE.X", "must be"]),
        ({"one": {"a": {STRIDE: 8}}, "two": {"x": {UPSAMPLING: "y"}}},
         {"published": {"a-y": 3.0}}, ["published.a-y: is not a variant", "published_from"]),
    ],
)  # fmt: skip
def test_grids_that_cannot_be(
    plain: dict[str, Any], grid: object, section: dict[str, Any], words: list[str]
) -> None:
    text = message(with_grid(plain, grid, **section))
    for word in words:
        assert word in text


SHARE = "INPUT.MASKS.SHARE"


@pytest.mark.parametrize(
    ("variants", "axis", "found"),
    [
        ({"a": {STRIDE: 8}, "b": {STRIDE: 4}, "c": {STRIDE: 1}}, None, [8, 4, 1]),
        ({"a": {STRIDE: 8}, "b": {STRIDE: 4}, "c": {STRIDE: 4.5}}, STRIDE, [8, 4, 4.5]),
        # the other key is the same in all, or is said not to matter
        ({k: {SHARE: v, STRIDE: 4} for k, v in (("a", 0), ("b", 0.5), ("c", 1))},
         None, [0, 0.5, 1]),
        ({k: {SHARE: v, STRIDE: w} for k, v, w in (("a", 0, 1), ("b", 0.5, 2), ("c", 1, 2))},
         SHARE, [0, 0.5, 1]),
        ({k: {SHARE: v, STRIDE: w} for k, v, w in (("a", 0, 1), ("b", 0.5, 2), ("c", 1, 2))},
         None, None),
        ({"a": {STRIDE: 8}, "b": {STRIDE: 4}}, None, None),  # two points are no curve
        ({"a": {}, "b": {STRIDE: 4}, "c": {STRIDE: 2}}, None, None),
        ({"a": {UPSAMPLING: "x"}, "b": {UPSAMPLING: "y"}, "c": {UPSAMPLING: "z"}}, None, None),
        ({"a": {STRIDE: True}, "b": {STRIDE: 4}, "c": {STRIDE: 2}}, None, None),
    ],
)  # fmt: skip
def test_the_axis_of_a_study(
    variants: dict[str, Any], axis: str | None, found: list[float] | None
) -> None:
    study = Ablation(question="?", baseline="a", seeds=(0,), steps=1, variants=variants, axis=axis)
    assert list(check_axis(study, "ablations.x")) == []
    made = find_axis(study)
    assert (None if made is None else list(made.values.values())) == found
    assert made is None or list(made.values) == ["a", "b", "c"]


def test_a_declared_axis_must_be_a_number_in_every_variant() -> None:
    variants = {"a": {STRIDE: 8}, "b": {STRIDE: "many"}, "c": {}}
    study = Ablation(
        question="?", baseline="a", seeds=(0,), steps=1, variants=variants, axis=STRIDE
    )
    problems = [fault.problem for fault in check_axis(study, "ablations.x")]
    assert f"is {STRIDE}, which is 'many' in variant b" in problems[0]
    assert f"is {STRIDE}, which is not set in variant c" in problems[1]
    two = dataclasses.replace(study, variants={"a": {STRIDE: 8}, "b": {STRIDE: 4}})
    assert [fault.key for fault in check_axis(two, "ablations.x")] == ["ablations.x.axis"]


def test_former_names_of_keys_are_read(repository: Path, tmp_path: Path) -> None:
    text = (repository / "profiles/sample.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("  skip_preflight:")]
    former = "\n".join(lines).replace("\ntrain:", "\ntrain:\n  insist: true\n#", 1)
    (tmp_path / "p.yaml").write_text(former)
    assert load_params(tmp_path / "p.yaml").train.skip_preflight
    (tmp_path / "p.yaml").write_text(
        former.replace("insist: true", "insist: true\n  skip_preflight: false")
    )
    with pytest.raises(UserError, match=r"train\.insist .*known key"):
        load_params(tmp_path / "p.yaml")
