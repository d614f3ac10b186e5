"""Configs: every key with its default and meaning, recipes of both public implementations.

Import side effect: the meta architecture and the backbones are registered with detectron2.
"""

from condinst import modeling as _modeling  # noqa: F401 - registration
from condinst.config.keys import (
    META_ARCHITECTURE,
    WITHOUT_EFFECT,
    add_condinst_config,
    get_cfg,
    load_config,
    memory_format,
)

__all__ = [
    "META_ARCHITECTURE",
    "WITHOUT_EFFECT",
    "add_condinst_config",
    "get_cfg",
    "load_config",
    "memory_format",
]
