"""How far is the model from the numbers recorded of both public implementations?

`python -m benchmarks.equality FOLDER` prints one row for each recorded case (FOLDER holds the
``.pt`` files): the worst relative error of the loss terms, of the gradients' norms, of each of five
steps of SGD, and the share of detections that find their partner. What counts as equal: 1e-4, 1e-3,
1e-3, 98 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from detectron2.modeling import build_model
from rich.console import Console
from rich.table import Table
from torch import nn

from condinst.checkpoint.key_tables import to_peer
from condinst.checkpoint.loading import load_state
from condinst.config import load_config
from tests.condinst import parity

RECIPES = Path(__file__).parents[1] / "configs" / "CondInst"
CASES = {
    "adelaidet_r50": "MS_R_50_1x.yaml",
    "adelaidet_r50_sem": "MS_R_50_3x_sem.yaml",
    "adelaidet_r50_bifpn": "MS_R_50_BiFPN_1x.yaml",
    "epiphqny_r50": "epiphqny/R_50_1x.yaml",
}


def _model(case: parity.Case, recipe: str) -> nn.Module:
    model = build_model(load_config(RECIPES / recipe, case["options"]))
    load_state(model, case["state_dict"])
    return model


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/parity"))
    folder = parser.parse_args().folder
    if not folder.is_dir():
        print(f"{folder} is not there: the recorded cases are not part of the repository")
        return
    torch.set_num_threads(2)  # as when the cases were recorded
    table = Table("case", "losses", "gradients", "SGD, each of five steps", "detections matched")
    for name, recipe in CASES.items():
        case = torch.load(folder / f"{name}.pt", weights_only=True)
        step = parity.train_step(_model(case, recipe), case)
        gradients = to_peer(step.gradients, case["peer"]).state
        curve = parity.curve_errors(_model(case, recipe), case)
        share = parity.share_matched(parity.detect(_model(case, recipe), case), case["detections"])
        table.add_row(
            name,
            f"{step.loss_error:.0e}",
            f"{max(parity.gradient_error(gradients, case['grad_norms']), 0):.0e}",
            " ".join(f"{error:.0e}" for error in curve),
            f"{share:.1%}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
