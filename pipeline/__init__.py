"""The stages of an experiment, each with `run(params)`; they know DVC's layout, MLflow and Ray.

Import side effect: `condinst.errors` is loaded by itself here. The library's package imports torch
and detectron2, ten seconds that a wrong key or `--help` should not wait for; the error class is the
one thing of it that light parts need. Whoever imports the library later finds this very module.
"""

import importlib.util
import sys
from pathlib import Path


def _load_errors_alone() -> None:
    name = "condinst.errors"
    if name in sys.modules:
        return
    path = Path(__file__).resolve().parent.parent / "condinst" / "errors.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_load_errors_alone()
