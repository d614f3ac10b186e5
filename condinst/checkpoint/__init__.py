"""Reading, recognising, converting and fetching weights."""

from condinst.checkpoint.head_order import HeadSize
from condinst.checkpoint.loading import load_state, load_weights
from condinst.checkpoint.reading import load_checkpoint
from condinst.checkpoint.report import CheckpointMismatch, LoadReport
from condinst.checkpoint.zoo import resolve_weights

__all__ = [
    "CheckpointMismatch",
    "HeadSize",
    "LoadReport",
    "load_checkpoint",
    "load_state",
    "load_weights",
    "resolve_weights",
]
