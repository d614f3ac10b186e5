"""Reading, recognising, converting and fetching weights."""

from condinst.checkpoint.convert import Conversion, convert
from condinst.checkpoint.loading import load_state, load_weights
from condinst.checkpoint.reading import load_checkpoint
from condinst.checkpoint.report import CheckpointMismatch, LoadReport
from condinst.checkpoint.zoo import WeightsRow, ZooEntry, list_weights, resolve_weights
from condinst.modeling.mask_head.layout import HeadLayout

__all__ = [
    "CheckpointMismatch",
    "Conversion",
    "HeadLayout",
    "LoadReport",
    "WeightsRow",
    "ZooEntry",
    "convert",
    "list_weights",
    "load_checkpoint",
    "load_state",
    "load_weights",
    "resolve_weights",
]
