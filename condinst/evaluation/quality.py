"""How well single images came out, to find the best and the worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condinst.evaluation import accumulating
from condinst.evaluation.matching import Matches
from condinst.evaluation.scores import Accumulated, summarise


@dataclass(frozen=True)
class ImageQuality:
    """One image.

    Attributes:
        image_id: Its id.
        objects: Objects to be found.
        detections: Detections made, of any score.
        ap: AP in percent of this image alone, all its detections in one ranking whatever their
            category, so that false alarms of any category count; None without objects.
        ap50: Likewise at IoU 0.50.
    """

    image_id: int
    objects: int
    detections: int
    ap: float | None
    ap50: float | None


def image_qualities(matches: Matches) -> tuple[ImageQuality, ...]:
    """The quality of every image, in the order of `matches.image_ids`."""
    images = len(matches.image_ids)
    found = accumulating.accumulate(
        accumulating.group_events(matches, by="image"), np.ones(images, dtype=np.int64)
    )
    counted = matches.object_counts[:, 0]
    objects = np.bincount(matches.object_image[counted], minlength=images)
    detections = np.bincount(matches.image, minlength=images)
    rows = []
    for i, image_id in enumerate(matches.image_ids):
        alone = Accumulated(found.precision[:, :, i : i + 1], found.recall[:, i : i + 1])
        numbers = summarise(alone)
        rows.append(
            ImageQuality(
                int(image_id), int(objects[i]), int(detections[i]), numbers["AP"], numbers["AP50"]
            )
        )
    return tuple(rows)
