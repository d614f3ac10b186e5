"""Data of COCO's size: `prepare` and its index against detectron2's loader and serialised list.

`make bench-data` does with a JSON of 118,287 images, 860,001 objects and about 450 MB; `make bench`
with a tenth of that. Every way runs in a process of its own; the peak is the system's own figure,
above what the process had before. Times are those on the CPU where both sides compute on one
thread, since a clock also counts what others do on the machine; the clock's are given beside.

Neither side looks into images: detectron2's loader never does, and the stage's check of them and
its sheets are left out here. All the rest of the stage is timed: reading, checking, statistics,
hash, index, and the copy of the annotations that evaluators read.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks._apart import apart, memory, peak_since, restart_peak
from benchmarks._rows import Row, memory_text, time_text

IMAGES, OBJECTS = 118_287, 860_001
CATEGORIES, CROWDS = 80, 0.012
_READS = 10_000

Figures = dict[str, float]


class Size(NamedTuple):
    """How many images the JSON has."""

    images: int = 12_000


SMOKE = Size(images=50)


def rows(size: Size) -> Iterator[Row]:
    """Preparing, opening, reading, and an epoch of a loader's worker."""
    logging.disable(logging.INFO)
    table = f"Data of {size.images:,} images"
    if restart_peak() is None or not Path("/proc/self/smaps_rollup").exists():
        yield Row(table, "all", refused="this system does not tell a process's own memory and peak")
        return
    with tempfile.TemporaryDirectory(prefix="data_scale_") as scratch:
        source = Path(scratch) / "instances.json"
        write_annotations(source, size.images)
        _import_both()
        table = f"{table}, JSON of {source.stat().st_size / 1e6:.0f} MB"
        (theirs,) = apart(_theirs, source)
        (ours,) = apart(_ours, source, Path(scratch) / "work")
        yield from compared(table, theirs, ours)


def compared(table: str, theirs: Figures, ours: Figures) -> Iterator[Row]:
    """The table's rows: detectron2's and ours in turn."""
    for what, time_key, peak_key, goal in (
        ("prepare, CPU time", "prepare", "prepare peak", ">= 1 times, <= 0.5 of peak"),
        ("opening in a worker", "open clock", "open memory", "<= 1 s, <= 100 MB"),
        ("reading an image's record at random", "read", "", ">= 1 times"),
        ("worker's own memory over an epoch", "", "worker growth", "<= 2 MB"),
    ):
        for side, found in (("detectron2", theirs), ("ours", ours)):
            yield Row(
                table,
                f"{what}: {side}",
                [found[time_key]] if time_key else (),
                f"{what}: detectron2" if side == "ours" else "",
                goal if side == "ours" else "",
                peak=round(found[peak_key]) if peak_key else None,
                note=_note(what, found),
            )


def _note(what: str, found: Figures) -> str:
    if what.startswith("prepare"):
        return f"{time_text(found['prepare clock'])} by the clock"
    if what.startswith("worker"):
        return f"{memory_text(found['worker start'])} to {memory_text(found['worker end'])}"
    return ""


def write_annotations(path: Path, images: int, seed: int = 0) -> None:
    """Write COCO instances with COCO's counts an image, in chance order as COCO's are."""
    rng = np.random.default_rng(seed)
    objects = round(images * OBJECTS / IMAGES)
    categories = np.arange(CATEGORIES) * 90 // CATEGORIES + 1  # ids with gaps, as COCO's
    owners = rng.integers(0, images, objects) * 4 + 9
    kinds = categories[rng.integers(0, CATEGORIES, objects)]
    crowds = rng.random(objects) < CROWDS
    outlines = [_outline(rng) for _ in range(4000)]
    runs = [_crowd(rng) for _ in range(200)]
    with path.open("w") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [], "images": [')
        file.write(", ".join(map(_image, range(images))))
        file.write('], "annotations": [')
        for k in range(objects):
            pool = runs if crowds[k] else outlines
            shape, box, area = pool[(k * 7919) % len(pool)]
            file.write(
                f'{", " if k else ""}{{"segmentation": {shape}, "area": {area}, '
                f'"iscrowd": {int(crowds[k])}, "image_id": {owners[k]}, "bbox": {box}, '
                f'"category_id": {kinds[k]}, "id": {k + 1}}}'
            )
        named = [{"supercategory": "any", "id": int(k), "name": f"class {k}"} for k in categories]
        file.write(f'], "categories": {json.dumps(named)}}}')


def _image(number: int) -> str:
    name = f"{number * 4 + 9:012d}.jpg"
    return (
        f'{{"license": 3, "file_name": "{name}", "coco_url": "http://images.example/train/{name}", '
        f'"height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45", '
        f'"flickr_url": "http://farm.example/2869/9413846304_881d5e5c3b_z.jpg", '
        f'"id": {number * 4 + 9}}}'
    )


def _outline(rng: np.random.Generator) -> tuple[str, str, float]:
    """One to three polygons, their box and area, as text."""
    parts = []
    for _ in range(1 + (rng.random() < 0.1) + (rng.random() < 0.05)):
        points = int(rng.gamma(1.3, 14)) + 4
        angles = np.sort(rng.random(points)) * 2 * np.pi
        centre, radius = rng.uniform(130, 350, 2), rng.uniform(8, 120)
        circle = np.stack((np.cos(angles), np.sin(angles)), 1)
        parts.append((centre + radius * circle * rng.uniform(0.7, 1, (points, 1))).round(2))
    low, high = np.concatenate(parts).min(0), np.concatenate(parts).max(0)
    box = np.concatenate((low, high - low)).round(2).tolist()
    text = json.dumps([part.reshape(-1).tolist() for part in parts], separators=(",", ":"))
    return text, json.dumps(box, separators=(",", ":")), round(float(np.prod(high - low)), 4)


def _crowd(rng: np.random.Generator) -> tuple[str, str, float]:
    """A region of 480 x 640 as uncompressed run lengths."""
    inside = rng.integers(20, 60, 200)
    runs = np.stack((480 - inside, inside), 1).reshape(-1)
    counts = [480 * 100, *runs.tolist(), 480 * 340]
    text = json.dumps({"counts": counts, "size": [480, 640]}, separators=(",", ":"))
    return text, "[100,420,200,60]", float(inside.sum())


def _import_both() -> None:
    """So that forks do not count it."""
    import detectron2.data.datasets.coco  # noqa: F401

    import condinst.data  # noqa: F401
    import pipeline.params
    import pipeline.prepare  # noqa: F401


def _theirs(source: Path) -> Iterator[Figures]:
    from detectron2.data import DatasetFromList
    from detectron2.data.datasets.coco import load_coco_json

    found: Figures = {}
    with _measured(found, "prepare"):
        records = DatasetFromList(load_coco_json(str(source), "/images", "coco_of_benchmark"))
    # A new process is sent the list, or loads it again.
    with _measured(found, "open"):
        pickle.loads(pickle.dumps(records))  # noqa: S301  # its own
    yield {**found, **_access(records)}


def _ours(source: Path, work: Path) -> Iterator[Figures]:
    from condinst.data.index import open_index
    from pipeline.params import load_params
    from pipeline.prepare import images as image_checks
    from pipeline.prepare import show
    from pipeline.prepare import stage as prepare

    params = load_params(Path(__file__).parent.parent / "profiles/sample.yaml")
    raw = work / "data/raw"
    raw.mkdir(parents=True)
    write_annotations(raw / "val.json", 10, seed=1)
    splits = {"train": str(source.resolve()), "val": "val.json"}
    listed = {name: {"annotations": path, "images": "images"} for name, path in splits.items()}
    manifest = {"name": "benchmark", "source": "", "splits": listed, "files": {}}
    (raw / "manifest.json").write_text(json.dumps(manifest))
    os.chdir(work)
    found: Figures = {}
    no_sheets = mock.patch.object(show, "write_sheets")
    with (
        mock.patch.object(image_checks, "look", _as_stated),
        no_sheets,
        _silent(),
        _measured(found, "prepare"),
    ):
        prepare.run(params)
    path = Path("data/prepared/train")
    for opened in apart(_opened, path):
        found |= opened
    yield {**found, **_access(open_index(path))}


def _silent() -> contextlib.AbstractContextManager[object]:
    """Without the stage's own table."""
    return contextlib.redirect_stdout(io.StringIO())


def _as_stated(images: list[dict[str, Any]], *_: object) -> list[Any]:
    """Images of the sizes that the annotations state."""
    from condinst.annotations.checks import ImageFile

    return [ImageFile(((image["width"], image["height"]),)) for image in images]


def _opened(path: Path) -> Iterator[Figures]:
    from condinst.data.index import open_index

    found: Figures = {}
    with _measured(found, "open"):
        index = open_index(path)
    assert len(index)
    yield found


def _access(records: Sequence[dict[str, Any]]) -> Figures:
    """Seconds of a read, and what a loader's worker has for itself from its start to its end."""
    order = np.random.default_rng(0).integers(0, len(records), _READS).tolist()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for number in order:
            records[number]
        seconds.append((time.process_time() - start) / _READS)
    start, end = _epoch(records)
    worker = {"worker start": start, "worker end": end, "worker growth": end - start}
    return {"read": min(seconds), **worker}


def _epoch(records: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Bytes of one of two workers that belong to it alone, early in an epoch and at its end."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        _Watched(records),  # pyrefly: ignore[bad-argument-type]  # any sequence does
        batch_size=None,
        shuffle=True,
        num_workers=2,
    )
    found = [value for worker, value in loader if worker == 0 and value]
    early = max(len(found) // 20, 1)
    return max(found[:early]), max(found[-early:])


class _Watched:
    """Reads a record, and now and then the worker's own memory."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.records, self.reads = records, 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[int, int]:
        from torch.utils.data import get_worker_info

        record = self.records[index]
        assert record["file_name"]
        self.reads += 1
        info = get_worker_info()
        assert info is not None
        return info.id, _private() if self.reads % max(len(self) // 200, 1) == 0 else 0


class _measured:
    """Notes seconds of CPU and of the clock, peak, and what stays of memory under a name."""

    def __init__(self, found: Figures, name: str) -> None:
        self.found, self.name = found, name

    def __enter__(self) -> None:
        self.before = restart_peak()
        self.start = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.found[self.name] = time.process_time() - self.start[0]
        self.found[f"{self.name} clock"] = time.perf_counter() - self.start[1]
        self.found[f"{self.name} peak"] = peak_since(self.before)
        self.found[f"{self.name} memory"] = max(memory("status", "VmRSS") - self.before, 0)


def _private() -> int:
    """Bytes of this process that no other shares."""
    return memory("smaps_rollup", "Private_Clean", "Private_Dirty")
