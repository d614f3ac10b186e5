"""COCO annotations before training reads them: what is wrong, what can be mended, and the index."""

from condinst.annotations.building import build_index, read_coco
from condinst.annotations.checks import Checked, Picture, check_annotations
from condinst.annotations.gathering import IndexReport

__all__ = [
    "Checked",
    "IndexReport",
    "Picture",
    "build_index",
    "check_annotations",
    "read_coco",
]
