"""Moving runs between stores as one archive, for clusters without a server.

A zip file: ``runs.json`` with params, tags, metrics and status of every run, and the runs' files
under ``files/<run id>``. Importing the same archive twice adds nothing the second time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from condinst.atomic import atomic_file
from condinst.errors import UserError
from condinst.files import jsontext, zips
from condinst.files.bounds import JSON
from pipeline.params import Tracking
from pipeline.tracking.records import FORMAT, PARENT, Record, read_records
from pipeline.tracking.run import explained, write
from pipeline.tracking.store import Store, connect

ORIGIN = "condinst.imported_from"


def export_runs(settings: Tracking, target: Path, run_ids: Sequence[str] = ()) -> int:
    """Write runs and those nested under them into an archive.

    Args:
        settings: section of params.yaml.
        target: the zip file; replaced when all is written.
        run_ids: all runs of the experiment if empty.

    Returns:
        How many runs it contains.

    Raises:
        UserError: tracking is off, the store lacks a run, or the file cannot be written.
    """
    store = _store(settings)
    with (
        atomic_file(target) as partial,
        explained(store.uri),
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        found = list(_chosen(store, run_ids))
        records = [_record(store, run) for run in found]
        archive.writestr("runs.json", json.dumps({"format": FORMAT, "runs": records}))
        for run in found:
            _add_files(store, run.info.run_id, archive)
    return len(found)


def import_runs(settings: Tracking, source: Path) -> tuple[int, int]:
    """Add an archive's runs to the store.

    Args:
        settings: section of params.yaml.
        source: what `export_runs` wrote.

    Returns:
        How many runs were added, and how many were already there.

    Raises:
        UserError: tracking is off, or the file is not such an archive.
    """
    store = _store(settings)
    kind = "an archive of `runs export`"
    with zips.opened(source, kind) as archive:
        size = archive.getinfo("runs.json").file_size
        JSON.require(2 * size, str(source), f"has a runs.json of {size:,} bytes")
        text = archive.read("runs.json")
    records = read_records(jsontext.parse(text, f"{source}: runs.json"), str(source))
    with tempfile.TemporaryDirectory() as name:
        with zips.opened(source, kind) as archive:
            files = {
                run_id: _extract(archive, f"files/{run_id}/", Path(name) / run_id)
                for run_id in (record["run_id"] for record in records)
            }
        with explained(store.uri):
            return _import(store, records, files)


def _store(settings: Tracking) -> Store:
    store = connect(settings)
    if store is None:
        raise UserError("tracking.enabled is false: there is no store; set it to true")
    return store


def _chosen(store: Store, run_ids: Sequence[str]) -> Iterator[Any]:
    """Runs with their children, each once."""
    if not run_ids:
        yield from _pages(store, "")
        return
    for run_id in run_ids:
        if not store.has(run_id):
            raise UserError(f"the store at {store.uri} has no run {run_id}")
    wanted = list(dict.fromkeys(run_ids))
    while wanted:
        run = store.client.get_run(wanted.pop(0))
        yield run
        wanted += [
            child.info.run_id
            for child in _pages(store, f"tags.`{PARENT}` = '{run.info.run_id}'")
            if child.info.run_id not in run_ids
        ]


def _pages(store: Store, query: str) -> Iterator[Any]:
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _record(store: Store, run: Any) -> dict[str, Any]:
    series = [
        [point.key, point.value, point.timestamp, point.step]
        for key in run.data.metrics
        for point in store.client.get_metric_history(run.info.run_id, key)
    ]
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "start": run.info.start_time,
        "end": run.info.end_time,
        "params": list(run.data.params.items()),
        "tags": run.data.tags,
        "metrics": series,
    }


def _add_files(store: Store, run_id: str, archive: zipfile.ZipFile) -> None:
    if not store.client.list_artifacts(run_id):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(store.client.download_artifacts(run_id, "", name))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"files/{run_id}/{path.relative_to(folder).as_posix()}")


def _import(
    store: Store, records: Sequence[Record], files: Mapping[str, list[Path]]
) -> tuple[int, int]:
    there = {
        run.data.tags.get(ORIGIN, run.info.run_id): run.info.run_id for run in _pages(store, "")
    }
    there |= {run_id: run_id for run_id in list(there.values())}
    added = 0
    for record in records:
        parent = record["tags"].get(PARENT)
        if record["run_id"] in there:
            continue
        own = files[record["run_id"]]
        there[record["run_id"]] = _add(store, record, there.get(parent, parent), own)
        added += 1
    return added, len(records) - added


def _add(store: Store, record: Record, parent: str | None, files: list[Path]) -> str:
    """Add one run, completely or not at all."""
    tags = {**record["tags"], ORIGIN: record["run_id"], **({PARENT: parent} if parent else {})}
    made = store.client.create_run(
        store.experiment_id, start_time=record["start"], tags=tags, run_name=record["name"]
    )
    run_id = made.info.run_id
    try:
        for kind in ("params", "metrics"):
            for start in range(0, len(record[kind]), 100):
                write(store.client, run_id, kind, record[kind][start : start + 100])
        for path in files:
            write(store.client, run_id, "files", {"path": str(path), "folder": None})
        write(store.client, run_id, "end", {"status": record["status"], "time": record["end"]})
    except BaseException:
        store.client.delete_run(run_id)
        raise
    return run_id


def _extract(archive: zipfile.ZipFile, prefix: str, folder: Path) -> list[Path]:
    """Extract a run's files into a folder."""
    folder.mkdir()
    for member in archive.infolist():
        if not member.filename.startswith(prefix) or member.is_dir():
            continue
        target = folder / member.filename.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return sorted(folder.iterdir())
