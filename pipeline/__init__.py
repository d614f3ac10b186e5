"""The stages of an experiment, each with `run(params)`; they know DVC's layout, MLflow and Ray.

Import side effect: `condinst.errors` and the readers of texts in `condinst.files` are loaded by
themselves here. The library's package imports torch and detectron2, ten seconds that a wrong key or
`--help` should not wait for. Whoever imports the library later finds these very modules.
"""

import importlib.util
import sys
from pathlib import Path

_LIGHT = ("bounds", "names", "text", "jsontext", "yamltext")  # each after those that it needs


def _load_alone(name: str, file: str) -> None:
    if name in sys.modules:
        return
    path = Path(__file__).resolve().parent.parent / "condinst" / file
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent, _, own = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], own, module)


_load_alone("condinst.errors", "errors.py")
_load_alone("condinst.files", "files/__init__.py")
for _name in _LIGHT:
    _load_alone(f"condinst.files.{_name}", f"files/{_name}.py")
