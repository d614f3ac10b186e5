"""Every configuration key that we add to detectron2's, with its default and meaning.

The sections and names are those of the two public implementations, so their YAML files and command
lines work here. Where the two compute different things, the difference has its own key under
``MODEL.CONDINST`` (marked *peer*): AdelaiDet's value is the default, Epiphqny's is in
``condinst.config.peers.EPIPHQNY``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from condinst.config.merge import (
    Tree,
    merge_overrides,
    merge_tree,
    overrides_without,
    read_yaml,
    value_of,
    without,
)
from condinst.config.peers import EPIPHQNY, IGNORED
from condinst.data.input_config import add_input_config, input_problems
from condinst.errors import UserError
from condinst.modeling.supervision.box_keys import box_problems

logger = logging.getLogger(__name__)
META_ARCHITECTURE = "CondInst"
_PEER_META_ARCHITECTURE = "OneStageDetector"
# Keys that affect where and how fast a training runs, not its result; sections count as a whole.
WITHOUT_EFFECT = (
    "OUTPUT_DIR",
    "VERSION",
    "VIS_PERIOD",
    "TEST",
    "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.KEEP_CHECKPOINTS",
    "SOLVER.MAX_SECONDS",
)


def add_condinst_config(cfg: CfgNode) -> None:
    """Add our keys to a detectron2 config, in place."""
    _add_fcos(cfg)
    _add_condinst(cfg)
    _add_boxinst(cfg)
    _add_bifpn(cfg)
    _add_peers_backbones(cfg)
    _add_timm(cfg)
    _add_solver(cfg)
    _add_debug(cfg)
    add_input_config(cfg)


def get_cfg() -> CfgNode:
    """Detectron2's defaults and ours."""
    cfg = get_detectron2_cfg()
    add_condinst_config(cfg)
    return cfg


def memory_format(cfg: CfgNode) -> str:
    """``SOLVER.MEMORY_FORMAT``, or what ``auto`` means on ``MODEL.DEVICE``.

    Raises:
        UserError: the format is unknown.
    """
    wanted = cfg.SOLVER.MEMORY_FORMAT
    known = ("auto", "contiguous", "channels_last")
    if wanted not in known:
        raise UserError(f"SOLVER.MEMORY_FORMAT is {wanted!r}, must be one of {', '.join(known)}")
    if wanted != "auto":
        return wanted
    return "channels_last" if cfg.MODEL.DEVICE == "cpu" else "contiguous"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a recipe: ours, or an unmodified YAML file of either public implementation.

    A file whose meta architecture is ``OneStageDetector`` with masks on is one of Epiphqny's: the
    keys in which the implementations differ then take Epiphqny's values, unless the file or the
    overrides set them. Keys in ``condinst.config.peers.IGNORED`` are dropped with one warning.

    Args:
        path: the YAML file; its ``_BASE_`` is followed.
        overrides: KEY VALUE pairs that override the file. Values may be strings ("0.01", "[8,
            16]").

    Returns:
        The complete config, not frozen.

    Raises:
        UserError: the file cannot be read, or has unknown keys or values of the wrong type; all
        errors are reported together, unknown keys with the nearest existing one.
    """
    tree, unread = without(read_yaml(Path(path)), IGNORED)
    given, more = overrides_without(list(overrides), IGNORED)
    if unread or more:
        _say_ignored(tuple(dict.fromkeys(unread + more)))
    cfg = get_cfg()
    problems: list[str] = []
    if _is_epiphqny(tree, given):
        merge_tree(cfg, EPIPHQNY, problems)
    merge_tree(cfg, tree, problems)
    merge_overrides(cfg, given, problems)
    problems += input_problems(cfg) + box_problems(cfg)
    if problems:
        raise UserError(f"config {path}:\n  " + "\n  ".join(problems))
    if cfg.MODEL.META_ARCHITECTURE == _PEER_META_ARCHITECTURE:
        cfg.MODEL.META_ARCHITECTURE = META_ARCHITECTURE
    return cfg


@functools.cache
def _say_ignored(names: tuple[str, ...]) -> None:
    logger.warning("ignored, since CondInst does not read it: %s", ", ".join(names))


def _is_epiphqny(tree: Tree, overrides: Sequence[str]) -> bool:
    given = dict(zip(overrides[0::2], overrides[1::2], strict=False))
    meta = given.get("MODEL.META_ARCHITECTURE", value_of(tree, "MODEL.META_ARCHITECTURE"))
    masks = given.get("MODEL.MASK_ON", value_of(tree, "MODEL.MASK_ON"))
    return meta == _PEER_META_ARCHITECTURE and str(masks).lower() == "true"


def _add_fcos(cfg: CfgNode) -> None:
    """MODEL.FCOS: the detector, trained and decoded as FCOS."""
    cfg.MODEL.FCOS = fcos = CfgNode()
    fcos.NUM_CLASSES = 80  # foreground classes
    fcos.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # pyramid levels, fine to coarse
    fcos.FPN_STRIDES = [8, 16, 32, 64, 128]  # their strides in pixels
    fcos.SIZES_OF_INTEREST = [
        64,
        128,
        256,
        512,
    ]  # pixels; limits between the levels, one fewer than levels
    fcos.TOP_LEVELS = 2  # levels added beyond the backbone's last: 0, 1 or 2

    # Head
    fcos.NUM_CLS_CONVS = 4
    fcos.NUM_BOX_CONVS = 4
    fcos.NUM_SHARE_CONVS = 0  # convolutions before both towers
    fcos.NORM = "GN"  # GN, NaiveGN, none; BN, SyncBN: one per level
    fcos.USE_SCALE = True  # one learnable factor per level on the distances
    fcos.USE_RELU = True  # unused by both implementations: distances always pass a ReLU
    fcos.USE_DEFORMABLE = False  # the last convolution of each tower is deformable
    fcos.PRIOR_PROB = 0.01  # class probability at the start

    # Training
    fcos.CENTER_SAMPLE = True  # False: every location in the box is a candidate
    fcos.POS_RADIUS = 1.5  # strides
    fcos.LOC_LOSS_TYPE = "giou"  # iou, linear_iou, giou
    fcos.BOX_QUALITY = "ctrness"  # ctrness, iou
    fcos.LOSS_ALPHA = 0.25
    fcos.LOSS_GAMMA = 2.0
    fcos.LOSS_NORMALIZER_CLS = "fg"  # fg: positives; moving_fg: their moving mean; all: locations
    fcos.LOSS_WEIGHT_CLS = 1.0

    # Inference. The *_TRAIN keys control proposals during training, which only AdelaiDet's other
    # models use.
    fcos.THRESH_WITH_CTR = False  # True: multiply by the box quality before the threshold
    fcos.INFERENCE_TH_TRAIN = 0.05
    fcos.INFERENCE_TH_TEST = 0.05
    fcos.PRE_NMS_TOPK_TRAIN = 1000  # per level
    fcos.PRE_NMS_TOPK_TEST = 1000
    fcos.NMS_TH = 0.6
    fcos.POST_NMS_TOPK_TRAIN = 100  # per image; ties with the last one stay
    fcos.POST_NMS_TOPK_TEST = 100
    fcos.YIELD_PROPOSAL = False  # for AdelaiDet's two-stage models; CondInst uses none
    fcos.YIELD_BOX_FEATURES = False  # likewise


def _add_condinst(cfg: CfgNode) -> None:
    """MODEL.CONDINST: masks by conditional convolutions."""
    cfg.MODEL.CONDINST = node = CfgNode()
    node.BACKEND = "auto"  # auto, reference, numba, triton
    node.MASK_OUT_STRIDE = 4  # stride at which masks are supervised: 1, 2, 4, 8
    node.INFERENCE_STRIDE = -1  # peer: stride at which the sigmoid is taken; -1: MASK_OUT_STRIDE
    node.UPSAMPLING = (
        "aligned"  # aligned, plain (PyTorch's bilinear, the first version of Epiphqny's)
    )
    node.COORDINATES = (
        "relative"  # peer: relative (to the instance, in sizes of interest), absolute, none
    )
    node.USE_MASK_FEATURES = True  # False: the heads only see coordinates
    node.CENTER = "mass"  # peer: centre sampled around: mass (of the mask), box
    node.DICE_NUMERATOR = 0.0  # peer: added to twice the intersection
    node.DICE_DENOMINATOR = 1e-5  # peer: added to the sum of squares
    node.MAX_PROPOSALS = -1  # at most this many random positives per worker get a loss; -1: all
    node.TOPK_PROPOSALS_PER_IM = -1  # else the best per image, shared among its instances; -1: all
    node.BOTTOM_PIXELS_REMOVED = -1  # unused by both implementations; see MODEL.BOXINST

    node.MASK_HEAD = head = CfgNode()
    head.CHANNELS = 8
    head.NUM_LAYERS = 3
    head.USE_FP16 = False  # unused by both implementations; see SOLVER.AMP
    head.DISABLE_REL_COORDS = False  # True: as COORDINATES none

    node.MASK_BRANCH = branch = CfgNode()
    # peer: multi_level (levels refined and added), single_level (only the finest)
    branch.KIND = "multi_level"
    branch.IN_FEATURES = ["p3", "p4", "p5"]
    branch.OUT_CHANNELS = 8
    branch.CHANNELS = 128  # peer; -1: as the input
    branch.NUM_CONVS = 4
    branch.NORM = "BN"  # peer; fcos: as MODEL.FCOS.NORM
    branch.SEMANTIC_LOSS_ON = False


def _add_bifpn(cfg: CfgNode) -> None:
    """MODEL.BiFPN: for build_fcos_resnet_bifpn_backbone."""
    cfg.MODEL.BiFPN = bifpn = CfgNode()
    bifpn.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    bifpn.OUT_CHANNELS = 160
    bifpn.NUM_REPEATS = 6
    bifpn.NORM = ""


def _add_peers_backbones(cfg: CfgNode) -> None:
    """The peers' keys for backbones other than a plain ResNet."""
    cfg.MODEL.MOBILENET = False  # MobileNetV2 under the pyramid
    cfg.MODEL.BACKBONE.ANTI_ALIAS = False
    cfg.MODEL.RESNETS.DEFORM_INTERVAL = (
        1  # in stages with DEFORM_ON_PER_STAGE: every this many blocks
    )
    cfg.MODEL.VOVNET = vovnet = CfgNode()
    vovnet.CONV_BODY = "V-39-eSE"
    vovnet.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]
    vovnet.NORM = "FrozenBN"
    cfg.MODEL.DLA = CfgNode({"CONV_BODY": "DLA34", "NORM": "FrozenBN"})


def _add_boxinst(cfg: CfgNode) -> None:
    """MODEL.BOXINST: masks learned from boxes."""
    cfg.MODEL.BOXINST = node = CfgNode()
    node.ENABLED = False
    node.BOTTOM_PIXELS_REMOVED = 10  # rows of the original image in which colours say nothing
    node.PAIRWISE = pairwise = CfgNode()
    pairwise.ENABLED = True  # False: projection only, colours are not compared
    pairwise.SIZE = 3  # a pixel is compared with the SIZE x SIZE around it; odd
    pairwise.DILATION = 2  # steps between those, at the stride of the loss
    pairwise.WARMUP_ITERS = 10000  # steps over which the pairwise loss ramps up to its weight
    pairwise.COLOR_THRESH = 0.3  # colour similarity from which two pixels belong together
    # Objects with a mask are compared with it, the others with their box. False: masks are not read
    node.USE_MASKS = False
    node.MASK_WEIGHT = 1.0  # with USE_MASKS: of the loss of objects with a mask
    node.BOX_WEIGHT = 1.0  # with USE_MASKS: of the losses of objects with only a box


def _add_timm(cfg: CfgNode) -> None:
    """Norms of the backbones that timm builds; VoVNet and DLA have the peers' keys for it."""
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NORM = "FrozenBN"  # of timm/<model>: FrozenBN, BN, SyncBN
    cfg.MODEL.MOBILENET_NORM = "BN"  # of MobileNetV2: the same three; the peers have BN


def _add_solver(cfg: CfgNode) -> None:
    """SOLVER: what training can do beyond detectron2's keys."""
    cfg.SOLVER.OPTIMIZER = "SGD"  # SGD, AdamW
    cfg.SOLVER.AMP.DTYPE = "auto"  # float16, bfloat16; auto: float16 on CUDA, bfloat16 on CPU
    cfg.SOLVER.ACCUMULATE = 1  # micro-batches per step; their gradients are accumulated
    cfg.SOLVER.EMA = 0.0  # decay of the weights' moving average; 0: none
    cfg.SOLVER.SYNC_BN = False  # batch norms compute their statistics over all workers
    cfg.SOLVER.RECOMPUTE_BACKBONE = False  # less memory: its activations are computed twice
    cfg.SOLVER.DETERMINISTIC = False  # on a GPU too; a CPU always is
    cfg.SOLVER.NUM_THREADS = 0  # of each process on a CPU; 0: as many as it is started with
    # of convolutions: contiguous, channels_last; auto: channels_last on a CPU, else contiguous
    cfg.SOLVER.MEMORY_FORMAT = "auto"
    cfg.SOLVER.MAX_SKIPPED_STEPS = 0  # steps with a non-finite loss that are left out
    cfg.SOLVER.PATIENCE = 0  # evaluations without a better result after which to stop; 0: never
    cfg.SOLVER.KEEP_CHECKPOINTS = 2  # the newest
    cfg.SOLVER.MAX_SECONDS = 0.0  # then stop with a checkpoint to resume from; 0: no limit


def _add_debug(cfg: CfgNode) -> None:
    """DEBUG: for finding errors."""
    cfg.DEBUG = CfgNode()
    cfg.DEBUG.OVERFIT = 0  # train on only this many images
    cfg.DEBUG.DETECT_ANOMALY = False  # name the operation that produced the first NaN
    cfg.DEBUG.PROFILE = False  # write trace.json of a few steps
