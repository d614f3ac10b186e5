"""What training reads: a memory-mapped index of COCO data, images, and the mapper that augments."""

from condinst.data.images import read_oriented
from condinst.data.index import Index, open_index
from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.registration import register_index

__all__ = [
    "CondInstDatasetMapper",
    "Index",
    "open_index",
    "read_oriented",
    "register_index",
]
