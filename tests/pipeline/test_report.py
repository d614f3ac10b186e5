from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.errors import UserError
from pipeline.params import Params
from pipeline.report import pictures, threshold, words
from pipeline.report import stage as report
from pipeline.report.render import escape_latex
from pipeline.report.studies import Comparison, Variant, _answer
from tests.pipeline.outputs_tree import NAMES, build_tree

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags nest, and keeps links and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [str(values[key]) for key in ("src", "href") if values.get(key)]
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding takes most of a report's time."""
    monkeypatch.setattr(pictures, "SIDE", 100)
    monkeypatch.setattr(pictures, "SAMPLE_SIDE", 100)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def written(tree: Path, params: Params, tmp_path: Path) -> Path:
    """A full report, in a tree of its own."""
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    wanted = dataclasses.replace(params.report, best=1, worst=1, random=1)
    report.run(dataclasses.replace(params, report=wanted), tmp_path)
    return tmp_path / "outputs/report"


def test_the_page_is_one_whole_file_without_network(written: Path) -> None:
    text = (written / "index.html").read_text()
    outline = Outline(text)
    outside = [s for s in outline.sources if not s.startswith(("data:", "#"))]
    assert outside == []
    assert "url(" not in text
    assert "@import" not in text
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_says_what_matters(written: Path) -> None:
    text = (written / "index.html").read_text()
    for wanted in (
        "54.2", "51.0 to 57.3", "Precision over recall", "Total loss", "baseline",
        "not told apart", "+3.6", "5f0e" * 8, "a75e7bb0" * 5, "1,200 steps",
        "python cli.py profile use sample", "ground truth", "pycocotools 2.0.11", *NAMES,
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "still missing" not in text
    assert text.count("data:image/webp;base64,") >= 3 * 2 + 3
    for split in ("Training", "Validation"):
        assert f"<h3>{split} images by chance, with masks" in text


def test_the_markdown_twin_shows_the_same_pictures_and_numbers(written: Path) -> None:
    text = (written / "report.md").read_text()
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(shown) >= 6
    assert {"pictures/sheet_train.jpg", "pictures/sheet_val.jpg"} <= set(shown)
    for path in shown:
        with Image.open(written / path) as picture:
            assert picture.width == 100
    assert "| AP | average precision, mean over IoU 0.50 to 0.95 | 54.2 (51.0 to 57.3) |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert "\n\n## Predictions\n" in text
    assert "\n| split | images |" in text


def test_the_latex_tables_are_balanced(written: Path) -> None:
    text = (written / "tables.tex").read_text()
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 * 4
    assert r"mask\_loss" not in text, "titles are words"
    assert "$-$11.5" in text
    assert "VAR" not in text
    assert "BLOCK" not in text


def test_latex_specials_are_escaped() -> None:
    assert escape_latex("a_b & 5% \\ {x}") == r"a\_b \& 5\% \textbackslash{} \{x\}"


def test_nothing_run_yet_is_said_with_the_commands(params: Params, tmp_path: Path) -> None:
    report.run(params, tmp_path)
    text = (tmp_path / "outputs/report/index.html").read_text()
    Outline(text)
    for command in ("acquire", "prepare", "train", "evaluate", "ablate coords", "compare"):
        assert f"python cli.py {command}" in text
    assert "The main training has not been run yet." in text
    assert (tmp_path / "outputs/report/report.md").is_file()


@pytest.mark.parametrize(
    "gone",
    [
        "data/raw",
        "data/prepared",
        "outputs/train",
        "outputs/evaluate",
        "outputs/compare",
        "outputs/ablate/coords",
        "outputs/sweep",
        "data/raw/val/000003.jpg",
        "data/prepared/val/index.json",
        "outputs/evaluate/per_image.json",
        "outputs/evaluate/detections.json",
        "outputs/train/curve.csv",
        "outputs/ablate/coords/none/seed0/train/run.json",
    ],
)
def test_any_missing_part_is_done_without(
    tree: Path, params: Params, tmp_path: Path, gone: str
) -> None:
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    few = dataclasses.replace(params.report, best=1, worst=1, random=0)
    report.run(dataclasses.replace(params, report=few), tmp_path)
    Outline((tmp_path / "outputs/report/index.html").read_text())


def test_a_damaged_file_counts_as_missing(tree: Path, params: Params, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    (tmp_path / "outputs/evaluate/metrics.json").write_text("{")
    report.run(params, tmp_path)
    text = (tmp_path / "outputs/report/index.html").read_text()
    assert "still missing" in text
    assert "python cli.py evaluate" in text


def test_names_from_files_cannot_inject_markup(tree: Path, params: Params, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "outputs/evaluate/per_class.json"
    content = json.loads(path.read_text())
    content["segm"]["<script>x()</script>"] = content["segm"]["disc"]
    path.write_text(json.dumps(content))
    report.run(params, tmp_path)
    text = (tmp_path / "outputs/report/index.html").read_text()
    assert "<script>x()" not in text
    assert "&lt;script&gt;x()" in text


def test_no_detection_at_all_is_drawn_as_none(tree: Path, params: Params, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    (tmp_path / "outputs/evaluate/detections.json").write_text("[]")
    report.run(params, tmp_path)
    assert "0 drawn" in (tmp_path / "outputs/report/index.html").read_text()


def test_a_second_report_replaces_the_first(written: Path, params: Params) -> None:
    (written / "stale.txt").write_text("old")
    report.run(params, written.parent.parent)
    assert not (written / "stale.txt").exists()
    assert [p.name for p in written.parent.iterdir() if p.name.startswith(".")] == []


def test_what_cannot_be_written_is_an_error(params: Params, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where a folder must be")
    with pytest.raises(UserError, match="cannot be written"):
        report.run(params, tmp_path)


def test_best_worst_and_random_images_are_all_different() -> None:
    quality = {number: float(number) for number in range(1, 11)}
    chosen = pictures.choose(quality, 2, 2, 3, seed=1)
    assert chosen["best"] == [10, 9]
    assert chosen["worst"] == [1, 2]
    assert len({*chosen["best"], *chosen["worst"], *chosen["random"]}) == 7
    assert chosen == pictures.choose(quality, 2, 2, 3, seed=1)
    few = pictures.choose({1: 5.0}, 2, 2, 2, seed=0)
    assert few == {"best": [1], "worst": [], "random": []}


def detection(score: float, x: float, image_id: int = 1, category_id: int = 1) -> dict:
    box = [x, 0, 10, 10]
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def test_predictions_are_drawn_from_the_score_of_the_best_f1() -> None:
    truth = {1: [detection(0, 0), detection(0, 50)], 2: []}
    found = [detection(0.9, 1), detection(0.705, 51), detection(0.6, 200), detection(0.5, 2)]
    kept, rule = threshold.worth_drawing(found, truth)
    assert [entry["score"] for entry in kept[1]] == [0.9, 0.705]
    assert "from 0.70 " in rule
    assert threshold.best_score(kept, truth) == (0.7, 1.0)


def test_another_class_a_crowd_and_a_second_hit_are_no_hits() -> None:
    truth = {1: [detection(0, 0), {**detection(0, 50), "iscrowd": 1}]}
    for wrong in (detection(0.8, 0, category_id=2), detection(0.8, 50), detection(0.8, 7)):
        assert threshold.best_score({1: [wrong]}, truth)[1] == 0
    twice = {1: [detection(0.8, 0), detection(0.7, 1)]}
    assert threshold.best_score(twice, truth) == (0.8, 1.0)


def test_the_best_few_are_drawn_where_no_score_parts_good_from_bad() -> None:
    truth = {1: [detection(0, 0)]}
    faint = [detection(score, 300) for score in (0.1, 0.3, 0.2, 0.05)]
    kept, rule = threshold.worth_drawing(faint, truth)
    assert [entry["score"] for entry in kept[1]] == [0.3, 0.2, 0.1]
    assert "best 3" in rule
    assert threshold.worth_drawing([], {})[0] == {}


def test_masks_are_decoded_from_polygons_and_both_kinds_of_rle() -> None:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    assert pictures._decode(square, 6, 8)[:4, :4].all()
    plain = {"size": [2, 3], "counts": [1, 2, 3]}
    assert pictures._decode(plain, 2, 3).tolist() == [[False, True, False], [True, False, False]]


def variant(name: str, word: str, difference: float) -> Variant:
    alone = f"{word} on these images, one training each" if name == "e" else word
    comparison = Comparison(difference, difference - 1, difference + 1, word, "", alone)
    return Variant(name, "", False, {}, "", "", comparison, {})


def test_the_answer_of_a_study_is_plain() -> None:
    answer = _answer(
        [
            variant("a", "better", 3.2),
            variant("b", "better", 1.0),
            variant("c", "worse", -4.0),
            variant("d", "not told apart", 0.1),
            variant("e", "better", 2.0),
            variant("f", "the same for practice", 0.0),
        ],
        "base",
        "mask AP",
    )
    assert answer == (
        "a (+3.2 points of mask AP) and b (+1.0) are better than base. "
        "c (\N{MINUS SIGN}4.0 points of mask AP) is worse than base. "
        "d (+0.1 points of mask AP) cannot be told apart from base on these images. "
        "e (+2.0 points of mask AP) is better than base on these images, one training each. "
        "f (+0.0 points of mask AP) and base are the same for practice."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.4, "59 s"), (861, "14 min 21 s"), (7260, "2 h 01 min"), (2e5, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_words() -> None:
    assert words.several(1, "image") == "1 image"
    assert words.several(1200, "image") == "1,200 images"
    assert words.several(3, "class") == "3 classes"
    assert words.percent(None) == "\N{EN DASH}"
    assert words.typeset("a-b: -0.7 (-2 to +1)") == (
        "a-b: \N{MINUS SIGN}0.7 (\N{MINUS SIGN}2 to +1)"
    )


def test_an_image_that_does_not_decode_is_passed_over(tree: Path) -> None:
    content = json.loads((tree / "data/prepared/val/annotations.json").read_text())
    split = pictures.Split(content, tree / "nowhere")
    assert split.pixels(1) is None
    assert pictures.make_pair(split, 1, [], "", "x") is None
    assert pictures.sample_pictures(split, 3, 0) == []
    assert np.array_equal(split.shapes(1, []).masks, np.zeros((0, 96, 96), bool))


def test_a_study_of_one_number_has_a_curve_with_its_table(written: Path) -> None:
    page, text = (written / "index.html").read_text(), (written / "report.md").read_text()
    assert page.count('<polygon class="band s1"') == 2  # over the number, and over the hours
    assert page.count('class="dot s1"') == 3 + 1
    assert "Mask AP over hours of annotation" in page
    rows = (
        "| MODEL.CONDINST.MASK_OUT_STRIDE | mask AP | masks drawn | boxes drawn | hours |",
        "| 1 | 45.4 (43.4 to 47.4) | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |",
        "| 8 | 41.3 (39.3 to 43.3) | 1,200 | 30 | 26.5 |",
    )
    for row in rows:
        assert f"\n{row}\n" in text
    for one in (page, text):
        assert "Published, mask AP on coco2017, other data than here: stride4 35.7 (the p" in one
        assert "79.2 s for an object" in one


def test_the_sweep_and_the_errors_are_shown(written: Path) -> None:
    page = (written / "index.html").read_text()
    assert "Which settings mattered" in page
    assert "segm/AP of 4 trials by train.lr, train.clip_gradients" in page
    assert "Where AP was lost" in page
    text = (written / "report.md").read_text()
    assert text.count("| 12 |") == 12  # six kinds of errors, their numbers for masks and boxes
    assert "| train.lr | 80.0 |" in text
    assert "So few trials give a hint at most." in text
