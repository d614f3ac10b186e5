"""Compile every kernel for an A100 and an H100, without one; prints their names.

Argument: cache folder.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TRITON_CACHE_DIR"] = sys.argv[1]

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from condinst.modeling.mask_head import triton_box_kernels as box_kernels
from condinst.modeling.mask_head import triton_kernels as kernels

FLOATS = ("params", "frames", "logits", "gradients", "corners", "of_features", "of_params")
FLOATS += ("best", "on_down", "on_across", "on_pairs")
TYPES = {
    **dict.fromkeys(FLOATS, "*fp32"),
    **dict.fromkeys(("images", "targets", "order", "starts"), "*i64"),
    **dict.fromkeys(("scale_y", "scale_x"), "fp32"),
    "features": "*bf16",
    **dict.fromkeys(("at", "offsets", "down_at", "across_at"), "*i32"),
    "spans": "*i64",
    **dict.fromkeys(("masks", "alike"), "*u8"),
}
NETWORK = {"C": 2, "COORDS": 2, "W": 2, "D": 3, "N": 17, "P": 128}
GRID = {"F": 2, "SHIFT": 0.5, "P": 128}


def compile_for_gpu(kernel: Any, out: str, constants: dict[str, object]) -> None:
    types = {"out": out, **TYPES}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in kernel.arg_names
    }
    indexed = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, constexprs=indexed)
    for capability in (80, 90):
        triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(kernel.__name__)


compile_for_gpu(kernels.logits_kernel, "*fp32", NETWORK)
compile_for_gpu(kernels.sums_kernel, "*fp32", GRID)
compile_for_gpu(kernels.sums_backward_kernel, "*fp32", GRID)
compile_for_gpu(kernels.network_backward_kernel, "*fp32", NETWORK)
compile_for_gpu(kernels.masks_kernel, "*u8", {**GRID, "S": 4})
compile_for_gpu(box_kernels.shadows_kernel, "", GRID)
compile_for_gpu(box_kernels.pairs_kernel, "*fp32", GRID)
compile_for_gpu(box_kernels.boxes_backward_kernel, "*fp32", GRID)
