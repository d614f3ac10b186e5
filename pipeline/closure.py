"""The code that a module's result depends on: our modules that it imports, directly or not.

Sources are parsed, not run, so that imports inside functions count as well. Light: no torch.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("condinst", "pipeline")

# Imported by code that affects results without affecting them: edits here cause no new training or
# evaluation.
OBSERVERS: Mapping[str, str] = {
    "condinst.atomic": "writes files atomically",
    "condinst.cores": "counts cores; the number of threads is a setting",
    "condinst.errors": "one class of exceptions",
    "pipeline.closure": "finds out what to run again",
    "pipeline.cluster": "says where work runs; it is the same work everywhere",
    "pipeline.console": "the output of the command line",
    "pipeline.disk": "checks for free disk space",
    "pipeline.identity": "finds out what to run again",
    "pipeline.layout": "says where stages find each other's outputs, as dvc.yaml does",
    "pipeline.params": "reads and checks params.yaml, whose values count themselves",
    "pipeline.runs": "names, locks and copies finished work",
    "pipeline.studies.sweep_board": "shows a sweep's trials",
    "pipeline.starting": "imports without searching for garbage",
    "pipeline.tracking": "records in MLflow what was done",
    "pipeline.train.debugging": "debug runs, which leave no result",
    "pipeline.train.options": "options of one call, besides its parameters",
    "pipeline.train.preflight": "refuses a training or lets it start",
}


def closure(
    *entries: str, root: Path = ROOT, without: Iterable[str] = OBSERVERS
) -> dict[str, Path]:
    """Our modules that the given ones depend on, including those; name -> file.

    A module's parent packages count, since they are imported with it. So do modules imported
    inside functions, and those named by a string: in ``importlib.import_module``, in
    ``pipeline.STAGES`` for its users, or wherever a string is the full name of a module or of
    something in one. Imports only for type checkers do not count.

    Args:
        entries: names of modules.
        root: folder of our packages.
        without: modules and packages that neither count nor are followed.
    """
    left_out = tuple(without)
    found: dict[str, Path] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        path = file_of(name, root)
        if path is None or name in found or _within(name, left_out):
            continue
        found[name] = path
        waiting += _parents(name)
        waiting += _imports(path, path.stat().st_mtime_ns, root)
    return dict(sorted(found.items()))


def file_of(name: str, root: Path = ROOT) -> Path | None:
    """A module's file; None if it is not one of ours."""
    parts = name.split(".")
    if parts[0] not in PACKAGES or not all(part.isidentifier() for part in parts):
        return None
    place = root.joinpath(*parts)
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in files if path.is_file()), None)


def fingerprints(modules: Mapping[str, Path]) -> dict[str, str]:
    """Module -> 16 digits for its code, without comments, docstrings or formatting."""
    return {name: _fingerprint(path, path.stat().st_mtime_ns) for name, path in modules.items()}


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _parents(name: str) -> list[str]:
    """A module's parent packages but the topmost, which have no code that affects results."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(2, len(parts) + 1)]


@cache
def _tree(path: Path, changed: int) -> ast.Module:
    """The parsed file; read again only if it has changed."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def _imports(path: Path, changed: int, root: Path) -> frozenset[str]:
    """Names of our modules that a file imports or has in a string."""
    found: set[str] = set()
    for node in _running(_tree(path, changed)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _from(node, path, root)
        elif isinstance(node, ast.Constant) and path.name != "__init__.py":
            found |= _named(node.value, root)
    return frozenset(name for name in found if name.partition(".")[0] in PACKAGES)


def _from(node: ast.ImportFrom, path: Path, root: Path) -> set[str]:
    """Modules in ``from package import a, b``; a registry's strings count for its importers."""
    base = node.module or ""
    if node.level:
        above = path.relative_to(root).parts[: -node.level]
        base = ".".join([*above, *filter(None, [base])])
    found = {base} - set(PACKAGES)
    origin = file_of(base, root)
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        if file_of(inner, root):
            found.add(inner)
        elif origin is not None and origin.name == "__init__.py":
            found |= _registry(origin, alias.name, root)
    return found


def _registry(path: Path, name: str, root: Path) -> set[str]:
    """Modules named by the strings in a package's constant."""
    for node in _tree(path, path.stat().st_mtime_ns).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            strings = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
            return set().union(*(_named(value, root) for value in strings))
    return set()


def _named(value: object, root: Path) -> set[str]:
    """The module named by a string, alone or with something in it: ``package.module.name``."""
    if not isinstance(value, str) or value.partition(".")[0] not in PACKAGES or "." not in value:
        return set()
    names = [value, value.rpartition(".")[0]]
    return set(next(([name] for name in names if "." in name and file_of(name, root)), []))


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except docstrings and those under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if _is_text(node):
            continue
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test).split("."):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_text(node: ast.AST) -> bool:
    """Whether it is a docstring, or another string on its own."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _fingerprint(path: Path, changed: int) -> str:
    return hashlib.sha256(repr(_plain(_tree(path, changed))).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """A tree as nested tuples; empty fields are left out, so that all Python versions agree."""
    if isinstance(value, list):
        return tuple(_plain(one) for one in value if not _is_text(one))
    if not isinstance(value, ast.AST):
        return value
    fields = ((name, _plain(one)) for name, one in ast.iter_fields(value))
    return (type(value).__name__, *((name, one) for name, one in fields if one not in (None, ())))
