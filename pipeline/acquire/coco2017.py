"""COCO 2017: three archives from its host, unpacked into COCO's own layout."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from condinst import download
from condinst.download import Patience
from condinst.errors import UserError
from pipeline.acquire import archive
from pipeline.acquire.manifest import SplitPaths
from pipeline.acquire.mirror import REMEDY, resolve
from pipeline.disk import check_space

HOST = "https://s3.amazonaws.com/images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """One archive and what it must contain.

    Attributes:
        path: below the host.
        size: in bytes.
        md5: its checksum.
        unpacked: bytes of what is unpacked from it, or a little more.
        counts: what it unpacks to, below the root: a folder with its number of images, or a JSON
            with its number of annotations.
        members: to unpack; None: all.
    """

    path: str
    size: int
    md5: str
    unpacked: int
    counts: dict[str, int]
    members: tuple[str, ...] | None = None


_JSONS = {
    "annotations/instances_train2017.json": 860_001,
    "annotations/instances_val2017.json": 36_781,
}
ARCHIVES = (
    Archive(
        "annotations/annotations_trainval2017.zip",
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
        500_000_000,
        _JSONS,
        tuple(_JSONS),
    ),
    Archive(
        "zips/val2017.zip",
        815_585_330,
        "442b8da7639aecaf257c1dceb8ba8c80",
        830_000_000,
        {"val2017": 5_000},
    ),
    Archive(
        "zips/train2017.zip",
        19_336_861_798,
        "cced6f7f71b7629ddf16f17bbcfab6b2",
        19_500_000_000,
        {"train2017": 118_287},
    ),
)


def fetch(
    root: Path,
    mirror: str | None = None,
    *,
    archives: Sequence[Archive] = ARCHIVES,
    patience: Patience | None = None,
) -> dict[str, SplitPaths]:
    """Fetch COCO 2017 into a folder; files that already exist are counted and kept.

    After a failure or kill, the next call resumes. An archive is deleted once it is unpacked.

    Args:
        root: the folder.
        mirror: has ``zips`` and ``annotations`` (see :func:`mirror.resolve`), or is a folder
            with COCO unpacked, which is linked; None: COCO's own host.
        archives: for tests.
        patience: with the host; None: the default.

    Raises:
        UserError: the disk is too small, the host fails, or an archive has other content.
    """
    origin = resolve(mirror or HOST)
    if isinstance(origin, Path) and all(_complete(origin, item) for item in archives):
        return _splits(origin)
    wanted = [item for item in archives if not _complete(root, item)]
    room = [_unwritten(root, item) for item in wanted]
    # Archives are deleted once unpacked, so at most one exists beside the unpacked files.
    biggest = max((left for left, _ in room), default=0)
    check_space(root, sum(unpacked for _, unpacked in room) + biggest, "COCO 2017")
    for item in wanted:
        with _progress() as progress:
            _fetch_one(root, origin, item, progress, patience)
    return _splits(root)


def _splits(root: Path) -> dict[str, SplitPaths]:
    return {
        name: SplitPaths(root / f"annotations/instances_{name}2017.json", root / f"{name}2017")
        for name in ("train", "val")
    }


def _fetch_one(
    root: Path, origin: str | Path, item: Archive, progress: Progress, patience: Patience | None
) -> None:
    target = root / Path(item.path).name
    if isinstance(origin, Path):
        target = _verified(origin / item.path, item)
    else:
        remote = download.RemoteFile(f"{origin}/{item.path}", item.size, item.md5, remedy=REMEDY)
        task = progress.add_task(f"Fetching {target.name}", total=item.size)
        download.fetch(
            remote, target, advance=lambda count: progress.advance(task, count), patience=patience
        )
    task = progress.add_task(f"Unpacking {target.name}", total=item.unpacked)
    fresh = root / f".{target.stem}.part"
    archive.unpack(target, fresh, item.members, advance=lambda count: progress.advance(task, count))
    for name, expected in item.counts.items():
        found = _count(fresh / name)
        if found != expected:
            raise UserError(f"{target} has {found:,} entries of {name}, expected {expected:,}")
    for name in item.counts:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(root / name)
    with contextlib.suppress(OSError):  # empty folders that the members were in
        for folder in sorted((p for p in fresh.rglob("*")), reverse=True):
            folder.rmdir()
        fresh.rmdir()
    if target.parent == root:
        target.unlink()


def _verified(path: Path, item: Archive) -> Path:
    """An archive in a folder on this machine, read once.

    Raises:
        UserError: it is missing or a different one.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing; dataset.mirror needs {item.path} in it, or COCO 2017 unpacked"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != item.md5:
        raise UserError(f"{path}: md5 is {digest.hexdigest()}, expected {item.md5}; fetch it again")
    return path


def _complete(root: Path, item: Archive) -> bool:
    """Whether all of an archive is unpacked.

    Raises:
        UserError: there is something with that name, but it is incomplete.
    """
    found = {name: _count(root / name) for name in item.counts if (root / name).exists()}
    for name, count in found.items():
        if count != item.counts[name]:
            raise UserError(
                f"{root / name} has {count:,} entries, COCO 2017 has {item.counts[name]:,}; move "
                "it away to fetch it again, or use source: directory for a subset of COCO"
            )
    return len(found) == len(item.counts)


def _count(path: Path) -> int:
    if path.is_dir():
        return sum(1 for entry in path.iterdir() if entry.suffix == ".jpg")
    if not path.is_file():
        return 0
    from condinst.annotations.reading import read_coco

    try:
        return len(read_coco(path)["annotations"])
    except UserError as error:
        raise UserError(f"{error}; move it away to fetch it again") from error


def _unwritten(root: Path, item: Archive) -> tuple[int, int]:
    """Bytes still to write: of the archive, and of its unpacked content."""
    target = root / Path(item.path).name
    left = item.size - download.held(target)
    fresh = root / f".{target.stem}.part"
    unpacked = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
    return max(left, 0), max(item.unpacked - unpacked, 0)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
