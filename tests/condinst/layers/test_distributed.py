import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm

from condinst.layers.distributed import reduce_mean


def test_one_worker_keeps_its_value_without_gradient() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    assert reduce_mean(x).item() == 3
    assert not reduce_mean(x).requires_grad


def test_workers_share_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda x: x.add_(5.0))  # the other worker's
    x = torch.tensor(3.0)
    assert reduce_mean(x).item() == 4
    assert x.item() == 3
