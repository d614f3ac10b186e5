"""The normal distribution and Student's t, from scipy.special.

They are what scipy.stats calls in the end; importing that takes a second.
"""

from __future__ import annotations

from scipy import special


def normal_share(x: float) -> float:
    """Share of the standard normal distribution below ``x``."""
    return float(special.ndtr(x))


def normal_quantile(share: float) -> float:
    """Below it lies that share of the standard normal distribution."""
    return float(special.ndtri(share))


def t_quantile(share: float, freedom: float) -> float:
    """Below it lies that share of Student's t with so many degrees of freedom."""
    return float(special.stdtrit(freedom, share))


def t_tail(x: float, freedom: float) -> float:
    """Share of Student's t, with so many degrees of freedom, above ``x``."""
    return float(special.stdtr(freedom, -x))
