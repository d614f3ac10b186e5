"""The same step in one process, in two, and in parts: the same losses and gradients to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import comm
from torch import nn

from condinst.engine import launch
from condinst.engine.memory import recompute_backbone, synchronise_batch_norms
from condinst.engine.micro_batches import local_gradients, split
from condinst.engine.train import distribute
from tests.condinst.engine.workers import run_workers

BOXES = ([(4, 4, 40, 44), (30, 20, 90, 60)], [(10, 8, 60, 60)], [], [(50, 2, 92, 30)])
Step = tuple[dict[str, float], dict[str, torch.Tensor]]


def images(count: int) -> list[dict[str, Any]]:
    """Noise of one size; two objects, one that has only a box, none, one."""
    made = []
    for i, boxes in enumerate(BOXES[:count]):
        generator = torch.Generator().manual_seed(i)
        instances = Instances((64, 96))
        instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.gt_classes = torch.arange(len(boxes))
        masks = torch.zeros(len(boxes), 64, 96, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        instances.gt_masks = BitMasks(masks)
        instances.gt_has_mask = torch.full((len(boxes),), i != 1)  # read beside boxes alone
        image = torch.randint(0, 255, (3, 64, 96), generator=generator, dtype=torch.uint8)
        made.append({"image": image, "instances": instances})
    return made


def build(cfg: CfgNode) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(cfg)
    for param in model.parameters():  # away from the start, where many gradients are tiny
        param.data.add_(0.02 * torch.randn_like(param))
    if cfg.SOLVER.SYNC_BN:
        synchronise_batch_norms(model)
    return model.double().train()  # so that what differs is not rounding


def step(cfg: CfgNode, batch: list[dict[str, Any]], parts: int = 1) -> Step:
    """Losses and gradients of this process's images, over all workers and parts."""
    model = build(cfg)
    inner, wrapped = model, distribute(model, cfg)
    totals: dict[str, float] = {}
    for part in split(wrapped, batch, parts):
        with local_gradients(wrapped, not part.last):
            with part.context():
                losses = wrapped(part.batch)
            (sum(losses.values()) * part.weight).backward()  # type: ignore[union-attr]
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0.0) + loss.item() * part.weight
    rows = comm.all_gather(totals)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in totals}
    return means, {n: p.grad for n, p in inner.named_parameters() if p.grad is not None}


def assert_equal(a: Step, b: Step) -> None:
    assert a[0].keys() == b[0].keys()
    for name, loss in a[0].items():
        assert b[0][name] == pytest.approx(loss, rel=1e-5), name
    assert a[1].keys() == b[1].keys()
    scale = max(float(grad.abs().max()) for grad in a[1].values())
    for name, grad in a[1].items():
        largest = max(float(grad.abs().max()), 1e-2 * scale)
        error = float((grad - b[1][name]).abs().max()) / largest
        assert error <= 1e-5, (name, error)


@pytest.fixture
def tiny(tiny_cfg: CfgNode) -> CfgNode:
    """Three levels: on more, these images have single cells, of which norms make noise."""
    tiny_cfg.MODEL.FCOS.TOP_LEVELS = 0
    tiny_cfg.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5"]
    tiny_cfg.MODEL.FCOS.FPN_STRIDES = [8, 16, 32]
    tiny_cfg.MODEL.FCOS.SIZES_OF_INTEREST = [32, 64]
    return tiny_cfg


@pytest.fixture
def cfg(tiny: CfgNode) -> CfgNode:
    """No batch statistics, and every loss that there is."""
    tiny.MODEL.RESNETS.NORM = "GN"
    tiny.MODEL.RESNETS.STEM_OUT_CHANNELS = 32
    tiny.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    tiny.MODEL.RESNETS.WIDTH_PER_GROUP = 32
    tiny.MODEL.CONDINST.MASK_BRANCH.NORM = "GN"
    tiny.MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON = True
    tiny.MODEL.CONDINST.MAX_PROPOSALS = -1
    return tiny


def two_workers(cfg: CfgNode, folder: Path) -> Step:
    """One image in each of two processes."""

    def main() -> None:
        def work() -> None:
            mine = images(2)[comm.get_rank() : comm.get_rank() + 1]
            torch.save(step(cfg, mine), folder / f"{comm.get_rank()}.pth")

        launch(work)

    assert run_workers(main, folder) == ["", ""]
    first, second = (torch.load(folder / f"{i}.pth", weights_only=True) for i in (0, 1))
    assert all(torch.equal(grad, second[1][name]) for name, grad in first[1].items())
    return first


@pytest.mark.slow
def test_two_processes_equal_one(cfg: CfgNode, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = step(cfg, images(2))
    assert {"loss_mask", "loss_sem", "loss_fcos_cls"} <= whole[0].keys()
    assert_equal(whole, two_workers(cfg, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("use_masks", [False, True], ids=["boxes", "either"])
def test_so_it_is_where_masks_are_learned_from_boxes(
    cfg: CfgNode, tmp_path: Path, use_masks: bool
) -> None:
    torch.set_num_threads(1)
    cfg.MODEL.BOXINST.ENABLED, cfg.MODEL.BOXINST.USE_MASKS = True, use_masks
    cfg.MODEL.BOXINST.PAIRWISE.WARMUP_ITERS, cfg.MODEL.BOXINST.PAIRWISE.COLOR_THRESH = 2, 0.0
    cfg.MODEL.CONDINST.TOPK_PROPOSALS_PER_IM = 64
    whole = step(cfg, images(2))
    assert {"loss_prj", "loss_pairwise"} <= whole[0].keys()
    assert_equal(whole, two_workers(cfg, tmp_path))
    assert_equal(step(cfg, images(4)), step(cfg, images(4), 3))


@pytest.mark.slow
def test_synchronised_batch_norms_make_them_equal(tiny: CfgNode, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = step(tiny, images(2))
    tiny.SOLVER.SYNC_BN = True
    split_up = two_workers(tiny, tmp_path)
    for name, loss in whole[0].items():
        assert split_up[0][name] == pytest.approx(loss, rel=1e-4), name
    tiny.SOLVER.SYNC_BN = False
    apart = two_workers(tiny, tmp_path)
    assert apart[0]["loss_mask"] != pytest.approx(whole[0]["loss_mask"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("normalizer", ["fg", "moving_fg", "all"])
def test_parts_equal_the_whole(cfg: CfgNode, normalizer: str) -> None:
    cfg.MODEL.FCOS.LOSS_NORMALIZER_CLS = normalizer
    whole = step(cfg, images(4))
    assert_equal(whole, step(cfg, images(4), 2))
    assert_equal(whole, step(cfg, images(4), 3))  # of unequal size, one without objects


@pytest.mark.slow
def test_limits_on_positives_are_counted(cfg: CfgNode) -> None:
    cfg.MODEL.CONDINST.TOPK_PROPOSALS_PER_IM = 6
    assert_equal(step(cfg, images(4)), step(cfg, images(4), 4))


@pytest.mark.parametrize("name", ["build_fcos_resnet_fpn_backbone", "timm/regnetx_002"])
def test_recomputed_backbone_gives_the_same(tiny_cfg: CfgNode, name: str) -> None:
    tiny_cfg.MODEL.BACKBONE.NAME, tiny_cfg.MODEL.TIMM.NORM = name, "BN"
    batch, results = images(2), []
    for recomputed in (False, True):
        model = build(tiny_cfg)
        passes: list[str] = []
        if recomputed:
            assert recompute_backbone(model) >= 3
        stages: Any = model.backbone.bottom_up
        last = stages.get_submodule(stages.stage_names[-1])
        inner = next(m for m in last.modules() if isinstance(m, nn.Conv2d))
        inner.register_forward_hook(lambda *_, seen=passes: seen.append("pass"))
        sum(model(batch).values()).backward()  # type: ignore[union-attr]
        assert len(passes) == 1 + recomputed
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((gradients, model.state_dict()))
    for a, b in zip(*results, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(value, b[key]) for key, value in a.items())
