from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from condinst.analysis import Analysis, ModuleCost
from condinst.errors import UserError
from pipeline.analyze import print_analysis, run_analyze, short, tree_stems, write_json


def cost(name: str, depth: int, milliseconds: float | None = 1.0) -> ModuleCost:
    return ModuleCost(name, "Conv2d", depth, 34_100_000, 1.2e9, 5000, milliseconds, 1)


@pytest.fixture
def analysis() -> Analysis:
    modules = (
        cost("", 0, 10.0),
        cost("backbone", 1, 6.0),
        cost("backbone.stem", 2, 2.0),
        cost("backbone.res2", 2, 4.0),
        cost("head", 1, None),
    )
    return Analysis(100, 120, "cpu", 2, modules, (("aten::mul", 3),))


def test_the_tree_is_drawn(analysis: Analysis) -> None:
    assert tree_stems(analysis.modules) == ["", "├─ ", "│  ├─ ", "│  └─ ", "└─ "]


def test_the_table_shows_all_figures_and_what_lies_outside_modules(analysis: Analysis) -> None:
    out = io.StringIO()
    print_analysis(analysis, "recipe", Console(file=out, width=140))
    text = out.getvalue()
    for wanted in ("recipe at 100 x 120, CPU, 2 threads", "34.1 M", "1.2 G", "60 %", "res2"):
        assert wanted in text
    (rest,) = [line for line in text.splitlines() if "outside modules" in line]
    assert "4.0 ms" in rest


def test_the_json_holds_plain_values(analysis: Analysis, tmp_path: Path) -> None:
    write_json(analysis, tmp_path / "new/costs.json")
    content = json.loads((tmp_path / "new/costs.json").read_text())
    assert content["modules"][4]["milliseconds"] is None
    assert content["modules"][1]["parameters"] == 34_100_000
    assert content["uncounted_operators"] == {"aten::mul": 3}


def test_short_numbers() -> None:
    assert [short(x) for x in (0, 12, 1234, 2.5e6, 3e9, 4.2e12)] == [
        "\N{EN DASH}", "12", "1.23 k", "2.5 M", "3 G", "4.2 T",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["height", "width", "repeats"])
def test_bad_numbers_are_named(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is 0"):
        run_analyze("none.yaml", **{name: 0})


def test_a_recipe_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        run_analyze(tmp_path / "none.yaml")
