"""Identities of trainings and evaluations: equal ones give equal results on one kind of CPU.

An identity has four parts: settings, data, our code and the versions of the packages it uses. Its
key, a hash of them, finds earlier results; the parts themselves explain why there is none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.closure import OBSERVERS, ROOT, closure, fingerprints

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FILE = "identity.json"
_TRAINING = "pipeline.train.job"
_EVALUATION = "pipeline.evaluate.stage"
# Affect nothing in a training beyond what its identity already has, or evaluate during it.
_BY_VALUE = ("pipeline.recipe",)  # its result is the config, every value of which counts
_MEASURING = ("condinst.evaluation",)
# Name -> distributions that provide it; all of them affect results.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "detectron2": ("detectron2", "sal-detectron2"),
    "timm": ("timm",),
    "numpy": ("numpy",),
    "numba": ("numba",),
    "pycocotools": ("pycocotools",),
    "pillow": ("pillow",),
    "opencv": ("opencv-python-headless", "opencv-python"),
}
_EVALUATORS: Mapping[str, tuple[str, ...]] = {"hotcoco": ("hotcoco",)}
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Identity:
    """Everything that affects a result.

    Attributes:
        settings: dotted key -> value as text.
        data: hash of the prepared data.
        code: module -> fingerprint of its code.
        versions: package -> version.
    """

    settings: Mapping[str, str]
    data: str
    code: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def key(self) -> str:
        """16 hexadecimal digits."""
        return digest(dataclasses.asdict(self))

    def asks_the_same(self, other: Identity) -> bool:
        """Whether only code and versions may differ."""
        return (self.settings, self.data) == (other.settings, other.data)

    def changes_since(self, former: Identity) -> list[str]:
        """What differs, in readable form: ``torch 2.13.0, now 2.14.1``."""
        found = [
            f"{name} {former.versions.get(name, 'absent')}, now {self.versions.get(name, 'absent')}"
            for name in _differing(self.versions, former.versions)
        ]
        modules = [f"{name.replace('.', '/')}.py" for name in _differing(self.code, former.code)]
        if modules:
            found.append(f"other code in {_few(modules)}")
        found += _few_of(
            f"{key} {former.settings.get(key, 'absent')}, now {self.settings.get(key, 'absent')}"
            for key in _differing(self.settings, former.settings)
        )
        if self.data != former.data:
            found.append("other data")
        return found


def of_training(
    cfg: CfgNode,
    data_hash: str,
    *,
    processes: int | str = 1,
    eval_period: int = 0,
    measuring: Mapping[str, object] | None = None,
) -> Identity:
    """The identity of a training.

    Args:
        cfg: the resolved config.
        data_hash: of the prepared data.
        processes: they share a step's images, so batch statistics depend on their number.
        eval_period: steps between evaluations during training; these choose the best weights, so
            with them the evaluation code counts too.
        measuring: settings of those evaluations.
    """
    from condinst.engine.agreement import deciding_keys

    settings = deciding_keys(cfg)
    weights = cfg.MODEL.WEIGHTS
    if weights and Path(weights).is_file():
        settings["MODEL.WEIGHTS"] = file_hash(Path(weights))
    settings |= {"processes": str(processes), "eval_period": str(eval_period)}
    if eval_period:
        settings |= {f"evaluate.{key}": str(value) for key, value in (measuring or {}).items()}
    return Identity(settings, data_hash, training_code(measures=eval_period > 0), versions())


def of_evaluation(settings: Mapping[str, object], data_hash: str, *, threads: int = 0) -> Identity:
    """The identity of an evaluation of given weights.

    Args:
        settings: section ``evaluate`` of params.yaml.
        data_hash: of the prepared data.
        threads: number used on a CPU; 0 on a GPU.
    """
    plain = {f"evaluate.{key}": str(value) for key, value in settings.items()}
    plain["threads"] = str(threads)
    return Identity(plain, data_hash, measuring_code(), {**versions(), **versions(_EVALUATORS)})


def training_code(*, measures: bool = False, root: Path = ROOT) -> dict[str, str]:
    """Module -> fingerprint, of all modules that affect weights.

    Args:
        measures: whether evaluations during training choose among them.
        root: folder of our packages.
    """
    left_out = (*OBSERVERS, *_BY_VALUE, *(() if measures else _MEASURING))
    return fingerprints(closure(_TRAINING, root=root, without=left_out))


def measuring_code(root: Path = ROOT) -> dict[str, str]:
    """Module -> fingerprint, of all modules that affect the evaluation of given weights.

    Args:
        root: folder of our packages.
    """
    return fingerprints(closure(_EVALUATION, root=root))


def code_hash() -> str:
    """Identifies the code that training runs, and the versions of the packages it uses."""
    return digest([training_code(), versions()])


def versions(packages: Mapping[str, Iterable[str]] = _PACKAGES) -> dict[str, str]:
    """Package -> version; ``absent`` if it is not installed."""
    return {name: _version(distributions) for name, distributions in packages.items()}


def explanation(now: Identity, folder: Path, last: str = "", done: str = "trained") -> str:
    """Why no earlier result can be reused, in a sentence; empty if there is no similar one.

    Args:
        now: the requested identity.
        folder: has earlier results, each in a folder with its identity.
        last: name of the last requested one; mentioned if no other has the same settings.
        done: what was done with it.
    """
    files = sorted(folder.glob(f"*/{FILE}"), key=lambda path: -path.stat().st_mtime_ns)
    former = [one for one in map(load, files) if one is not None and one.key != now.key]
    alike = [one for one in former if one.asks_the_same(now)]
    asked_last = load(folder / last / FILE) if last else None
    alike += [one for one in former if one == asked_last]
    if not alike:
        return ""
    return f"{done} before with {'; '.join(now.changes_since(alike[0]))}: this is done again"


def load(path: Path) -> Identity | None:
    """An identity stored as JSON; None if it is missing or damaged."""
    try:
        return Identity(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def digest(value: object) -> str:
    """16 hexadecimal digits that identify plain values."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """The file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(distributions: Iterable[str]) -> str:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "absent"


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    return [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]


def _few_of(texts: Iterable[str]) -> list[str]:
    found = list(texts)
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], *([f"and {more} more settings"] if more > 0 else [])]


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
