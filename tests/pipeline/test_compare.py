from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from condinst.errors import UserError
from pipeline.compare import stage as compare
from pipeline.compare import tables as comparison_tables
from pipeline.compare import verify
from pipeline.compare.evaluated import Sampler
from pipeline.compare.sentences import study_verdict
from pipeline.evaluate import scoring
from pipeline.layout import COMPARED, EVALUATED, STUDIES
from pipeline.params import Ablation, Compare
from pipeline.report.collect import collect
from pipeline.report.studies import study_views

STUDY = Ablation(
    question="Is it better?",
    baseline="old",
    seeds=(0,),
    steps=10,
    variants={"old": {}, "new": {"MODEL.X": 1}, "same": {"MODEL.X": 2}},
)


RULES = Compare(draws=50, confidence=0.95, seed=0, margin=0.3, family="study")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with prepared annotations: 30 images, two 40 x 40 objects in each."""
    monkeypatch.chdir(tmp_path)
    write_truth(tmp_path / "data/prepared/val/annotations.json")
    return tmp_path


def write_truth(path: Path, images: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {**thing(number // 2 + 1, number % 2), "id": number + 1, "area": 1600, "iscrowd": 0}
        for number in range(2 * images)
    ]
    content = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.jpg", "height": 100, "width": 100}
            for i in range(images)
        ],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "star & bar"}],
        "annotations": entries,
    }
    path.write_text(json.dumps(content))


def thing(image: int, place: int, shift: float = 0.0) -> dict[str, Any]:
    x = 50.0 * place + shift
    corners = [x, 10, x + 40, 10, x + 40, 50, x, 50]
    box = {"image_id": image, "category_id": place + 1, "bbox": [x, 10, 40, 40]}
    return {**box, "segmentation": [corners]}


def evaluated(folder: Path, error: float, seed: int = 0, **about: Any) -> Path:
    """An evaluation whose detections are off by some pixels."""
    rng = np.random.default_rng(seed)
    found = [
        {**thing(i + 1, place, float(rng.normal(0, error))), "score": float(rng.uniform(0.3, 1))}
        for i in range(30)
        for place in range(2)
    ]
    card = scoring.score(Path("data/prepared/val/annotations.json"), found)
    scoring.publish(card, folder, {"data_hash": "d0", "score_threshold": 0.05, **about})
    return folder


def study_runs(root: Path = STUDIES / "study") -> Path:
    for name, error in (("old", 8.0), ("new", 2.0), ("same", 8.0)):
        evaluated(root / name / "seed0" / "evaluate", error, seed=len(name))
    return root


@pytest.mark.slow
def test_stage_compares_every_study(params: Any, capsys: pytest.CaptureFixture[str]) -> None:
    study_runs()
    evaluated(EVALUATED, 2.0)
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    content = json.loads((COMPARED / "comparison.json").read_text())
    found = content["studies"]["study"]
    new = found["variants"]["new"]["segm"]["AP"]
    assert new["verdict"]["word"] == "better"
    assert new["low"] > 0
    assert new["a"] == pytest.approx(found["variants"]["old"]["metrics"]["segm"]["AP"])
    assert "segm" not in found["variants"]["old"]
    assert found["variants"]["same"]["segm"]["AP"]["verdict"]["word"] == "not told apart"
    assert new["verdict"]["phrase"] == "better on these images, one training each"
    assert "new is better than old on these images, one training each" in found["verdict"]
    assert "The 2 intervals hold together" in found["verdict"]
    assert (found["primary"], found["margin"]) == ("segm/AP", 0.3)
    assert 0.95 < found["level"] < 0.975  # two comparisons that share a baseline
    assert "not other seeds of training" in found["verdict"]
    assert content["main"]["metrics"]["segm"]["AP"] > 0
    assert set(found["variants"]["new"]["per_class"]["segm"]) == {"disc", "star & bar"}
    rows = list(csv.DictReader((COMPARED / "table.csv").open()))
    assert len(rows) == 3 * 36
    assert found["variants"]["new"]["boundary"]["AP"]["low"] > 0
    assert json.loads((COMPARED / "metrics.json").read_text())["study"]["new"]["segm/AP"] > 0
    text = (COMPARED / "comparison.md").read_text()
    assert "Is it better?" in text
    assert "All else is exploratory" in text
    assert "may be by chance (Benjamini-Hochberg)" in text
    others = [one for row in found["variants"].values() for one in row.get("bbox", {}).values()]
    assert {one["verdict"]["word"] for one in others} <= {"higher", "lower", "unclear"}
    assert all(one["exploratory"] for one in others)
    assert "study: " in capsys.readouterr().out


def test_the_report_reads_what_compare_wrote(params: Any, project: Path) -> None:
    study_runs()
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    content = json.loads((COMPARED / "comparison.json").read_text())
    (view,) = study_views(collect({"study": STUDY}, project))
    shown = {variant.name: variant for variant in view.variants}
    assert shown["old"].comparison is None
    for name in ("new", "same"):
        seen_by_task = {"segm": shown[name].comparison, "bbox": shown[name].others["bbox/AP"]}
        for task, seen in seen_by_task.items():
            written = content["studies"]["study"]["variants"][name][task]["AP"]
            assert seen is not None
            assert seen.difference == written["difference"]
            assert (seen.low, seen.high) == (written["low"], written["high"])
            assert seen.word == written["verdict"]["word"]
    assert "is better than old on these images, one training each" in view.answer
    assert "All else is exploratory" in view.explored
    assert view.verdict


@pytest.mark.slow
def test_results_of_a_version_without_boundaries(params: Any, project: Path) -> None:
    """They are measured from their detections."""
    root = study_runs()
    for path in root.glob("*/seed0/evaluate/metrics.json"):
        content = json.loads(path.read_text())
        numbers = content.pop("boundary")
        path.write_text(json.dumps(content))
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    found = json.loads((COMPARED / "comparison.json").read_text())["studies"]["study"]
    last = found["variants"][path.parents[2].name]
    assert last["metrics"]["boundary"] == pytest.approx(numbers)
    assert [check.wrong for check in verify.verify(STUDIES)] == [()] * 3
    (view,) = study_views(collect({"study": STUDY}, project))
    old = found["variants"]["old"]["metrics"]["boundary"]["AP"]
    assert view.variants[0].numbers["boundary/AP"] == old


@pytest.mark.slow
def test_a_comparison_of_a_version_without_boundaries_is_verified(params: Any) -> None:
    study_runs()
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    path = COMPARED / "comparison.json"
    content = json.loads(path.read_text())
    for variant in content["studies"]["study"]["variants"].values():
        variant.pop("boundary", None)
        variant["metrics"].pop("boundary")
        for one in variant.get("segm", {}).values():
            one["verdict"].pop("phrase")
    for key in ("margin", "family"):
        del content[key]
    for key in ("primary", "level", "margin", "explored"):
        del content["studies"]["study"][key]
    path.write_text(json.dumps(content))
    assert [check.wrong for check in verify.verify(COMPARED)] == [()]
    text = comparison_tables.markdown(content)
    assert "| new | " in text


def test_results_without_masks(project: Path) -> None:
    for name, error in (("a", 8.0), ("b", 2.0)):
        folder = evaluated(project / name, error)
        found = json.loads((folder / "detections.json").read_text())
        for entry in found:
            del entry["segmentation"]
        card = scoring.score(Path("data/prepared/val/annotations.json"), found)
        scoring.publish(card, folder, {})
    study = compare.compare_runs(["a", "b"], rules=RULES, primary="bbox/AP")["studies"]["runs"]
    assert list(study["variants"]["b"]["metrics"]) == ["bbox"]
    assert study["variants"]["b"]["bbox"]["AP"]["verdict"]["word"] == "better"


@pytest.mark.slow
def test_the_primary_metric_is_declared_before(params: Any) -> None:
    root = study_runs()
    boxes = dataclasses.replace(STUDY, primary="bbox/AP50")
    one = dataclasses.replace(params, ablations={"study": boxes})
    compare.run(one)
    found = json.loads((COMPARED / "comparison.json").read_text())["studies"]["study"]
    assert "exploratory" not in found["variants"]["new"]["bbox"]["AP50"]
    assert found["variants"]["new"]["segm"]["AP"]["exploratory"]
    assert "points of box AP50" in found["verdict"]
    assert verify.verify(COMPARED)[0].wrong == ()
    for content in ({"seeds": [0]}, {"seeds": [0], "primary": "segm/AP"}):
        (root / "results.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"primary is bbox/AP50, but the study ran for segm/AP"):
            compare.run(one)
    unknown = dataclasses.replace(STUDY, primary="segm/ap")
    with pytest.raises(UserError, match=r"study\.primary is segm/ap, .* \(did you mean segm/AP"):
        compare.compare_studies({root: unknown}, Sampler(10, 0), RULES)
    with pytest.raises(UserError, match=r"--primary is AP, must be one of the metrics"):
        compare.compare_runs(["a", "b"], rules=RULES, primary="AP")


@pytest.mark.slow
def test_all_studies_may_be_one_family(project: Path) -> None:
    roots = [study_runs(project / name) for name in ("one", "two")]
    studies = dict.fromkeys(roots, STUDY)
    sampler = Sampler(50, 0)
    alone = compare.compare_studies(studies, sampler, RULES)
    wide = dataclasses.replace(RULES, family="report")
    together = compare.compare_studies(studies, sampler, wide)
    assert alone["one"]["level"] == alone["two"]["level"]
    # The same runs twice add no error, so no correction either.
    assert together["one"]["level"] == pytest.approx(alone["one"]["level"], abs=1e-3)


def test_stage_with_what_is_missing(params: Any) -> None:
    one = dataclasses.replace(params, ablations={"study": STUDY})
    with pytest.raises(UserError, match=r"run `python cli\.py ablate study` first"):
        compare.run(one)
    study_runs(STUDIES / "study")
    (STUDIES / "study/new/seed0/evaluate/evaluation.json").unlink()
    compare.run(one)
    found = json.loads((COMPARED / "comparison.json").read_text())["studies"]["study"]
    assert found["variants"]["new"]["missing_seeds"] == [0]
    assert "new was not evaluated" in found["verdict"]
    (STUDIES / "study/old/seed0/evaluate/evaluation.json").unlink()
    with pytest.raises(UserError, match="the baseline old of study was not evaluated"):
        compare.run(one)


def test_no_study_is_no_fault(params: Any) -> None:
    compare.run(dataclasses.replace(params, ablations={}))
    assert json.loads((COMPARED / "comparison.json").read_text())["studies"] == {}


@pytest.mark.slow
def test_several_seeds_add_their_variance(project: Path) -> None:
    study = dataclasses.replace(STUDY, seeds=(0, 1), variants={"old": {}, "new": {}})
    for name, error in (("old", 8.0), ("new", 2.0)):
        for seed in study.seeds:
            folder = project / "runs" / name / f"seed{seed}" / "evaluate"
            evaluated(folder, error + seed, seed=seed + 10)
    found = compare.compare_studies({project / "runs": study}, Sampler(50, 0), RULES)["runs"]
    one = found["variants"]["new"]["segm"]["AP"]
    assert one["seeds"] == 2
    assert one["seed_std"] > 0
    assert "not other seeds" not in found["verdict"]
    assert one["verdict"]["phrase"] == one["verdict"]["word"]


def test_runs_in_folders(project: Path) -> None:
    evaluated(project / "a/evaluate", 8.0)
    evaluated(project / "b", 2.0, seed=1)
    content = compare.compare_runs(["a", "b"], rules=RULES, output=project / "out")
    found = content["studies"]["runs"]
    assert list(found["variants"]) == ["a", "b"]
    assert found["variants"]["b"]["segm"]["AP"]["verdict"]["word"] == "better"
    names = {path.name for path in (project / "out").iterdir()}
    assert names == {
        "comparison.json", "comparison.md", "comparison.svg", "comparison.tex", "metrics.json",
        "table.csv",
    }  # fmt: skip
    tex = (project / "out/comparison.tex").read_text()
    assert tex.count(r"\\") == 3
    assert r"95\%" in tex


@pytest.mark.slow
def test_runs_that_cannot_be_compared(project: Path) -> None:
    a = evaluated(project / "a", 8.0)
    with pytest.raises(UserError, match="two runs at least"):
        compare.compare_runs([a], rules=RULES)
    with pytest.raises(UserError, match="same run twice"):
        compare.compare_runs([a, a], rules=RULES)
    other = evaluated(project / "b", 8.0, score_threshold=0.3)
    with pytest.raises(UserError, match="with different score thresholds"):
        compare.compare_runs([a, other], rules=RULES)
    (project / "empty").mkdir()
    with pytest.raises(UserError, match=r"evaluation\.json is missing"):
        compare.compare_runs([a, project / "empty"], rules=RULES)
    with pytest.raises(UserError, match="neither a folder nor a revision"):
        compare.compare_runs([a, "no-such-thing"], rules=RULES)
    same = evaluated(project / "c", 2.0)
    write_truth(project / "data/prepared/val/annotations.json", images=31)
    with pytest.raises(UserError, match="any more: prepare that dataset"):
        compare.compare_runs([a, same], rules=RULES)
    changed = evaluated(project / "d", 2.0)
    with pytest.raises(UserError, match="on different data"):
        compare.compare_runs([a, changed], rules=RULES)


def test_table_says_near_zero_and_undefined() -> None:
    nothing = dict.fromkeys(("AP", "AP50", "AP75", "APs"), 0.0)
    numbers = {"segm": nothing, "bbox": {**nothing, "AP": None}}
    study = {
        "question": "", "baseline": "a", "images": 3,
        "variants": {
            "a": {"metrics": numbers, "seeds": [0]},
            "b": {"metrics": numbers, "seeds": []},
        },
    }  # fmt: skip
    sentence = study_verdict(study)
    assert "next to zero for a, b" in sentence
    console = Console(file=io.StringIO(), width=120)
    content = {"studies": {"x": {**study, "verdict": sentence}}, "confidence": 0.95, "draws": 9}
    comparison_tables.show(content, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "not evaluated" in shown
    assert "baseline" in shown


@pytest.mark.slow
def test_published_figures_stand_beside_ours(params: Any) -> None:
    study_runs()
    published = {"published": {"new": 35.7}, "published_from": "a paper"}
    for data, word in (("coco2017", "published (other data)"), ("d", "published |")):
        asked = dataclasses.replace(STUDY, published_data=data, **published)
        for one in STUDIES.glob("study/*/seed0/evaluate/evaluation.json"):
            one.write_text(json.dumps({**json.loads(one.read_text()), "dataset": "d"}))
        compare.run(dataclasses.replace(params, ablations={"study": asked}))
        text = (COMPARED / "comparison.md").read_text()
        assert word in text
        assert "| 35.7 |" in text
        assert ("other data than here, by a paper" in text) == (data == "coco2017")
        assert "35.7" in (COMPARED / "comparison.tex").read_text()
    image = ET.parse(COMPARED / "comparison.svg")
    words = {element.text for element in image.iter() if element.text}
    assert {"mask AP minus old's, points, 95% interval", "new"} <= words


@pytest.mark.slow
def test_a_number_that_varies_makes_a_curve_with_hours(
    params: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_runs()
    values = {"old": 0.0, "new": 1.0, "same": 0.1}
    variants = {name: {"INPUT.MASKS.SHARE": value} for name, value in values.items()}
    asked = dataclasses.replace(STUDY, variants=variants)
    counted = {"old": {"masks": 0, "boxes": 1200, "hours": 2.5}}
    counted |= {"new": {"masks": 1200, "boxes": 0, "hours": 26.4}}
    monkeypatch.setattr(compare.annotation, "costs", lambda *_: counted)
    compare.run(dataclasses.replace(params, ablations={"study": asked}))
    content = json.loads((COMPARED / "comparison.json").read_text())
    found = content["studies"]["study"]
    assert found["axis"] == {"key": "INPUT.MASKS.SHARE", "values": values}
    for variant in found["variants"].values():
        for task in ("segm", "bbox"):
            level = variant["levels"][task]["AP"]
            assert level["estimate"] == pytest.approx(variant["metrics"][task]["AP"])
            assert level["low"] < level["estimate"] < level["high"]
    text = (COMPARED / "comparison.md").read_text()
    assert "| masks drawn | annotation, hours |" in text
    assert "| 1,200 | 26.4 |" in text
    assert "| - | - |" in text
    assert "79.2 s for an object's mask, 7 s for its box alone" in text
    (view,) = study_views(collect({"study": asked}, project))
    assert view.curve is not None
    assert [row[0] for row in view.curve.rows] == ["0", "0.1", "1"]  # in order of the number
    assert view.curve.columns == [
        "INPUT.MASKS.SHARE", "mask AP", "boundary AP", "masks drawn", "boxes drawn", "hours",
    ]  # fmt: skip
    assert view.curve.rows[2][3:] == ["1,200", "0", "26.4"]
    assert view.curve.rows[1][3:] == ["\N{EN DASH}"] * 3
    assert [title for title, _ in view.curve.panels] == [
        "Mask AP and boundary AP over INPUT.MASKS.SHARE",
        "Mask AP and boundary AP over hours of annotation",
    ]  # fmt: skip
    assert [str(chart).count('class="dot') for _, chart in view.curve.panels] == [2 * 3, 2 * 2]


def test_data_of_boxes_alone_is_compared_by_boxes(params: Any) -> None:
    path = Path("data/prepared/val/annotations.json")
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        del entry["segmentation"]
    path.write_text(json.dumps(content))
    study_runs()
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    found = json.loads((COMPARED / "comparison.json").read_text())["studies"]["study"]
    assert found["variants"]["new"]["bbox"]["AP"]["verdict"]["word"] == "better"
    assert found["variants"]["new"]["segm"] == {}
    assert set(found["variants"]["new"]["levels"]) == {"bbox"}
    assert "undefined: box AP is compared. new is better than old on these" in found["verdict"]
    assert (found["declared"], found["primary"]) == ("segm/AP", "bbox/AP")
    assert "box AP difference" in (COMPARED / "comparison.md").read_text()
    assert [check.wrong for check in verify.verify(COMPARED)] == [()]


@pytest.mark.slow
def test_tables_are_verified_from_detections(params: Any) -> None:
    study_runs()
    evaluated(EVALUATED, 2.0)
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    page = Path("outputs/report")
    page.mkdir()
    checks = verify.verify(page)
    assert [len(check.wrong) for check in checks] == [0] * 5  # main, three variants, the study
    assert "outputs/compare: study: " in verify.describe(checks)

    path = EVALUATED / "metrics.json"
    content = json.loads(path.read_text())
    content["segm"]["AP"] += 0.01
    path.write_text(json.dumps(content))
    found = {check.name: check for check in verify.verify(page)}
    assert len(found["outputs/evaluate"].wrong) == 1
    assert "segm AP is " in verify.describe(list(found.values()))

    path = COMPARED / "comparison.json"
    content = json.loads(path.read_text())
    content["studies"]["study"]["variants"]["new"]["segm"]["AP"]["low"] = -50.0
    content["studies"]["study"]["variants"]["new"]["levels"]["segm"]["AP"]["low"] = -5.0
    path.write_text(json.dumps(content))
    (check,) = verify.verify(COMPARED)
    assert check.wrong[0].startswith("new segm AP's low is -5.0, computed again ")
    assert check.wrong[1].startswith("new segm AP low is -50.0, computed again ")
    with pytest.raises(UserError, match="holds no table"):
        verify.verify(Path("data"))
    with pytest.raises(UserError, match="is not there"):
        verify.verify(Path("nowhere"))


@pytest.mark.slow
def test_seeds_that_were_asked_for_later_count(params: Any) -> None:
    root = study_runs()
    for name, error in (("old", 8.0), ("new", 2.0), ("same", 8.0)):
        evaluated(root / name / "seed1" / "evaluate", error, seed=9 + len(name))
    (root / "results.json").write_text(json.dumps({"seeds": [0, 1]}))
    compare.run(dataclasses.replace(params, ablations={"study": STUDY}))
    found = json.loads((COMPARED / "comparison.json").read_text())
    assert found["studies"]["study"]["variants"]["new"]["seeds"] == [0, 1]
