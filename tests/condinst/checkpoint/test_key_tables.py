from __future__ import annotations

import torch

from condinst.checkpoint.key_tables import to_ours, to_peer
from condinst.checkpoint.rows import FlatTower, Mapped, Template
from tests.condinst.checkpoint.holder import State


def _there_and_back(state: State, kind: str) -> None:
    ours = to_ours(state, kind)
    back = to_peer(ours.state, kind)
    assert not back.rest
    found = back.state | ours.rest
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_adelaidet_there_and_back(adelaidet: State) -> None:
    _there_and_back(adelaidet, "adelaidet")


def test_epiphqny_there_and_back(epiphqny: State) -> None:
    _there_and_back(epiphqny, "epiphqny")


def test_adelaidet_names(adelaidet: State) -> None:
    mapped = to_ours(adelaidet, "adelaidet")
    assert set(mapped.rest) == {"mask_head.sizes_of_interest"}
    assert "mask_head._iter" in mapped.state
    assert torch.equal(
        mapped.state["fcos_head.scales"],
        torch.cat([adelaidet[f"proposal_generator.fcos_head.scales.{i}.scale"] for i in range(5)]),
    )
    assert torch.equal(
        mapped.state["semantic_head.tower.0.0.weight"], adelaidet["mask_branch.seg_head.0.0.weight"]
    )
    assert torch.equal(mapped.state["controller.weight"], adelaidet["controller.weight"])
    assert mapped.sources["semantic_head.logits.bias"] == ("mask_branch.logits.bias",)


def test_epiphqny_names_and_order(epiphqny: State) -> None:
    mapped = to_ours(epiphqny, "epiphqny")
    assert not mapped.rest
    head = "proposal_generator.fcos_head."
    for ours, theirs in {
        "mask_branch.tower.0.0.bias": "mask_tower.0.bias",
        "mask_branch.tower.1.0.weight": "mask_tower.3.weight",
        "mask_branch.tower.1.1.weight": "mask_tower.4.weight",
        "mask_branch.tower.2.weight": "mask.weight",
    }.items():
        assert torch.equal(mapped.state[ours], epiphqny[head + theirs])
    bias = epiphqny[f"{head}controller.bias"]
    ours = mapped.state["controller.bias"]
    assert torch.equal(ours[:10], bias[[8, 9, 0, 1, 2, 3, 4, 5, 6, 7]])  # x, y, then features
    assert torch.equal(ours[80:144], bias[88:152])  # weights of the second layer
    assert torch.equal(ours[144:152], bias[160:168])  # weights of the third
    assert torch.equal(ours[152:160], bias[80:88])  # biases of the first
    assert ours[-1] == bias[-1]


def test_tower_without_norm() -> None:
    row = FlatTower("head.mask_tower", "head.mask", "tower")
    state = {"head.mask_tower.0.weight": torch.ones(1), "head.mask_tower.2.weight": torch.ones(2)}
    mapped = Mapped(rest=state | {"head.mask.weight": torch.ones(3)})
    row.to_ours(mapped, None)
    assert set(mapped.state) == {"tower.0.0.weight", "tower.1.0.weight", "tower.2.weight"}
    back = Mapped(rest=mapped.state)
    row.to_peer(back, None)
    assert set(back.state) == {*state, "head.mask.weight"}


def test_template_counts_and_repeats() -> None:
    row = Template("stage{s+2}.OSA{s+2}_{b+1}.x.", "stages.{s}.blocks.{b}.y.")
    names = ["stage3.OSA3_2.x.weight", "stage3.OSA4_2.x.weight", "stage1.OSA1_1.x.weight"]
    mapped = Mapped(rest={name: torch.ones(1) for name in names})
    row.to_ours(mapped, None)
    assert mapped.sources == {"stages.1.blocks.1.y.weight": ("stage3.OSA3_2.x.weight",)}
    assert set(mapped.rest) == set(names[1:])  # contradicts itself; below the first
