"""Data of COCO's size: `prepare` and its index against detectron2's loader and serialised list.

`make bench-data` writes a JSON of 118,287 images, 860,001 objects and about 450 MB and prints each
goal with its figure; `python -m benchmarks.data_scale` does with a tenth of that. Every way runs in
a process of its own; the peak is the system's own figure, above what the process had before. Times
are those on the CPU where both sides compute on one thread, since a clock also counts what others
do on the machine; the clock's are given beside.

Neither side looks into images: detectron2's loader never does, and the stage's check of them and
its sheets are left out here. All the rest of the stage is timed: reading, checking, statistics,
hash, index, and the copy of the annotations that evaluators read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

IMAGES, OBJECTS = 118_287, 860_001
CATEGORIES, CROWDS = 80, 0.012
_READS = 10_000

Figures = dict[str, float]


class Goal(NamedTuple):
    """A line of the table."""

    what: str
    theirs: str
    ours: str
    figure: str
    goal: str
    met: bool | None


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--folder", type=Path, help="keeps the JSON for the next time")
    parser.add_argument("--only", choices=("ours", "theirs"), help="measures one side alone")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="data_scale_") as scratch:
        folder = given.folder or Path(scratch)
        source = folder / f"instances_{given.images}.json"
        if not source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_annotations(source, given.images)
        _import_both()
        work = Path(scratch) / "work"
        ways = {"theirs": (_theirs, source), "ours": (_ours, source, work)}
        found = {name: _apart(*way) for name, way in ways.items() if given.only in (None, name)}
        title = f"{given.images:,} images, JSON of {source.stat().st_size / 1e6:.0f} MB"
        if given.only:
            print(title, found)
        else:
            _show(title, goals(found["theirs"], found["ours"]))


def goals(theirs: Figures, ours: Figures) -> list[Goal]:
    """The table's lines."""
    slower = ours["prepare"] / theirs["prepare"]
    fatter = ours["prepare peak"] / theirs["prepare peak"]
    reading = ours["read"] / theirs["read"]
    growth = ours["worker end"] - ours["worker start"]
    return [
        Goal(
            "prepare: CPU time", f"{theirs['prepare']:.1f} s", f"{ours['prepare']:.1f} s",
            f"{slower:.2f} of its", "<= 1", slower <= 1,
        ),
        Goal(
            "prepare: wall-clock time", f"{theirs['prepare clock']:.1f} s",
            f"{ours['prepare clock']:.1f} s",
            f"{ours['prepare clock'] / theirs['prepare clock']:.2f} of its", "", None,
        ),
        Goal(
            "prepare: peak memory", _mb(theirs["prepare peak"]), _mb(ours["prepare peak"]),
            f"{fatter:.2f} of its", "<= 0.5", fatter <= 0.5,
        ),
        Goal(
            "opening in a worker: time", f"{theirs['open clock']:.2f} s",
            f"{ours['open clock']:.2f} s", f"{ours['open clock']:.4f} s", "<= 1 s",
            ours["open clock"] <= 1,
        ),
        Goal(
            "opening: memory", _mb(theirs["open memory"]), _mb(ours["open memory"]),
            _mb(ours["open memory"]), "<= 100 MB", ours["open memory"] <= 100e6,
        ),
        Goal(
            "reading an image's record at random", f"{theirs['read'] * 1e6:.0f} us",
            f"{ours['read'] * 1e6:.0f} us", f"{reading:.2f} of its", "<= 1", reading <= 1,
        ),
        Goal(
            "worker's own memory over an epoch",
            f"{_mb(theirs['worker start'])} to {_mb(theirs['worker end'])}",
            f"{_mb(ours['worker start'])} to {_mb(ours['worker end'])}",
            f"{growth / 1e6:+.1f} MB", "<= 2 MB", growth <= 2e6,
        ),
    ]  # fmt: skip


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


def _theirs(source: Path) -> Figures:
    from detectron2.data import DatasetFromList
    from detectron2.data.datasets.coco import load_coco_json

    found: Figures = {}
    with _measured(found, "prepare"):
        records = DatasetFromList(load_coco_json(str(source), "/images", "coco_of_benchmark"))
    # A new process is sent the list, or loads it again.
    with _measured(found, "open"):
        pickle.loads(pickle.dumps(records))  # noqa: S301  # its own
    return {**found, **_access(records)}


def _ours(source: Path, work: Path) -> Figures:
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
    found |= _apart(_opened, path)
    return {**found, **_access(open_index(path))}


def _silent() -> contextlib.AbstractContextManager[object]:
    """Without the stage's own table."""
    return contextlib.redirect_stdout(io.StringIO())


def _as_stated(images: list[dict[str, Any]], *_: object) -> list[Any]:
    """Images of the sizes that the annotations state."""
    from condinst.annotations.checks import ImageFile

    return [ImageFile(((image["width"], image["height"]),)) for image in images]


def _opened(path: Path) -> Figures:
    from condinst.data.index import open_index

    found: Figures = {}
    with _measured(found, "open"):
        index = open_index(path)
    assert len(index)
    return found


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
    return {"read": min(seconds), "worker start": start, "worker end": end}


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


def _apart(function: Callable[..., Figures], *given: Any) -> Figures:
    """What a function finds in a fork of its own."""
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: theirs.send(function(*given))
    )
    child.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        child.join()


class _measured:
    """Notes seconds of CPU and of the clock, peak, and what stays of memory under a name."""

    def __init__(self, found: Figures, name: str) -> None:
        self.found, self.name = found, name

    def __enter__(self) -> None:
        self.before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
        self.start = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.found[self.name] = time.process_time() - self.start[0]
        self.found[f"{self.name} clock"] = time.perf_counter() - self.start[1]
        self.found[f"{self.name} peak"] = _status("VmHWM") - self.before
        self.found[f"{self.name} memory"] = max(_status("VmRSS") - self.before, 0)


def _status(key: str) -> int:
    return next(_values(Path("/proc/self/status"), (key,)))


def _private() -> int:
    """Bytes of this process that no other shares."""
    return sum(_values(Path("/proc/self/smaps_rollup"), ("Private_Clean", "Private_Dirty")))


def _values(path: Path, keys: tuple[str, ...]) -> Iterator[int]:
    for line in path.read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in keys:
            yield int(rest.split()[0]) * 1024


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def _show(title: str, lines: list[Goal]) -> None:
    print(f"\n{title}\n\n| what | detectron2 | ours | figure | goal | met |")
    print("|---|---|---|---|---|---|")
    for line in lines:
        met = "" if line.met is None else "yes" if line.met else "**no**"
        print(f"| {' | '.join(line[:-1])} | {met} |")


if __name__ == "__main__":
    main()
