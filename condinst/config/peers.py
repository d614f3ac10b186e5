"""What the public implementations' configs hold beyond ours.

That is Epiphqny's choices, and the keys of AdelaiDet's other models.

Names and default values are facts about those projects, listed so that their files can be read
unchanged.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

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

# Sections and keys of AdelaiDet's other models. CondInst does not read them.
_OTHER_MODELS: dict[str, Any] = {
    "MODEL": {
        "MOBILENET": False,
        "BACKBONE": {"ANTI_ALIAS": False},
        "VOVNET": {
            "CONV_BODY": "V-39-eSE",
            "OUT_FEATURES": ["stage2", "stage3", "stage4", "stage5"],
            "NORM": "FrozenBN",
            "OUT_CHANNELS": 256,
            "BACKBONE_OUT_CHANNELS": 256,
        },
        "DLA": {
            "CONV_BODY": "DLA34",
            "OUT_FEATURES": ["stage2", "stage3", "stage4", "stage5"],
            "NORM": "FrozenBN",
        },
        "BASIS_MODULE": {
            "NAME": "ProtoNet",
            "NUM_BASES": 4,
            "LOSS_ON": False,
            "ANN_SET": "coco",
            "CONVS_DIM": 128,
            "IN_FEATURES": ["p3", "p4", "p5"],
            "NORM": "SyncBN",
            "NUM_CONVS": 3,
            "COMMON_STRIDE": 8,
            "NUM_CLASSES": 80,
            "LOSS_WEIGHT": 0.3,
        },
        "BLENDMASK": {
            "ATTN_SIZE": 14,
            "TOP_INTERP": "bilinear",
            "BOTTOM_RESOLUTION": 56,
            "POOLER_TYPE": "ROIAlignV2",
            "POOLER_SAMPLING_RATIO": 1,
            "POOLER_SCALES": (0.25,),
            "INSTANCE_LOSS_WEIGHT": 1.0,
            "VISUALIZE": False,
        },
        "TOP_MODULE": {"NAME": "conv", "DIM": 16},
        "BATEXT": {
            "VOC_SIZE": 96,
            "NUM_CHARS": 25,
            "POOLER_RESOLUTION": (8, 32),
            "IN_FEATURES": ["p2", "p3", "p4"],
            "POOLER_SCALES": (0.25, 0.125, 0.0625),
            "SAMPLING_RATIO": 1,
            "CONV_DIM": 256,
            "NUM_CONV": 2,
            "RECOGNITION_LOSS": "ctc",
            "RECOGNIZER": "attn",
            "CANONICAL_SIZE": 96,
            "USE_COORDCONV": False,
            "USE_AET": False,
            "EVAL_TYPE": 3,
            "CUSTOM_DICT": "",
        },
        "MEInst": {
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
            "FPN_STRIDES": [8, 16, 32, 64, 128],
            "PRIOR_PROB": 0.01,
            "INFERENCE_TH_TRAIN": 0.05,
            "INFERENCE_TH_TEST": 0.05,
            "NMS_TH": 0.6,
            "PRE_NMS_TOPK_TRAIN": 1000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 100,
            "POST_NMS_TOPK_TEST": 100,
            "TOP_LEVELS": 2,
            "NORM": "GN",
            "USE_SCALE": True,
            "THRESH_WITH_CTR": False,
            "LOSS_ALPHA": 0.25,
            "LOSS_GAMMA": 2.0,
            "SIZES_OF_INTEREST": [64, 128, 256, 512],
            "USE_RELU": True,
            "USE_DEFORMABLE": False,
            "LAST_DEFORMABLE": False,
            "TYPE_DEFORMABLE": "DCNv1",
            "NUM_CLS_CONVS": 4,
            "NUM_BOX_CONVS": 4,
            "NUM_SHARE_CONVS": 0,
            "CENTER_SAMPLE": True,
            "POS_RADIUS": 1.5,
            "LOC_LOSS_TYPE": "giou",
            "MASK_ON": True,
            "IOU_THRESHOLDS": [0.5],
            "IOU_LABELS": [0, 1],
            "AGNOSTIC": True,
            "WHITEN": True,
            "SIGMOID": True,
            "NUM_MASK_CONVS": 4,
            "DIM_MASK": 60,
            "MASK_SIZE": 28,
            "PATH_COMPONENTS": (
                "datasets/coco/components/"
                "coco_2017_train_class_agnosticTrue_whitenTrue_sigmoidTrue_60.npz"
            ),
            "FLAG_PARAMETERS": False,
            "MASK_LOSS_TYPE": "mse",
            "USE_GCN_IN_MASK": False,
            "GCN_KERNEL_SIZE": 9,
            "LOSS_ON_MASK": False,
        },
        "SOLOV2": {
            "INSTANCE_IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "FPN_INSTANCE_STRIDES": [8, 8, 16, 32, 32],
            "FPN_SCALE_RANGES": ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
            "SIGMA": 0.2,
            "INSTANCE_IN_CHANNELS": 256,
            "INSTANCE_CHANNELS": 512,
            "NUM_INSTANCE_CONVS": 4,
            "USE_DCN_IN_INSTANCE": False,
            "TYPE_DCN": "DCN",
            "NUM_GRIDS": [40, 36, 24, 16, 12],
            "NUM_CLASSES": 80,
            "NUM_KERNELS": 256,
            "NORM": "GN",
            "USE_COORD_CONV": True,
            "PRIOR_PROB": 0.01,
            "MASK_IN_FEATURES": ["p2", "p3", "p4", "p5"],
            "MASK_IN_CHANNELS": 256,
            "MASK_CHANNELS": 128,
            "NUM_MASKS": 256,
            "NMS_PRE": 500,
            "SCORE_THR": 0.1,
            "UPDATE_THR": 0.05,
            "MASK_THR": 0.5,
            "MAX_PER_IMG": 100,
            "NMS_TYPE": "matrix",
            "NMS_KERNEL": "gaussian",
            "NMS_SIGMA": 2,
            "LOSS": {
                "FOCAL_USE_SIGMOID": True,
                "FOCAL_ALPHA": 0.25,
                "FOCAL_GAMMA": 2.0,
                "FOCAL_WEIGHT": 1.0,
                "DICE_WEIGHT": 3.0,
            },
        },
        "FCPOSE_ON": False,
        "FCPOSE": {
            "ATTN_LEN": 2737,
            "DYNAMIC_CHANNELS": 32,
            "MAX_PROPOSALS": 70,
            "PROPOSALS_PER_INST": 70,
            "LOSS_WEIGHT_KEYPOINT": 2.5,
            "FOCAL_LOSS_ALPHA": 0.25,
            "FOCAL_LOSS_GAMMA": 2.0,
            "GT_HEATMAP_STRIDE": 2,
            "SIGMA": 1,
            "HEATMAP_SIGMA": 1.8,
            "HEAD_HEATMAP_SIGMA": 0.01,
            "DISTANCE_NORM": 12.0,
            "LOSS_WEIGHT_DIRECTION": 9.0,
            "BASIS_MODULE": {
                "NUM_BASES": 32,
                "CONVS_DIM": 128,
                "COMMON_STRIDE": 8,
                "NUM_CLASSES": 17,
                "LOSS_WEIGHT": 0.2,
                "BN_TYPE": "SyncBN",
            },
        },
    },
    "INPUT": {
        "HFLIP_TRAIN": True,  # read by AdelaiDet's mapper only: see INPUT.RANDOM_FLIP
        "IS_ROTATE": False,
        "CROP": {"CROP_INSTANCE": True},
    },
}


def add_other_models_config(cfg: CfgNode) -> None:
    """Add the keys of AdelaiDet's other models, in place."""
    _add(cfg, _OTHER_MODELS)


def _add(cfg: CfgNode, tree: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, dict):
            if key not in cfg:
                cfg[key] = CfgNode()
            _add(cfg[key], value)
        else:
            cfg[key] = value
