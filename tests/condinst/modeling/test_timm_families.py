"""Families of timm: those that work train and evaluate, the others are refused by name."""

from __future__ import annotations

import os
import re

import pytest
import timm

from condinst.errors import UserError
from condinst.modeling.backbone.timm_backbone import check_backbone
from tests.condinst.modeling.timm_families import FAMILIES, REFUSED, attempt, config, family_of

# One of each kind: plain, with strides or scalers of its own, branches that fold, transformers,
# and three that are refused. All of them take a quarter of an hour: make test-timm
FEW = (
    "regnet/regnetx", "resnetv2/resnetv", "repvit/repvit", "starnet/starnet",
    "swiftformer/swiftformer", "tiny_vit/tiny", "beit/beit", "coat/coat", "vision_transformer/eva",
)  # fmt: skip


def test_no_family_is_left_out() -> None:
    """A new timm may bring some."""
    found = {family_of(name) for name in timm.list_models() if not name.startswith("test_")}
    assert found == set(FAMILIES)
    assert all(family_of(model) == family for family, model in FAMILIES.items())
    assert set(REFUSED) <= set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES if os.environ.get("TIMM_FAMILIES") == "all" else FEW)
def test_family(family: str) -> None:
    row = attempt(family)
    if family in REFUSED:
        assert re.search(REFUSED[family], row.built), row.built
        assert FAMILIES[family] in row.built
    else:
        assert (row.built, row.trained, row.evaluated) == ("yes", "yes", "yes")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("deit_tiny_patch16_224", "timm/deit_tiny_.* maps at stride 16, no pyramid"),
        ("coat_tiny", "timm/coat_tiny does not take images of 128 x 160 pixels: Input height"),
        ("levit_128s", r"levit_128s gives the features \['res4', 'res5', 'res6'\], not"),
    ],
)
def test_what_cannot_work_is_refused_by_name(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_backbone(config(model))


def test_what_works_passes_and_stays_as_it_is() -> None:
    check_backbone(config("efficientnet_lite0"))
    cfg = config("efficientnet_lite0")
    cfg.MODEL.BACKBONE.NAME = "build_fcos_resnet_fpn_backbone"
    check_backbone(cfg)
