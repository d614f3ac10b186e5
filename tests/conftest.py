"""Fixtures that every test may use; heavy libraries are imported only inside them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline.starting import importing
from tests.condinst.download.faulty_host import Host

if TYPE_CHECKING:
    from pipeline.params import Params

REPOSITORY = Path(__file__).resolve().parent.parent
# Before torch is imported. One thread: workers side by side (make test) do not fight over the
# cores, and sums have the same bits everywhere. Tests about threads set their own number.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CONDINST_CACHE"] = str(REPOSITORY / ".pytest_cache" / "condinst")  # not the user's
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 waits for all other tests to end


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Every worker imports all test modules, and so all heavy libraries."""
    with importing():
        return (yield)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """A test's number of threads decides no other's sums."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of recorded peers' numbers and real images that lies beside the repository.

    Absent on most machines: the test is skipped, but fails in CI, where it must be there.
    """
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        reason = "the folder ../shared is not there"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def params(repository: Path) -> Params:
    """The default parameters, as params.yaml has them."""
    from pipeline.params import load_params

    return load_params(repository / "profiles" / "sample.yaml")


@pytest.fixture
def tiny_params(params: Params) -> Params:
    """The default parameters shrunk to seconds: 8 and 4 images, 3 steps, one seed, no tracking."""
    from pipeline.params import Sample

    dataset = dataclasses.replace(
        params.dataset, sample=Sample(seed=7, train_images=8, val_images=4)
    )
    train = dataclasses.replace(
        params.train,
        memory_format="channels_last",
        steps=3,
        images_per_step=2,
        warmup_steps=1,
        checkpoint_period=2,
        workers=0,
    )
    studies = {
        name: dataclasses.replace(study, steps=2) for name, study in params.ablations.items()
    }
    return dataclasses.replace(
        params,
        dataset=dataset,
        train=train,
        ablations=studies,
        compare=dataclasses.replace(params.compare, draws=20),
        report=dataclasses.replace(params.report, best=1, worst=1, random=1),
        sweep=dataclasses.replace(params.sweep, trials=2, steps=2),
        tracking=dataclasses.replace(params.tracking, enabled=False),
    )


@pytest.fixture
def host() -> Iterator[Host]:
    """A server of this machine that fails as a test asks."""
    with Host() as server:
        yield server


@dataclasses.dataclass(frozen=True)
class TinyDataset:
    """A COCO folder of one split: the JSON, the images, and the JSON's content."""

    annotations: Path
    images: Path
    content: dict[str, Any]


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    """Four 64 x 96 JPEGs: three boxes as polygons, a crowd as RLE, one image without objects.

    Category ids have a gap (1 and 7). Session-wide: do not write into it.
    """
    root = tmp_path_factory.mktemp("tiny_dataset")
    (root / "images").mkdir()
    shapes = {
        1: [(1, (8, 8, 40, 40))],
        2: [(7, (30, 10, 80, 50)), (1, (4, 40, 24, 60))],
        3: [],
        4: [],
    }
    images, annotations = [], []
    for image_id, boxes in shapes.items():
        noise = np.random.default_rng(image_id).integers(60, 120, (64, 96, 3), dtype=np.uint8)
        image_file = Image.fromarray(noise)
        draw = ImageDraw.Draw(image_file)
        for category, (x0, y0, x1, y1) in boxes:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=(220, 40 * category, 30))
            annotations.append(_box(len(annotations) + 1, image_id, category, x0, y0, x1, y1))
        image_file.save(root / "images" / f"{image_id:06d}.jpg", quality=95)
        images.append(
            {"id": image_id, "file_name": f"{image_id:06d}.jpg", "height": 64, "width": 96}
        )
    annotations.append(_crowd(len(annotations) + 1, image_id=3))
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}, {"id": 7, "name": "slab"}],
    }
    path = root / "instances.json"
    path.write_text(json.dumps(content))
    return TinyDataset(path, root / "images", content)


def _box(
    number: int, image_id: int, category: int, x0: int, y0: int, x1: int, y1: int
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
    }


def _crowd(number: int, image_id: int) -> dict[str, Any]:
    """Columns 10 to 29 of a 64 x 96 image, as uncompressed column-major RLE."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [10, 0, 20, 64],
        "area": 20 * 64,
        "iscrowd": 1,
        "segmentation": {"size": [64, 96], "counts": [640, 1280, 64 * 66]},
    }


TINY_OVERRIDES = [
    "MODEL.DEVICE", "cpu",
    "MODEL.WEIGHTS", "",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "32",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "16",
    "MODEL.RESNETS.NORM", "BN",
    "MODEL.BACKBONE.FREEZE_AT", "0",
    "MODEL.FPN.OUT_CHANNELS", "32",
    "DATALOADER.NUM_WORKERS", "0",
]  # fmt: skip


@pytest.fixture
def tiny_cfg() -> Any:
    """A CondInst of 32 channels on a narrow ResNet-50, for the CPU, from random weights."""
    from condinst.config import load_config

    return load_config(str(REPOSITORY / "configs" / "CondInst" / "MS_R_50_1x.yaml"), TINY_OVERRIDES)
