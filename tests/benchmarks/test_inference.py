"""What the table of inference says of a way that the machine cannot go; nothing is measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import inference
from benchmarks._rows import Row

REASON = "bf16 path needs avx512bw"


class Model:
    """Finds nothing."""

    device = torch.device("cpu")

    def __call__(self, entries: list[Any]) -> list[dict[str, list[Any]]]:
        return [{"instances": []} for _ in entries]


def copied(_: Any, precision: str = "fp32", winograd: bool = False) -> Model:
    if winograd:
        raise RuntimeError("could not create a primitive\nand more of its words")
    return Model()


def test_a_row_that_a_machine_cannot_do_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = {torch.float32: None, torch.bfloat16: REASON}
    monkeypatch.setattr(inference, "refusal", refusals.__getitem__)
    monkeypatch.setattr(inference, "inference_copy", copied)
    models, refused = inference.ways(Model(), {})
    assert list(models) == ["reference fp32", "inference copy fp32"]
    taken = {"reference fp32": [2.0, 4.0, 3.0], "inference copy fp32": [1.0, 2.0, 1.5]}
    found = {name: [] for name in taken}
    reference, copy, *others = inference.whole(inference.Size(), taken, found, refused, 8e9)
    assert (reference.seconds, reference.against, reference.flops) == ([2.0, 4.0, 3.0], "", 8e9)
    assert reference.note == "0 detections"
    assert (copy.seconds, copy.against) == ([1.0, 2.0, 1.5], "reference fp32")
    assert (copy.limit, copy.goal) == ("cpu fp32", ">= 2.5 times")
    assert copy.note == "0/0 found, 0.0e+00 of pixels differ"
    table = "Inference, R-50, one image of 800 x 1216, cpu"
    assert others == [
        Row(table, "the same with Winograd", refused="could not create a primitive"),
        Row(table, "inference copy bf16", refused=REASON),
    ]
