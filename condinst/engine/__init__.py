"""Training on detectron2's loop: one function for one process, one machine and a cluster."""

from condinst.engine.agreement import check_same
from condinst.engine.batches import build_train_loader
from condinst.engine.evaluating import EvaluationHook
from condinst.engine.failure import NonFiniteLossError, NonFiniteStateError
from condinst.engine.hooks import PROGRESS, ConsoleProgress, CurveWriter
from condinst.engine.launch import (
    check_gpus,
    count_workers,
    is_lost_connection,
    launch,
    use_all_cores,
)
from condinst.engine.limits import TimeUpError
from condinst.engine.micro_batches import saved_parts
from condinst.engine.rendezvous import torchrun_worker
from condinst.engine.train import TrainResult, train
from condinst.engine.trainer import RowHook, Trainer

__all__ = [
    "PROGRESS",
    "ConsoleProgress",
    "CurveWriter",
    "EvaluationHook",
    "NonFiniteLossError",
    "NonFiniteStateError",
    "RowHook",
    "TimeUpError",
    "TrainResult",
    "Trainer",
    "build_train_loader",
    "check_gpus",
    "check_same",
    "count_workers",
    "is_lost_connection",
    "launch",
    "saved_parts",
    "torchrun_worker",
    "train",
    "use_all_cores",
]
