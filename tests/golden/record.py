"""Write the golden case: ``python -m tests.golden.record``.

Weights, images and boxes come from numpy's frozen legacy generator, so only the numbers that the
model made of them are stored. They were recorded when the model equalled every recorded case of
both public implementations (``tests/condinst/test_parity.py``): a change here is a change of what
CondInst computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model
from torch import nn

from condinst.config import load_config
from tests.condinst.descent import descend
from tests.condinst.parity import Case, detect, encode

FOLDER = Path(__file__).parent
RECIPES = FOLDER.parents[1] / "configs" / "CondInst"
CASES = {"adelaidet": "MS_R_50_3x_sem.yaml", "epiphqny": "epiphqny/R_50_1x.yaml"}
SLIM = (
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.FPN.OUT_CHANNELS", "64", "MODEL.FCOS.NUM_CLASSES", "5", "MODEL.FCOS.NORM", "GN"),
    *("MODEL.PIXEL_STD", "[57.0, 57.0, 57.0]", "MODEL.FCOS.POST_NMS_TOPK_TEST", "10"),
    *("MODEL.CONDINST.MASK_BRANCH.NUM_CONVS", "2"),
)
SIZES = ((96, 128), (90, 110))
LR = 1e-4
STEPS = 3


def slim_model(recipe: str) -> nn.Module:
    """A narrow model of a recipe with weights that depend on their names' order alone."""
    model = build_model(load_config(RECIPES / recipe, list(SLIM)))
    random = np.random.RandomState(5)
    state = model.state_dict()
    for name in sorted(state):
        tensor = state[name]
        if name.endswith(("running_var", "num_batches_tracked", "scales")):
            continue
        values = torch.from_numpy(random.standard_normal(tuple(tensor.shape))).float()
        if tensor.dim() == 4:
            gain = 0.5 if name.startswith(("controller", "fcos_head.")) else 1.4
            tensor.copy_(values * gain / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.1 * values)
        else:
            tensor.copy_(0.05 * values)
    state["fcos_head.bbox_pred.bias"].fill_(2.0)
    return model


def slim_case() -> Case:
    """Two images of noise with rectangles and discs."""
    random = np.random.RandomState(6)
    inputs = []
    for number, (h, w) in enumerate(SIZES):
        image = random.randint(0, 256, (3, h, w)).astype(np.uint8)
        y, x = np.mgrid[:h, :w]
        masks = [
            (abs(x - 40) < 22) & (abs(y - 30) < 17),
            (x - 80) ** 2 + (y - 50) ** 2 < 30**2,
            (x - 30) ** 2 + (y - 60) ** 2 < 12**2,
        ][: 3 - number]
        boxes = [[x[m].min(), y[m].min(), x[m].max() + 1, y[m].max() + 1] for m in masks]
        for index, mask in enumerate(masks):
            image[:, mask] //= index + 2
        inputs.append(
            {
                "image": torch.from_numpy(image),
                "gt_boxes": torch.tensor(np.array(boxes), dtype=torch.float32),
                "gt_classes": torch.arange(len(masks)),
                "gt_masks": torch.from_numpy(np.stack(masks)),
                "height": h * 2,
                "width": w * 2,
            }
        )
    return {"inputs": inputs}


def measure(recipe: str) -> dict[str, Any]:
    """What the model makes of the case: losses, gradient norms, SGD steps, detections."""
    case = slim_case()
    made = descend(slim_model(recipe), case, LR, STEPS)
    found = detect(slim_model(recipe), case)
    return {
        "train_losses": made.losses[0],
        "grad_norms": made.norms,
        "sgd": {"lr": LR, "losses": made.losses},
        "detections": [
            {
                "boxes": x.pred_boxes.tensor.tolist(),
                "scores": x.scores.tolist(),
                "classes": x.pred_classes.tolist(),
                "masks": [_text(encode(m)) for m in x.pred_masks],
            }
            for x in found
        ],
    }


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


if __name__ == "__main__":
    for name, recipe in CASES.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(measure(recipe), indent=1) + "\n")
