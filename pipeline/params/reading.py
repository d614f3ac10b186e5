"""From params.yaml to checked parameters: read once, all faults reported together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from pipeline.params import grid, rules, schema, yamlfile
from pipeline.params.schema import KeyFault
from pipeline.params.sections import Params

# Keys of a section under their former names, which older files have.
_FORMER = {"train": {"insist": "skip_preflight"}}


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads and checks a params file.

    Args:
        path: The file.

    Returns:
        The parameters.

    Raises:
        UserError: If the file is missing, is not YAML, or has faults; all of them are listed.
    """
    document = yamlfile.read(Path(path))
    return parse_params(document.value, source=str(path), lines=document.lines)


def parse_params(
    value: object, source: str = "params", lines: Mapping[str, int] | None = None
) -> Params:
    """Checks plain values, as read from a YAML file, and builds the parameters.

    Args:
        value: The mapping.
        source: Its name in messages.
        lines: Line of each dotted key, if known.

    Raises:
        UserError: If there are faults; all of them are listed.
    """
    faults: list[KeyFault] = []
    params = schema.read(Params, _renamed(value), "", faults)
    if params is not None:
        params = _with_grids(params, faults)
        faults += rules.check(params, {fault.key for fault in faults})
    if params is None or faults:
        raise UserError(_describe(faults, source, lines or {}))
    return params


def _renamed(value: object) -> object:
    """Values with today's names of keys; a file that has both is told of the former one."""
    if not isinstance(value, Mapping):
        return value
    found = dict(value)
    for section, names in _FORMER.items():
        given = found.get(section)
        if isinstance(given, Mapping):
            former = {old: name for old, name in names.items() if name not in given}
            found[section] = {former.get(key, key): entry for key, entry in given.items()}
    return found


def _with_grids(params: Params, faults: list[KeyFault]) -> Params:
    """Expand every study's grid, if the study could be read."""
    if not isinstance(params.ablations, Mapping):  # missing: among the faults
        return params
    faulty = [fault.key for fault in faults]
    studies = dict(params.ablations)
    for name, study in params.ablations.items():
        key = f"ablations.{name}"
        if not any(f"{fault}.".startswith((f"{key}.", "ablations..")) for fault in faulty):
            studies[name] = grid.expand(study, key, faults)
    return dataclasses.replace(params, ablations=studies)


def as_dict(params: Params) -> dict[str, Any]:
    """The parameters as plain values, ready for YAML or JSON; `parse_params` reads them back."""
    return _plain(params)


def override(params: Params, changes: Mapping[str, Any]) -> Params:
    """Parameters with some changed, for an ablation's variant or a sweep's trial.

    Args:
        params: The parameters to start from.
        changes: `train.*` and `model.*` keys, and detectron2 keys, which go to `model.overrides`.

    Raises:
        UserError: If a key or value is not allowed.
    """
    faults = rules.check_changes(changes, "")
    if faults:
        raise UserError(_describe(faults, "the changed parameters", {}))
    sections: dict[str, dict[str, Any]] = {"train": {}, "model": {}}
    keys = dict(params.model.overrides)
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section in sections:
            sections[section][name] = value
        else:
            keys[key] = value
    sections["model"]["overrides"] = keys
    changed = {
        name: dataclasses.replace(getattr(params, name), **values)
        for name, values in sections.items()
    }
    return parse_params(as_dict(dataclasses.replace(params, **changed)), "the changed parameters")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return value


def _describe(faults: list[KeyFault], source: str, lines: Mapping[str, int]) -> str:
    head = f"{source} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:"
    rows = []
    for fault in sorted(faults, key=lambda fault: lines.get(fault.key, len(lines))):
        line = lines.get(fault.key)
        where = f" (line {line})" if line else ""
        rows.append(f"  {fault.key or 'the file'}{where}: {fault.problem}")
    return "\n".join([head, *rows])
