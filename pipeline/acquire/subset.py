"""A subset of COCO 2017: chosen images, each fetched by itself instead of the big archives."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from condinst.atomic import atomic_file
from condinst.download import Patience, http
from condinst.errors import UserError
from condinst.files import images as image_files
from pipeline.acquire import archive, coco2017
from pipeline.acquire.coco2017 import Archive
from pipeline.acquire.manifest import SplitPaths
from pipeline.acquire.mirror import REMEDY, resolve
from pipeline.disk import check_space
from pipeline.params import Subset

CONNECTIONS = 16

_IMAGE_BYTES = 200_000  # COCO's have 163,000 on average
_BLOCK = 1 << 16

Record = dict[str, Any]


def fetch(
    root: Path,
    mirror: str | None,
    subset: Subset,
    folder: Path,
    *,
    archives: Sequence[Archive] = coco2017.ARCHIVES,
    patience: Patience | None = None,
) -> tuple[dict[str, SplitPaths], list[Path]]:
    """Fetch the chosen images of COCO 2017, except those already on disk.

    The annotations come as their archive, as do the images of a split that is wanted whole. COCO
    publishes no checksums for single images: each must have the length that the host states,
    decode completely, and have the size that the annotations state.

    Args:
        root: of COCO; chosen images go to ``subset/{train,val}2017`` below it.
        mirror: as for all of COCO; a host also needs ``{train,val}2017/*.jpg``.
        subset: how many, and which.
        folder: receives ``annotations/instances_{train,val}.json`` with only the chosen images.
        archives: for tests.
        patience: with the host; None: the default.

    Returns:
        The splits, and the JSONs that subsets were taken from.

    Raises:
        UserError: more images are wanted than exist, the disk is too small, the host fails, or an
            image is damaged. Complete images are kept and a later call resumes.
    """
    counts = {name: getattr(subset, name) for name in ("train", "val")}
    whole = {f"{name}2017" for name, count in counts.items() if count is None}
    wanted = [item for item in archives if item.members or whole & set(item.counts)]
    found = coco2017.fetch(root, mirror, archives=wanted, patience=patience)
    splits, files = {}, []
    for name, count in counts.items():
        if count is None:
            splits[name] = found[name]
        elif count:
            content = _cut(found[name].annotations, count, subset, f"dataset.subset.{name}")
            images = _complete(found[name].images, content["images"])
            if images is None:
                images = root / "subset" / f"{name}2017"
                _bring(content["images"], images, resolve(mirror or coco2017.HOST), patience)
            path = folder / "annotations" / f"instances_{name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, separators=(",", ":")))
            splits[name] = SplitPaths(path, images)
            files.append(found[name].annotations)
    return splits, files


def _cut(annotations: Path, count: int, subset: Subset, key: str) -> Record:
    """The annotations of the chosen images, categories untouched."""
    from condinst.annotations.reading import read_coco

    content = read_coco(annotations)
    images = sorted(content["images"], key=lambda image: image["id"])
    if count > len(images):
        raise UserError(f"{key}: is {count:,}, COCO has {len(images):,}; null takes all")
    order: list[int] = list(range(len(images)))
    if subset.order == "seed":
        order = np.random.default_rng(subset.seed).permutation(len(images)).tolist()
    chosen = [images[place] for place in sorted(order[:count])]
    ids = {image["id"] for image in chosen}
    kept = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return {**content, "images": chosen, "annotations": kept}


def _complete(folder: Path, images: list[Record]) -> Path | None:
    """The folder, if all of the images are in it."""
    return folder if all((folder / image["file_name"]).is_file() for image in images) else None


def _bring(
    images: list[Record], target: Path, origin: str | Path, patience: Patience | None
) -> None:
    """Get the missing images, from a host or from a folder's images or archive."""
    name = target.name
    missing = [image for image in images if not (target / image["file_name"]).is_file()]
    if not missing:
        return
    check_space(target, len(missing) * _IMAGE_BYTES, f"{len(missing):,} images of {name}")
    target.mkdir(parents=True, exist_ok=True)
    if isinstance(origin, str):
        asyncio.run(_Fetching(f"{origin}/{name}", target, patience or Patience()).run(missing))
        return
    zipped = origin / "zips" / f"{name}.zip"
    if not zipped.is_file():
        raise UserError(f"dataset.mirror: {origin} has neither all of {name}/ nor zips/{name}.zip")
    archive.unpack(zipped, target.parent, [f"{name}/{image['file_name']}" for image in missing])


class _Fetching:
    """Fetches images concurrently; an image appears under its name when it is complete."""

    def __init__(self, address: str, target: Path, patience: Patience) -> None:
        self.address, self.target, self.patience = address, target, patience

    async def run(self, images: list[Record]) -> None:
        """Fetch all; the first one that fails ends it, what has arrived is kept."""
        waiting = list(images)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ) as progress:
            task = progress.add_task(f"Fetching images of {self.target.name}", total=len(images))

            async def work(session: aiohttp.ClientSession) -> None:
                while waiting:
                    await self._fetch(session, waiting.pop(0))
                    progress.advance(task)

            async with http.session(self.patience) as session:
                await http.gather(*(work(session) for _ in range(CONNECTIONS)))

    async def _fetch(self, session: aiohttp.ClientSession, image: Record) -> None:
        url, problem = f"{self.address}/{image['file_name']}", ""
        for _ in range(2):
            content = bytearray()
            await http.patiently(
                url,
                self.patience,
                lambda into=content: self._receive(session, url, into),
                1,
                REMEDY,
            )
            problem = await asyncio.to_thread(_problem, bytes(content), image)
            if not problem:
                path = self.target / image["file_name"]
                with atomic_file(path) as part:
                    part.write_bytes(content)
                return
        raise UserError(
            f"{url}: {problem}, twice; it was deleted, what else has arrived is kept. Run it "
            f"again, or {REMEDY}"
        )

    async def _receive(self, session: aiohttp.ClientSession, url: str, into: bytearray) -> int:
        """One attempt, from the first byte; the client itself notices missing bytes."""
        into.clear()
        async with session.get(url) as answer:
            http.check_status(answer)
            async for block in http.blocks(answer, self.patience, 1 << 30, _BLOCK):
                into += block
        return 1


def _problem(content: bytes, image: Record) -> str:
    """What is wrong with an image that arrived; empty if nothing."""
    said = (image["width"], image["height"])
    try:
        with image_files.opened(io.BytesIO(content), "it") as opened:
            opened.load()
            size = opened.size
    except UserError as error:
        return f"what arrived is not a complete image ({error})"
    if size not in (said, said[::-1]):  # rotated by EXIF
        return f"has {size[0]} x {size[1]} pixels, the annotations say {said[0]} x {said[1]}"
    return ""
