"""Training on detectron2's loop: one function for one process, one machine and a cluster."""

from condinst.engine.batches import build_train_loader
from condinst.engine.failure import NonFiniteLossError
from condinst.engine.hooks import ConsoleProgress, CurveWriter, EvaluationHook
from condinst.engine.launch import check_gpus, launch, use_all_cores
from condinst.engine.train import TrainResult, train
from condinst.engine.trainer import RowHook, Trainer

__all__ = [
    "ConsoleProgress",
    "CurveWriter",
    "EvaluationHook",
    "NonFiniteLossError",
    "RowHook",
    "TrainResult",
    "Trainer",
    "build_train_loader",
    "check_gpus",
    "launch",
    "train",
    "use_all_cores",
]
