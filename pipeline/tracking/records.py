"""The runs in an archive, checked before anything is added to a store."""

from __future__ import annotations

import re
from typing import Any

from condinst.errors import UserError
from condinst.files.names import brief, is_unicode

FORMAT = 1
PARENT = "mlflow.parentRunId"
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_LARGEST = 2**63

Record = dict[str, Any]


def read_records(content: Any, place: str) -> list[Record]:
    """The runs in ``runs.json``, each after the one that it is nested under.

    Args:
        content: of the file.
        place: the archive, for messages.

    Raises:
        UserError: it is not such content, an entry is not as `runs export` writes it, an id occurs
            twice, or runs are nested in a cycle.
    """
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        raise UserError(f"{place} is not an archive of `runs export`: runs.json has no list runs")
    if content.get("format") != FORMAT:
        raise UserError(f"{place} has format {brief(content.get('format'))}, known: {FORMAT}")
    records: dict[str, Record] = {}
    for number, record in enumerate(content["runs"]):
        problem = _problem(record)
        if problem is None and record["run_id"] in records:
            problem = f"its run_id {record['run_id']} occurs before"
        if problem is not None:
            raise UserError(f"{place} is not an archive of `runs export`: run {number}: {problem}")
        records[record["run_id"]] = {"name": None, "end": None, **record}
    return _parents_first(records, place)


def _parents_first(records: dict[str, Record], place: str) -> list[Record]:
    """In their order, but with parents moved before their children."""
    ordered: dict[str, Record] = {}
    for run_id in records:
        line: list[str] = []
        following: str | None = run_id
        while following in records and following not in ordered:
            if following in line:
                raise UserError(
                    f"{place} is refused: its runs {', '.join(line[:3])} are nested in a cycle"
                )
            line.append(following)
            following = records[following]["tags"].get(PARENT)
        ordered |= {one: records[one] for one in reversed(line)}
    return list(ordered.values())


def _problem(record: Any) -> str | None:
    """Why an entry cannot be a run; None if it can."""
    if not isinstance(record, dict):
        return f"it is {brief(record)}, not a mapping"
    if not isinstance(record.get("run_id"), str) or not _ID.fullmatch(record["run_id"]):
        return f"its run_id is {brief(record.get('run_id'))}, must be letters and digits"
    if record.get("status") not in STATUSES:
        return f"its status is {brief(record.get('status'))}, must be one of {', '.join(STATUSES)}"
    name = record.get("name")
    if name is not None and not _is_text(name):
        return f"its name is {brief(name)}, must be text"
    for key in ("start", "end"):
        value = record.get(key)
        if not _is_whole(value) and not (key == "end" and value is None):
            return f"its {key} is {brief(value)}, must be milliseconds since 1970"
    tags, params, metrics = record.get("tags"), record.get("params"), record.get("metrics")
    if not isinstance(tags, dict) or not all(map(_is_text, (*tags, *tags.values()))):
        return f"its tags are {brief(tags)}, must be texts by name"
    if not isinstance(params, list) or not all(_is_param(param) for param in params):
        return f"its params are {brief(params)}, must be pairs of texts"
    bad = [m for m in metrics if not _is_metric(m)] if isinstance(metrics, list) else [metrics]
    if bad:
        return f"its metrics contain {brief(bad[0])}, must be [name, value, milliseconds, step]"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value) and "\0" not in value


def _is_whole(value: Any) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _is_param(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _is_metric(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not _is_text(value[0]):
        return False
    number = isinstance(value[1], float) or _is_whole(value[1])
    return number and _is_whole(value[2]) and _is_whole(value[3])
