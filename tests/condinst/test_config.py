from pathlib import Path
from typing import Any

import pytest
import yaml

from condinst.config import keys, load_config
from condinst.errors import UserError

RECIPES = Path(__file__).parents[2] / "configs" / "CondInst"
BOXINST = RECIPES.parent / "BoxInst"

# The keys of the public implementations' base files.
ADELAIDET: dict[str, Any] = {
    "MODEL": {
        "META_ARCHITECTURE": "CondInst",
        "MASK_ON": True,
        "BACKBONE": {"NAME": "build_fcos_resnet_fpn_backbone"},
        "RESNETS": {"OUT_FEATURES": ["res3", "res4", "res5"]},
        "FPN": {"IN_FEATURES": ["res3", "res4", "res5"]},
        "PROPOSAL_GENERATOR": {"NAME": "FCOS"},
        "FCOS": {"THRESH_WITH_CTR": True, "USE_SCALE": True},
        "CONDINST": {"MAX_PROPOSALS": 500},
    },
    "DATASETS": {"TRAIN": '("coco_2017_train",)', "TEST": '("coco_2017_val",)'},
    "SOLVER": {"IMS_PER_BATCH": 16, "BASE_LR": 0.01, "STEPS": "(60000, 80000)", "MAX_ITER": 90000},
    "INPUT": {"MIN_SIZE_TRAIN": "(640, 672, 704, 736, 768, 800)"},
}
EPIPHQNY: dict[str, Any] = {
    **ADELAIDET,
    "MODEL": {
        **{k: v for k, v in ADELAIDET["MODEL"].items() if k not in ("FCOS", "CONDINST")},
        "META_ARCHITECTURE": "OneStageDetector",
    },
    "INPUT": {**ADELAIDET["INPUT"], "MASK_FORMAT": "bitmask"},
}


def write(folder: Path, tree: dict[str, Any], name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(tree))
    return path


def test_adelaidets_files_read_as_ours(tmp_path: Path) -> None:
    theirs = load_config(write(tmp_path, ADELAIDET), [])
    ours = load_config(RECIPES / "Base-CondInst.yaml", [])
    assert theirs == ours
    assert theirs.DATASETS.TRAIN == ("coco_2017_train",)
    assert theirs.MODEL.CONDINST.COORDINATES == "relative"


def test_epiphqnys_files_take_its_choices(tmp_path: Path) -> None:
    theirs = load_config(write(tmp_path, EPIPHQNY), [])
    ours = load_config(RECIPES / "epiphqny" / "Base-Epiphqny.yaml", ["SOLVER.IMS_PER_BATCH", "16"])
    assert theirs == ours
    assert theirs.MODEL.META_ARCHITECTURE == "CondInst"
    assert theirs.MODEL.CONDINST.MASK_BRANCH.KIND == "single_level"


def test_a_base_file_is_followed(tmp_path: Path) -> None:
    write(tmp_path, EPIPHQNY, "Base-FCOS.yaml")
    child = {"_BASE_": "Base-FCOS.yaml", "MODEL": {"RESNETS": {"DEPTH": 101}}}
    cfg = load_config(write(tmp_path, child), [])
    assert cfg.MODEL.RESNETS.DEPTH == 101
    assert cfg.MODEL.CONDINST.CENTER == "box"


def test_a_detector_of_boxes_alone_is_not_epiphqnys(tmp_path: Path) -> None:
    cfg = load_config(write(tmp_path, {"MODEL": {"META_ARCHITECTURE": "OneStageDetector"}}), [])
    assert not cfg.MODEL.MASK_ON
    assert cfg.MODEL.META_ARCHITECTURE == "CondInst"
    assert cfg.MODEL.CONDINST.COORDINATES == "relative"


def test_overrides_win_over_the_file_and_its_kind(tmp_path: Path) -> None:
    path = write(tmp_path, EPIPHQNY)
    overrides = ["MODEL.CONDINST.MASK_OUT_STRIDE", "8", "MODEL.CONDINST.CENTER", "mass"]
    cfg = load_config(path, overrides)
    assert (cfg.MODEL.CONDINST.MASK_OUT_STRIDE, cfg.MODEL.CONDINST.CENTER) == (8, "mass")
    assert cfg.MODEL.CONDINST.COORDINATES == "absolute"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.STEPS", "[10, 20]", (10, 20)),
        ("MODEL.MASK_ON", "false", False),
        ("MODEL.FCOS.SIZES_OF_INTEREST", "(32, 64)", [32, 64]),
        ("MODEL.WEIGHTS", "", ""),
        ("MODEL.WEIGHTS", "0123", "0123"),
        ("MODEL.BiFPN.NORM", "SyncBN", "SyncBN"),
        ("SOLVER.MAX_ITER", 100, 100),
    ],
)
def test_override_values_may_be_strings(key: str, text: Any, value: Any) -> None:
    node: Any = load_config(RECIPES / "MS_R_50_1x.yaml", [key, text])
    for part in key.split("."):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


def test_keys_of_other_models_are_accepted() -> None:
    for key in ("BASIS_MODULE.NUM_BASES", "BLENDMASK.ATTN_SIZE", "MEInst.DIM_MASK", "SOLOV2.SIGMA"):
        load_config(RECIPES / "MS_R_50_1x.yaml", [f"MODEL.{key}", "4"])


def test_sections_of_other_models_are_left_out_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {
        "MODEL": {
            "FCPOSE_ON": True,
            "BATEXT": {"ANY": {"KEY": 1}, "OTHER": [2]},
            "VOVNET": {"OUT_CHANNELS": 256, "NORM": "BN"},
        },
        "INPUT": {"IS_ROTATE": True},
    }
    path = write(tmp_path, others)
    keys._say_ignored.cache_clear()
    for _ in range(2):
        cfg = load_config(path, ["MODEL.BLENDMASK.ANY.KEY", "4", "MODEL.BATEXT.MORE", "5"])
    wanted = load_config(RECIPES / "MS_R_50_1x.yaml", [])
    assert cfg.MODEL.VOVNET == {**wanted.MODEL.VOVNET, "NORM": "BN"}
    assert not {"FCPOSE_ON", "BATEXT", "BLENDMASK"} & set(cfg.MODEL)
    assert caplog.messages == [
        "ignored, since CondInst does not read it: INPUT.IS_ROTATE, MODEL.BATEXT, "
        "MODEL.FCPOSE_ON, MODEL.VOVNET.OUT_CHANNELS, MODEL.BLENDMASK"
    ]


@pytest.mark.parametrize(
    "tree",
    [
        {"MODEL": {"BLENDMASKS": {"ATTN_SIZE": 14}}},  # no section of that name
        {"MODEL": {"VOVNET": {"OUT_CHANELS": 1}}},  # a section of ours with one ignored key
        {"MODEL": {"BOXINST": {"ENABLE": True}}},
        {"MODEL": {"CONDINST": {"BATEXT": {"VOC_SIZE": 96}}}},  # ignored elsewhere only
        {"SOLOV2": {"SIGMA": 0.2}},
    ],
)
def test_typos_beside_ignored_sections_are_found(tmp_path: Path, tree: dict[str, Any]) -> None:
    path = write(tmp_path, tree)
    with pytest.raises(UserError, match="unknown key"):
        load_config(path)
    name, value = next(iter(tree.items()))
    while isinstance(value, dict):
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    with pytest.raises(UserError, match=f"unknown key {name}"):
        load_config(RECIPES / "MS_R_50_1x.yaml", [name, str(value)])


def test_all_faults_are_reported_with_the_nearest_keys(tmp_path: Path) -> None:
    bad = {"MODEL": {"FCOS": {"NUM_CLASES": 3, "NMS_TH": "high"}, "CONDINST": {"CHANELS": 1}}}
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, bad), ["MODEL.CONDINST.MASK_STRIDE", "4", "MODEL.FCOS", "3"])
    message = str(error.value)
    assert "MODEL.FCOS.NUM_CLASES: did you mean MODEL.FCOS.NUM_CLASSES?" in message
    assert "MODEL.FCOS.NMS_TH = 'high' does not fit: expected a float such as 0.6" in message
    assert "unknown key MODEL.CONDINST.CHANELS" in message
    assert "MODEL.CONDINST.MASK_STRIDE: did you mean MODEL.CONDINST.MASK_OUT_STRIDE?" in message
    assert "MODEL.FCOS is a section" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("MODEL: [", "is not valid YAML, line 2"),
        ("VERSION: 1", "VERSION 1"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(path, [])


def test_overrides_come_in_pairs() -> None:
    with pytest.raises(UserError, match="KEY VALUE pairs, got 1 words"):
        load_config(RECIPES / "MS_R_50_1x.yaml", ["MODEL.MASK_ON"])


@pytest.mark.parametrize(
    "path", sorted([*RECIPES.rglob("*.yaml"), *BOXINST.glob("*.yaml")]), ids=lambda p: p.stem
)
def test_every_recipe_loads(path: Path) -> None:
    assert load_config(path, []).MODEL.META_ARCHITECTURE == "CondInst"
