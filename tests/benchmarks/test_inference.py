"""What the table of inference says of a way that the machine cannot go; nothing is measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import inference

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
    times = {"reference fp32": [2.0, 4.0, 3.0], "inference copy fp32": [1.0, 2.0, 1.5]}
    none = "0/0 found, 0.0e+00 of pixels differ"
    assert inference.rows(times, {name: [] for name in times}, refused) == [
        ("reference fp32", "3.000", "2.000 to 4.000", "1.00", none, ""),
        ("inference copy fp32", "1.500", "1.000 to 2.000", "2.00", none, ">= 2.5"),
        (
            "the same with Winograd",
            "",
            "",
            "",
            "not on this machine: could not create a primitive",
            "",
        ),
        ("inference copy bf16", "", "", "", f"not on this machine: {REASON}", ""),
    ]
