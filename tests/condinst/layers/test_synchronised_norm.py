from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from timm.layers import BatchNormAct2d
from torch import nn

from condinst.engine import launch
from condinst.engine.memory import synchronise_batch_norms
from condinst.errors import UserError
from condinst.layers.synchronised_norm import SynchronisedNorm, SynchronisedNormAct
from tests.condinst.engine.workers import run_workers


def test_conversion_keeps_what_a_norm_is() -> None:
    net = nn.Sequential(
        nn.BatchNorm2d(2, eps=0.5, momentum=None, dtype=torch.float64),
        nn.BatchNorm2d(2, affine=False),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.BatchNorm2d(2, device="meta").requires_grad_(False).eval(),
        BatchNormAct2d(2, act_layer=nn.SiLU),
    )
    before = copy.deepcopy(net)
    assert synchronise_batch_norms(net) == 5
    for old, new in zip(before, net, strict=True):
        assert isinstance(new, SynchronisedNorm)
        assert (new.eps, new.momentum, new.training) == (old.eps, old.momentum, old.training)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            a, b = getattr(old, name), getattr(new, name)
            assert (a is None) == (b is None), name
            if a is not None:
                assert (a.dtype, a.device, a.requires_grad) == (b.dtype, b.device, b.requires_grad)
    assert isinstance(net[4], SynchronisedNormAct)
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(net[4](x), before[4](x))  # one process: a plain norm
    assert net.state_dict().keys() == before.state_dict().keys()


def test_what_is_more_than_a_norm_is_refused() -> None:
    class Odd(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    with pytest.raises(UserError, match=r"sync_bn .*: 0 is a Odd"):
        synchronise_batch_norms(nn.Sequential(Odd(1)))


def test_statistics_cover_all_workers(tmp_path: Path) -> None:
    """Pixels 1 and 3, then 5 and 7 in the two workers: means 2 and 6, variance 1."""

    def main() -> None:
        def work() -> None:
            kinds = {"momentum": {"momentum": 0.5}, "mean": {"momentum": None}}
            kinds["bare"] = {"momentum": 0.5, "affine": False, "eps": 0.0}
            norms = nn.ModuleDict({k: nn.BatchNorm2d(1, **v) for k, v in kinds.items()})
            synchronise_batch_norms(norms)
            for norm in norms.values():
                for start in (1.0, 5.0):
                    x = torch.full((1, 1, 2, 2), start + 2.0 * comm.get_rank())
                    y = norm(x)
                path = tmp_path / f"{comm.get_rank()}.pth"
            torch.save([norms.state_dict(), y.detach()], path)

        launch(work)

    assert run_workers(main, tmp_path) == ["", ""]
    first, second = (torch.load(tmp_path / f"{i}.pth", weights_only=True) for i in (0, 1))
    state = first[0]
    # from 0: 1, then 3.5; the plain mean: 4. From 1: 1 throughout
    assert state["momentum.running_mean"].item() == pytest.approx(3.5)
    assert state["mean.running_mean"].item() == pytest.approx(4.0)
    assert state["bare.running_var"].item() == pytest.approx(1.0)
    assert state["mean.num_batches_tracked"] == 2
    assert (first[1].unique().item(), second[1].unique().item()) == (-1.0, 1.0)
