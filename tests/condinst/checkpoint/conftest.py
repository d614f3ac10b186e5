"""Small state dicts under each project's names."""

from __future__ import annotations

import pytest
import torch

from tests.condinst.checkpoint.holder import State, fill

_BACKBONE = {
    "backbone.bottom_up.stem.conv1.weight": (4, 3, 3, 3),
    "backbone.bottom_up.stem.conv1.norm.weight": (4,),
    "backbone.bottom_up.res2.0.conv1.weight": (4, 4, 1, 1),
    "backbone.fpn_lateral3.weight": (4, 4, 1, 1),
    "backbone.top_block.p6.weight": (4, 4, 3, 3),
}


def _fcos(prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}share_tower.0.weight": (4, 4, 3, 3),
        f"{prefix}cls_tower.0.weight": (4, 4, 3, 3),
        f"{prefix}cls_tower.1.weight": (4,),
        f"{prefix}bbox_tower.0.weight": (4, 4, 3, 3),
        f"{prefix}cls_logits.weight": (80, 4, 3, 3),
        f"{prefix}cls_logits.bias": (80,),
        f"{prefix}bbox_pred.weight": (4, 4, 3, 3),
        f"{prefix}ctrness.weight": (1, 4, 3, 3),
    }


_SCALES = {f"proposal_generator.fcos_head.scales.{i}.scale": (1,) for i in range(5)}


@pytest.fixture
def adelaidet() -> State:
    """A state dict as AdelaiDet saves it, semantic head and buffers included."""
    blocks = {
        f"mask_branch.{part}.0.weight": (4, 4, 3, 3) for part in ("refine.0", "refine.1", "tower.0")
    }
    state = fill(
        {
            **_BACKBONE,
            **_fcos("proposal_generator.fcos_head."),
            **_SCALES,
            **blocks,
            "mask_branch.refine.0.1.num_batches_tracked": (),
            "mask_branch.tower.1.weight": (8, 4, 1, 1),
            "mask_branch.tower.1.bias": (8,),
            "mask_branch.seg_head.0.0.weight": (4, 4, 3, 3),
            "mask_branch.logits.weight": (80, 4, 1, 1),
            "mask_branch.logits.bias": (80,),
            "controller.weight": (169, 4, 3, 3),
            "controller.bias": (169,),
            "mask_head._iter": (1,),
        }
    )
    state["mask_branch.refine.0.1.num_batches_tracked"] = torch.tensor(7)
    state["mask_head.sizes_of_interest"] = torch.tensor([64, 128, 256, 512, 1024])
    return state


@pytest.fixture
def epiphqny() -> State:
    """A state dict as Epiphqny saves it: two blocks in the mask tower instead of eight."""
    head = "proposal_generator.fcos_head."
    return fill(
        {
            **_BACKBONE,
            **_fcos(head),
            **{f"{head}mask_tower.{i}.weight": (4, 4, 3, 3) for i in (0, 3)},
            **{f"{head}mask_tower.{i}.bias": (4,) for i in (0, 3)},
            **{f"{head}mask_tower.{i}.weight": (4,) for i in (1, 4)},
            f"{head}controller.weight": (169, 4, 3, 3),
            f"{head}controller.bias": (169,),
            f"{head}mask.weight": (8, 4, 3, 3),
            f"{head}mask.bias": (8,),
            **_SCALES,
        }
    )
