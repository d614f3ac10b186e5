"""An exponential that numba's compiler turns into vector instructions.

Whoever changes it must touch `kernels.py` too: numba's cache on disk looks at the file of the
function that Python calls, not at what is compiled into it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload


@intrinsic
def _nearest(_: Any, x: Any) -> Any:
    """The whole number nearest to a float, as a float."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [args[0].type]), args)

    return x(x), generate


@intrinsic
def _two_to_the(_: Any, x: Any) -> Any:
    """2^x of a whole float32, by its exponent bits."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        whole = builder.fptosi(args[0], ir.IntType(32))
        bits = builder.shl(builder.add(whole, whole.type(127)), whole.type(23))
        return builder.bitcast(bits, ir.FloatType())

    return x(x), generate


def vector_exp(x: float) -> float:
    """e^x: within two units of the last place in float32; compiled only."""
    raise NotImplementedError


@overload(vector_exp, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _typed_exp(x: Any) -> Any:
    def double(x: Any) -> Any:
        return math.exp(min(max(x, -700.0), 700.0))

    def single(x: Any) -> Any:
        x = min(max(x, np.float32(-87)), np.float32(87))
        n = _nearest(x * np.float32(1.44269504))
        r = x - n * np.float32(0.693359375)
        r = r + n * np.float32(2.12194440e-4)
        y = np.float32(1.9875691e-4) * r + np.float32(1.3981999e-3)
        y = y * r + np.float32(8.3334519e-3)
        y = y * r + np.float32(4.1665796e-2)
        y = y * r + np.float32(1.6666666e-1)
        y = y * r + np.float32(0.5)
        y = y * r * r + r + np.float32(1)
        return y * _two_to_the(n)

    return single if x == types.float32 else double
