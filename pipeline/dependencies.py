"""The code that each stage depends on, as `deps` in dvc.yaml: from imports, not by hand.

``python -m pipeline.dependencies`` writes them into dvc.yaml and pipeline/dvc.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline import STAGES
from pipeline.closure import PACKAGES, ROOT, closure

FILES = ("dvc.yaml", "pipeline/dvc.yaml")
# In the folder of a stage that does not import them; not worth listing the folder's other files.
ASIDE: Mapping[str, str] = {
    "pipeline.acquire.changes": "`acquire --check` checks what acquire has left",
}


def code_deps(stage: str, root: Path = ROOT) -> list[str]:
    """Folders and files of our code that affect a stage's result.

    A folder stands for its files if all of them do; next to single files, a package's
    ``__init__.py`` without code is left out.

    Args:
        stage: name in `STAGES`.
        root: folder of our packages.
    """
    found = closure(STAGES[stage], root=root)
    files = {path.relative_to(root) for path in found.values()}
    aside = {Path(*name.split(".")).with_suffix(".py") for name in ASIDE}
    return sorted(
        path.as_posix() for name in PACKAGES for path in _cover(root, Path(name), files, aside)
    )


def _cover(
    root: Path, folder: Path, files: Collection[Path], aside: Collection[Path]
) -> list[Path]:
    there = {path.relative_to(root) for path in (root / folder).rglob("*.py")}
    if not there & set(files):
        return []
    if str(folder) not in PACKAGES and there <= {*files, *aside}:
        return [folder]
    inner = sorted(path for path in (root / folder).iterdir() if path.is_dir())
    covers = [path for one in inner for path in _cover(root, one.relative_to(root), files, aside)]
    alone = [path for path in files if path.parent == folder and not _is_marker(root / path)]
    return [*covers, *alone]


def _is_marker(path: Path) -> bool:
    """Whether it is an ``__init__.py`` without code."""
    return (
        path.name == "__init__.py"
        and re.fullmatch(r'\s*("""[^"]*""")?\s*', path.read_text()) is not None
    )


def rewritten(text: str, root: Path = ROOT) -> str:
    """A dvc.yaml whose stages depend on the code that they import; other lines stay.

    Args:
        text: of the file, with `deps` in each of its `stages`.
        root: folder of our packages.
    """
    lines: list[str] = []
    stage, inside = "", False
    for line in text.splitlines():
        named = re.fullmatch(r"  (\w+):", line)
        stage = named[1] if named else stage
        item = re.fullmatch(r"      - (\S+)", line)
        if inside and not item:
            lines += [f"      - {path}" for path in code_deps(stage, root)]
        inside = line == "    deps:" or bool(inside and item)
        if not (inside and item and is_code(item[1])):
            lines.append(line)
    return "\n".join(lines) + "\n"


def is_code(path: str) -> bool:
    """Whether a dependency is our code, not data, a recipe or another stage's output."""
    return path.partition("/")[0] in PACKAGES


if __name__ == "__main__":
    for name in FILES:
        (ROOT / name).write_text(rewritten((ROOT / name).read_text()))
