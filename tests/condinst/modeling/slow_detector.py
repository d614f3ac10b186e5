"""A detector whose masks are learned by `slow_boxinst`, beside one that learns by our code."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from detectron2.structures import BitMasks
from torch import Tensor, nn

from condinst.layers.upsampling import get_upsampling
from condinst.modeling.ground_truth import MaskSource
from condinst.modeling.mask_head.reference import mask_logits
from condinst.modeling.objectives import Heads, Losses, Scene, WarmUp
from condinst.modeling.sampling import Positives
from tests.condinst.modeling.supervision.slow_boxinst import Cells, Options, losses_of, make_image
from tests.condinst.modeling.tiny import example, tiny_model

BIFPN = (
    *("MODEL.BACKBONE.NAME", "build_fcos_resnet_bifpn_backbone", "MODEL.BiFPN.NORM", "BN"),
    *("MODEL.BiFPN.IN_FEATURES", ["res3", "res4", "res5"], "MODEL.BiFPN.OUT_CHANNELS", 32),
    *("MODEL.BiFPN.NUM_REPEATS", 1),
)
DCNI3 = (
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]),
    *("MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.RESNETS.DEFORM_INTERVAL", 3),
)


class Case(NamedTuple):
    """Options of the losses; the warm-up's length; keys of the detector beside them."""

    options: Options = Options()
    warmup: int = 0
    keys: tuple[Any, ...] = ()
    passes: int = 1


CASES = {
    "the paper's": Case(),
    "warm-up of 4, third pass": Case(warmup=4, passes=3),
    "stride 2, size 5, dilation 1, threshold 0.1": Case(Options(2, 5, 1, 0.1, 60)),
    "stride 8, dilation 1, threshold 0.5": Case(Options(8, 3, 1, 0.5, 20)),
    "stride 8, size 7, dilation 3, threshold 0": Case(Options(8, 7, 3, 0.0, 0)),
    "threshold 1, all rows removed but a few": Case(Options(8, 3, 1, 1.0, 90)),
    "RGB": Case(Options(8, channels="RGB", threshold=0.1)),
    "BiFPN": Case(Options(8), keys=BIFPN),
    "deformable, interval 3": Case(Options(8), keys=DCNI3),
    "BiFPN, deformable, stride 2": Case(Options(2, bottom=30), 2, (*BIFPN, *DCNI3)),
}


class Slow(NamedTuple):
    """A `Supervision` that follows the definition alone."""

    options: Options
    warmup: int
    passes: int
    source: MaskSource = MaskSource.BOXES
    warm_up: WarmUp | None = None

    def counts(self, chosen: Positives, scene: Scene) -> dict[str, Tensor]:
        raise NotImplementedError  # of steps in parts, which are compared with whole ones elsewhere

    def losses(self, heads: Heads, scene: Scene) -> Losses:
        boxes = torch.cat([t.boxes for t in scene.truths])
        factor = heads.spec.feature_stride // self.options.stride
        enlarge = get_upsampling(heads.spec.upsampling)
        logits = enlarge(mask_logits(heads.spec, heads.maps, heads.query)[:, None], factor)[:, 0]
        projections, pairwise, pairs = [], logits.sum() * 0, 0
        for k in range(len(logits)):
            i = int(heads.chosen.images[k])
            box = boxes[heads.chosen.instances[k]].float()
            cells = (_by_cell(logits[k].sigmoid()), _by_cell((-logits[k]).sigmoid()))
            given = (scene.images[i], scene.heights[i], box, cells, self.options)
            projection, total, count = losses_of(*given)
            projections.append(projection)
            pairwise, pairs = pairwise + total, pairs + count
        factor = min(self.passes / self.warmup, 1) if self.warmup else 1.0
        return {
            "loss_prj": torch.stack(projections).mean(),
            "loss_pairwise": pairwise / max(pairs, 1) * factor,
        }


def _by_cell(x: Tensor) -> Cells:
    return {(i, j): cell for i, row in enumerate(x.unbind()) for j, cell in enumerate(row.unbind())}


def batch(case: Case) -> list[dict[str, Any]]:
    """Two images of unlike size and scale, one without an object and one whose box sticks out."""
    first = example(62, 90, [(4, 4, 41, 30), (50, 5, 70, 61)])
    second = example(40, 52, [(11, 6, 52, 33)], seed=1)
    second["instances"].gt_boxes.tensor += torch.tensor([0.3, -0.2, 0.7, 0.6])
    empty = example(40, 44, [], seed=2)
    for i, (one, height) in enumerate(((first, 124), (second, 30), (empty, 40))):
        h, w = one["image"].shape[-2:]
        one["image"], one["height"], one["width"] = make_image(h, w, 3 + i), height, w
        if len(one["instances"]):
            one["instances"].gt_masks = BitMasks(torch.zeros(len(one["instances"]), h, w).bool())
    return [first, second, empty]


def build(case: Case, backend: str) -> nn.Module:
    o = case.options
    keys = (
        *("MODEL.BOXINST.ENABLED", True, "MODEL.CONDINST.MASK_OUT_STRIDE", o.stride),
        *("MODEL.BOXINST.BOTTOM_PIXELS_REMOVED", o.bottom, "INPUT.FORMAT", o.channels),
        *("MODEL.BOXINST.PAIRWISE.SIZE", o.size, "MODEL.BOXINST.PAIRWISE.DILATION", o.dilation),
        *("MODEL.BOXINST.PAIRWISE.COLOR_THRESH", o.threshold),
        *("MODEL.BOXINST.PAIRWISE.WARMUP_ITERS", case.warmup),
        *("MODEL.CONDINST.TOPK_PROPOSALS_PER_IM", 3, "MODEL.CONDINST.BACKEND", backend),
        *("MODEL.CONDINST.MASK_BRANCH.OUT_CHANNELS", 16),
    )
    model = tiny_model(*keys, *case.keys).double()
    model.controller.weight.data *= 0.2  # masks that are not sure of themselves
    return model


def step(model: nn.Module, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two losses, and all gradients of their sum."""
    made = model(batch(case))
    losses = {name: made[name] for name in ("loss_prj", "loss_pairwise")}
    torch.stack(list(losses.values())).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {k: v.detach() for k, v in losses.items()}, gradients


def differences(case: Case, backend: str = "reference") -> tuple[float, float]:
    """Relative: of the worse loss, and of the gradients over the largest of each parameter.

    A parameter counts with at least a thousandth of the largest gradient of all.
    """
    model = build(case, backend)
    for _ in range(case.passes - 1):
        with torch.no_grad():
            model(batch(case))
    slow = build(case, "reference")
    slow.load_state_dict(model.state_dict())
    slow.supervision = Slow(case.options, case.warmup, case.passes)
    losses, gradients = step(model, case)
    assert all(x > 1e-3 for x in losses.values()), losses
    wanted, wanted_gradients = step(slow, case)
    assert gradients.keys() == wanted_gradients.keys()
    loss = max(float((losses[k] - x).abs() / x.abs().clamp(min=1e-6)) for k, x in wanted.items())
    largest = max(float(x.abs().max()) for x in wanted_gradients.values())
    assert largest > 0
    gradient = max(
        float((gradients[k] - x).abs().max()) / max(float(x.abs().max()), 1e-3 * largest)
        for k, x in wanted_gradients.items()
    )
    return loss, gradient
