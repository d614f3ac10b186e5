"""The detector when masks are learned from boxes, or from either."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks
from torch import nn

from condinst.checkpoint.key_tables import to_peer
from condinst.checkpoint.loading import load_weights
from condinst.engine.buffers import Snapshot
from condinst.engine.ema import Ema
from condinst.engine.micro_batches import split
from condinst.errors import UserError
from tests.condinst.modeling.supervision.slow_boxinst import make_image
from tests.condinst.modeling.tiny import example, tiny_cfg, tiny_model

BOXES = [(4, 4, 40, 30), (20, 10, 90, 60), (50, 5, 62, 20)]
# Nothing here is about the compiled loops, whose compilation takes longer than all the rest.
READABLE = ("MODEL.CONDINST.BACKEND", "reference")
BOXINST = (*READABLE, "MODEL.BOXINST.ENABLED", True, "MODEL.BOXINST.PAIRWISE.COLOR_THRESH", 0.0)
EITHER = (*BOXINST, "MODEL.BOXINST.USE_MASKS", True)
FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.CONDINST.MASK_BRANCH.NORM", "GN")
MASK_LOSSES = ("loss_mask", "loss_prj", "loss_pairwise")


def losses(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, float]:
    """Of the next step: the count of passes goes on."""
    with torch.no_grad():
        return {k: v.item() for k, v in model(batch).items()}


def blobs(x: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same image and boxes, with random masks."""
    changed = copy.deepcopy(x)
    generator = torch.Generator().manual_seed(seed)
    shape = changed["instances"].gt_masks.tensor.shape
    changed["instances"].gt_masks = BitMasks(torch.rand(shape, generator=generator) > 0.5)
    return changed


def marked(x: dict[str, Any], has_mask: list[bool]) -> dict[str, Any]:
    """The same, with a word about which objects have a mask."""
    changed = copy.deepcopy(x)
    changed["instances"].gt_has_mask = torch.tensor(has_mask)
    return changed


def test_names_gradients_and_detections() -> None:
    model = tiny_model(*BOXINST)
    made = model([example(64, 96, BOXES), example(64, 90, BOXES[:1], seed=1)])
    names = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_prj", "loss_pairwise"}
    assert set(made) == names
    assert all(x.isfinite() and x > 0 for x in made.values())
    sum(made.values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        found = model.eval()([example(64, 96, BOXES)])[0]["instances"]
    assert found.pred_masks.shape[1:] == (64, 96)


def test_projection_alone() -> None:
    options = ("MODEL.BOXINST.PAIRWISE.ENABLED", False)
    batch = [marked(example(64, 96, BOXES), [True, False, False])]
    for source in (BOXINST, EITHER):
        with_pairs = losses(tiny_model(*source), batch)
        model = tiny_model(*source, *options)
        alone = losses(model, batch)
        assert with_pairs.pop("loss_pairwise") > 0
        assert alone == with_pairs
        assert model.state_dict()["mask_head._iter"].tolist() == [1.0]
        made = model(batch)
        sum(made.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
        assert losses(model, [example(64, 96, [])])["loss_prj"] == 0


@pytest.mark.slow
def test_every_backend_that_runs_here_gives_the_same() -> None:
    batch = [marked(example(64, 96, BOXES), [True, False, False])]
    for options in ((), ("MODEL.BOXINST.PAIRWISE.ENABLED", False)):
        wanted = losses(tiny_model(*EITHER, *options), batch)
        found = losses(tiny_model(*EITHER, *options, "MODEL.CONDINST.BACKEND", "numba"), batch)
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("semantic", [False, True])
def test_masks_in_the_data_are_not_read(semantic: bool) -> None:
    options = (*BOXINST, "MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON", semantic)
    drawn = example(64, 96, BOXES)
    bare = copy.deepcopy(drawn)
    bare["instances"].remove("gt_masks")
    wanted = losses(tiny_model(*options), [drawn])
    assert losses(tiny_model(*options), [blobs(drawn, 1)]) == wanted
    assert losses(tiny_model(*options), [bare]) == wanted


def test_the_channel_order_follows_the_format() -> None:
    options = (*READABLE, "MODEL.BOXINST.ENABLED", True, *FROZEN)
    bgr = tiny_model(*options, "MODEL.PIXEL_MEAN", [100.0, 110.0, 120.0])
    rgb = tiny_model(*options, "MODEL.PIXEL_MEAN", [120.0, 110.0, 100.0], "INPUT.FORMAT", "RGB")
    rgb.load_state_dict(bgr.state_dict())
    stem = rgb.backbone.bottom_up.stem.conv1
    stem.weight.data = stem.weight.data.flip(1)
    x = {**example(64, 96, BOXES), "image": make_image(64, 96, 5)}
    flipped = {**x, "image": x["image"].flip(0)}
    wanted = losses(bgr, [x])
    assert losses(rgb, [flipped]) == pytest.approx(wanted, rel=1e-3)
    assert wanted["loss_pairwise"] > 0


def test_images_without_instances() -> None:
    empty, full = example(64, 96, [], seed=1), example(64, 96, BOXES)
    first = losses(tiny_model(*BOXINST), [empty, full])
    assert first == pytest.approx(losses(tiny_model(*BOXINST), [full, empty]), rel=1e-5)
    for options in (BOXINST, EITHER):
        model = tiny_model(*options)
        made = model([empty, empty])
        assert [made[n].item() for n in MASK_LOSSES if n in made] == [0.0] * (len(made) - 3)
        sum(made.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_pairwise_loss_warms_up_over_counted_passes() -> None:
    options = (*BOXINST, *FROZEN, "MODEL.BOXINST.PAIRWISE.WARMUP_ITERS", 4)
    model, x = tiny_model(*options), [example(64, 96, BOXES)]
    found = [losses(model, x)["loss_pairwise"] for _ in range(6)]
    assert found == pytest.approx([found[-1] * f for f in (0.25, 0.5, 0.75, 1, 1, 1)])
    assert model.state_dict()["mask_head._iter"].tolist() == [6.0]
    off = tiny_model(*BOXINST, *FROZEN, "MODEL.BOXINST.PAIRWISE.WARMUP_ITERS", 0)
    assert losses(off, x)["loss_pairwise"] == pytest.approx(found[-1])


def test_evaluation_does_not_count() -> None:
    model = tiny_model(*BOXINST).eval()
    with torch.no_grad():
        model([example(64, 96, BOXES)])
    assert model.state_dict()["mask_head._iter"].tolist() == [0.0]


def test_parts_of_a_step_count_once_and_equal_the_whole() -> None:
    batch = [
        example(64, 96, BOXES),
        example(64, 96, [], seed=1),
        example(64, 96, BOXES[1:], seed=2),
    ]
    sources = (
        (BOXINST, batch),
        (
            EITHER,
            [marked(batch[0], [True, False, False]), batch[1], marked(batch[2], [False, True])],
        ),
    )
    for options, images in sources:
        model = tiny_model(*options, *FROZEN, "MODEL.CONDINST.TOPK_PROPOSALS_PER_IM", 6)
        whole = losses(copy.deepcopy(model), images)
        total = dict.fromkeys(whole, 0.0)
        for part in split(model, images, 3):
            with part.context():
                for name, value in losses(model, part.batch).items():
                    total[name] += value * part.weight
        assert total == pytest.approx(whole, rel=1e-4)
        assert model.state_dict()["mask_head._iter"].tolist() == [1.0]


def test_the_count_is_in_checkpoints_of_both_kinds(tmp_path: Any) -> None:
    model = tiny_model(*BOXINST)
    losses(model, [example(64, 96, BOXES)])
    peer = to_peer(model.state_dict(), "adelaidet")
    assert peer.state["mask_head._iter"].tolist() == [1.0]
    assert not peer.rest
    for content in ({"model": peer.state}, {"model": model.state_dict()}):
        torch.save(content, tmp_path / "weights.pth")
        again = build_model(tiny_cfg(*BOXINST))
        report = load_weights(again, tmp_path / "weights.pth", strict=True)
        assert "mask_head._iter" in report.loaded
        assert again.state_dict()["mask_head._iter"].tolist() == [1.0]
    # A model that learns from masks counts nothing, and says that it leaves the count out.
    report = load_weights(build_model(tiny_cfg()), tmp_path / "weights.pth")
    assert [name for name, _ in report.ignored] == ["mask_head._iter"]


def test_a_pass_done_again_counts_once() -> None:
    model, x = tiny_model(*BOXINST), [example(64, 96, BOXES)]
    before = Snapshot(model)
    first = losses(model, x)
    before.restore()
    assert losses(model, x) == first
    assert model.state_dict()["mask_head._iter"].tolist() == [1.0]


def test_the_count_is_not_averaged() -> None:
    model = tiny_model(*BOXINST)
    ema = Ema(model, 0.9)
    for _ in range(3):
        losses(model, [example(64, 96, BOXES)])
        ema.update(model)
    assert ema.state["mask_head._iter"].tolist() == [3.0]


def test_with_masks_for_all_objects_or_none_either_is_one_of_the_two() -> None:
    x = example(64, 96, BOXES)
    every = losses(tiny_model(*EITHER), [blobs(x, 1)])
    assert every.pop("loss_prj") == every.pop("loss_pairwise") == 0
    assert every == pytest.approx(losses(tiny_model(*READABLE), [blobs(x, 1)]), rel=1e-5)
    none = losses(tiny_model(*EITHER), [marked(blobs(x, 1), [False] * 3)])
    assert none.pop("loss_mask") == 0
    assert none == pytest.approx(losses(tiny_model(*BOXINST), [x]), rel=1e-5)
    bare = copy.deepcopy(x)
    bare["instances"].remove("gt_masks")
    assert losses(tiny_model(*EITHER), [bare])["loss_mask"] == 0


def test_some_masks_are_read_and_the_hidden_ones_are_not() -> None:
    x = example(64, 96, BOXES)
    some = [True, False, True]
    found = losses(tiny_model(*EITHER), [marked(x, some)])
    assert all(found[name] > 0 for name in MASK_LOSSES)
    hidden, seen = blobs(x, 1), blobs(x, 1)
    hidden["instances"].gt_masks.tensor[[0, 2]] = x["instances"].gt_masks.tensor[[0, 2]]
    seen["instances"].gt_masks.tensor[1] = x["instances"].gt_masks.tensor[1]
    assert losses(tiny_model(*EITHER), [marked(hidden, some)]) == found
    assert losses(tiny_model(*EITHER), [marked(seen, some)])["loss_mask"] != found["loss_mask"]
    # An empty mask is none.
    emptied = copy.deepcopy(x)
    emptied["instances"].gt_masks.tensor[1] = False
    assert losses(tiny_model(*EITHER), [emptied]) == found


def test_weights_of_the_two_kinds() -> None:
    x = [marked(example(64, 96, BOXES), [True, False, False])]
    plain = losses(tiny_model(*EITHER), x)
    weighted = losses(
        tiny_model(*EITHER, "MODEL.BOXINST.MASK_WEIGHT", 2.0, "MODEL.BOXINST.BOX_WEIGHT", 0.5), x
    )
    for name, factor in zip(MASK_LOSSES, (2.0, 0.5, 0.5), strict=True):
        assert weighted[name] == pytest.approx(factor * plain[name])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.BOXINST.ENABLED", True, "MODEL.MASK_ON", False), "set MODEL.MASK_ON"),
        ((*BOXINST, "MODEL.CONDINST.MASK_OUT_STRIDE", 3), "use a divisor"),
        ((*BOXINST, "MODEL.BOXINST.PAIRWISE.SIZE", 4), "expected odd"),
        ((*EITHER, "MODEL.BOXINST.BOX_WEIGHT", -1.0), "0 or more"),
    ],
)
def test_contradictions_are_refused(overrides: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(tiny_cfg(*overrides))
