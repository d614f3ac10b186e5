"""COCO data: check it, index it for memory-mapped reading, register it, feed it to a model."""

from condinst.data.checks import Checked, Picture, check_annotations
from condinst.data.contact_sheet import contact_sheet
from condinst.data.images import read_oriented
from condinst.data.index import Index, IndexReport, build_index, open_index
from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.registration import register_index

__all__ = [
    "Checked",
    "CondInstDatasetMapper",
    "Index",
    "IndexReport",
    "build_index",
    "check_annotations",
    "contact_sheet",
    "open_index",
    "read_oriented",
    "register_index",
]
