"""What it takes to read files of the public implementations unchanged.

These are Epiphqny's choices, and the names of the sections for AdelaiDet's other models.
"""

from __future__ import annotations

from typing import Any

# Epiphqny's value of every key that ``condinst.config`` marks *peer*.
EPIPHQNY: dict[str, Any] = {
    "MODEL": {
        "CONDINST": {
            "MASK_OUT_STRIDE": 1,
            "INFERENCE_STRIDE": 1,
            "COORDINATES": "absolute",
            "CENTER": "box",
            "DICE_NUMERATOR": 1.0,
            "DICE_DENOMINATOR": 1.0,
            "MASK_BRANCH": {
                "KIND": "single_level",
                "IN_FEATURES": ["p3"],
                "CHANNELS": -1,
                "NUM_CONVS": 8,
                "NORM": "fcos",
            },
        }
    }
}

# What files of the public implementations may set and CondInst does not read: whole sections of
# other models, and single keys.
IGNORED = (
    "MODEL.BASIS_MODULE",
    "MODEL.BATEXT",
    "MODEL.BLENDMASK",
    "MODEL.DLA.OUT_FEATURES",
    "MODEL.FCPOSE",
    "MODEL.FCPOSE_ON",
    "MODEL.MEInst",
    "MODEL.SOLOV2",
    "MODEL.TOP_MODULE",
    "MODEL.VOVNET.BACKBONE_OUT_CHANNELS",
    "MODEL.VOVNET.OUT_CHANNELS",
    "INPUT.HFLIP_TRAIN",  # read by AdelaiDet's mapper only: see INPUT.RANDOM_FLIP
    "INPUT.IS_ROTATE",
)
