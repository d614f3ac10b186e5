"""The model: one file for each box of the paper's figure.

Importing this package registers the meta architecture and the backbones with detectron2.
"""

from condinst.modeling.backbone import bifpn, fpn, timm_backbone  # registration
from condinst.modeling.detector import CondInst  # registration

__all__ = ["CondInst", "bifpn", "fpn", "timm_backbone"]
