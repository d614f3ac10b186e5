"""Which files of the dataset changed since ``acquire`` read them.

DVC watches files in the project. A folder elsewhere, to which ``data/raw`` only points, may change
behind its back: an annotation corrected, an image replaced.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from pipeline.acquire.manifest import digest, listing

_SHOWN = 5


def check(raw: Path) -> str:
    """Confirm that the files in a manifest have not changed since they were read.

    Args:
        raw: the folder ``data/raw``.

    Raises:
        UserError: some changed or are gone; they are listed.
    """
    changed = changed_files(raw)
    if not changed:
        return f"{raw}: no file has changed since it was read"
    shown = "".join(f"\n  {path}" for path in changed[:_SHOWN])
    more = f"\n  and {len(changed) - _SHOWN:,} more" if len(changed) > _SHOWN else ""
    raise UserError(
        f"{len(changed):,} files changed since acquire read them:{shown}{more}\n"
        "`make repro` reads them again; without make: `dvc repro --force --single-item acquire`"
    )


def changed_files(raw: Path) -> list[Path]:
    """Files outside the project that are gone or differ from when they were read.

    Annotations and labels are read again; images only if newer than the manifest or of another
    size. For folders that were searched, the file names are compared.

    Args:
        raw: the folder ``data/raw``; without a manifest nothing has changed.
    """
    path = raw / "manifest.json"
    if not path.is_file():
        return []
    manifest = json.loads(path.read_bytes())
    annotations = {split["annotations"] for split in manifest["splits"].values()}
    read_at = path.stat().st_mtime
    changed = []
    for name, entry in manifest["files"].items():
        file = Path(name)
        if not file.is_absolute():  # DVC's own output, which it watches itself
            continue
        if not file.is_file():
            changed.append(file)
            continue
        status = file.stat()
        doubtful = name in annotations or status.st_mtime > read_at
        if status.st_size != entry["bytes"] or (doubtful and digest(file) != entry):
            changed.append(file)
    return changed + _changed_sources(manifest.get("sources", {}))


def _changed_sources(sources: dict[str, Any]) -> list[Path]:
    """What data was made from: labels in other formats, a JSON of which a subset was taken."""
    entries = ((Path(name), entry) for name, entry in sources.get("files", {}).items())
    files = [file for file, entry in entries if not file.is_file() or digest(file) != entry]
    folders = [
        Path(entry["folder"])  # a file of it is new, gone or renamed
        for entry in sources.get("folders", [])
        if listing(Path(entry["folder"]), entry["suffixes"]) != entry["sha256"]
    ]
    return list(dict.fromkeys(files + folders))
