"""From a dataset dict to a model input: read, augment, transform the ground truth along.

Letters: ``M`` objects that are not crowd regions; ``h, w`` size of the augmented image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from condinst.data.augmentation import cuts_objects, training_augmentations
from condinst.data.images import read_oriented
from condinst.data.input_config import deep_ranges
from condinst.data.masks import MaskUse
from condinst.data.resizing import resize_for_test
from condinst.files.pixels import Ranges

Record = dict[str, Any]


class CondInstDatasetMapper:
    """Maps detectron2's dataset dicts to inputs of any detectron2 instance segmenter.

    Random numbers come from numpy's global state, as in detectron2's augmentations: seeding it
    fixes the result. Records are not changed.

    Args:
        is_train: include ``instances``; otherwise only the resized image.
        augmentations: in order.
        image_format: BGR or RGB.
        masks: which masks to include.
        mask_format: ``polygon`` or ``bitmask``; an image with any run-length mask always gets
            bitmasks.
        ranges: how values of more than 8 bits are scaled, see :mod:`condinst.files.pixels`.
        cropped: take boxes from the masks where there are any, since a cut object's box is no
            longer tight.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation],
        image_format: str = "BGR",
        masks: MaskUse | None = None,
        mask_format: str = "polygon",
        ranges: Ranges | None = None,
        cropped: bool = False,
    ) -> None:
        assert mask_format in ("polygon", "bitmask"), mask_format
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.masks = masks or MaskUse()
        self.mask_format = mask_format
        self.ranges = ranges
        self.cropped = cropped

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT``, ``MODEL.MASK_ON`` and ``MODEL.BOXINST``."""
        augmentations = training_augmentations(cfg) if is_train else [resize_for_test(cfg)]
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "masks": MaskUse.from_config(cfg),
            "mask_format": cfg.INPUT.MASK_FORMAT,
            "ranges": deep_ranges(cfg),
            "cropped": is_train and cuts_objects(cfg),
        }

    def __call__(self, record: Record) -> Record:
        """Map one record.

        Returns:
            ``image`` uint8 (3, h, w), ``file_name``, ``image_id``, ``height`` and ``width`` of the
            file, and in training ``instances`` (M) with gt_boxes, gt_classes, gt_masks and, if some
            objects have only a box, gt_has_mask (M,) bool. Objects of which the augmentation left
            nothing are dropped.

        Raises:
            UserError: the image is missing, does not decode, or differs in size from the record.
        """
        given = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        size = given["height"], given["width"]
        image = read_oriented(record["file_name"], size, self.image_format, self.ranges)
        objects = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
        if self.is_train and self.masks.read:
            objects = self._with_masks(objects, given["image_id"])
        boxes = np.array(
            [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
        ).reshape(-1, 4)
        augmented = T.AugInput(image, boxes=boxes)
        transforms = self.augmentations(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        mapped = {**given, "image": torch.from_numpy(pixels)}
        if self.is_train:
            size = augmented.image.shape[:2]
            inside = None
            if self.cropped:
                inside = transforms.apply_segmentation(np.ones(image.shape[:2], np.uint8)) > 0
            mapped["instances"] = self._instances(
                objects, augmented.boxes, transforms, size, inside
            )
        return mapped

    def _instances(
        self,
        objects: list[Record],
        boxes: NDArray[np.float64],
        transforms: T.TransformList,
        size: tuple[int, int],
        inside: NDArray[np.bool_] | None,
    ) -> Instances:
        """What is left of the objects.

        Args:
            objects: as the record has them.
            boxes: (M, 4) xyxy, moved.
            transforms: those applied to the image.
            size: (h, w).
            inside: (h, w) where there is image and not padding, into which cut-off parts would
                reach. None: nothing was cut.
        """
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.gt_boxes.clip(size)
        if inside is not None:
            instances.gt_boxes.clip((int(inside.any(1).sum()), int(inside.any(0).sum())))
        labels = [int(entry["category_id"]) for entry in objects]
        instances.gt_classes = torch.tensor(labels, dtype=torch.int64)
        if not self.masks.read:
            return detection_utils.filter_empty_instances(instances)
        instances.gt_masks = masks = self._masks(objects, transforms, size)
        if inside is not None and isinstance(masks, BitMasks):
            masks.tensor &= torch.from_numpy(inside)
        has_mask = torch.tensor([bool(a.get("segmentation")) for a in objects], dtype=torch.bool)
        if self.cropped and objects:
            tight = masks.get_bounding_boxes().tensor
            boxes_now = torch.where(has_mask[:, None], tight, instances.gt_boxes.tensor)
            instances.gt_boxes = Boxes(boxes_now)
        if self.masks.boxes_too:
            instances.gt_has_mask = has_mask
        return instances[instances.gt_boxes.nonempty() & (masks.nonempty() | ~has_mask)]

    def _with_masks(self, objects: list[Record], image_id: object) -> list[Record]:
        """The objects to learn from, without their hidden masks."""
        shown = [self.masks.shown(a, f"{image_id}/{i}") for i, a in enumerate(objects)]
        if not self.masks.boxes_too:
            return [a for a, has_mask in zip(objects, shown, strict=True) if has_mask]
        return [
            a if has_mask else {key: value for key, value in a.items() if key != "segmentation"}
            for a, has_mask in zip(objects, shown, strict=True)
        ]

    def _masks(
        self, objects: list[Record], transforms: T.TransformList, size: tuple[int, int]
    ) -> PolygonMasks | BitMasks:
        segmentations = [entry.get("segmentation", []) for entry in objects]
        moved = _move_polygons([s for s in segmentations if isinstance(s, list)], transforms)
        if self.mask_format == "polygon" and not self.cropped and len(moved) == len(objects):
            return PolygonMasks(moved)
        masks = torch.zeros(len(objects), *size, dtype=torch.bool)
        polygons = iter(moved)
        for mask, segmentation in zip(masks, segmentations, strict=True):
            if isinstance(segmentation, list):
                values = polygons_to_bitmask(next(polygons), *size)
            else:
                values = transforms.apply_segmentation(_decode(segmentation)).astype(bool)
            mask.copy_(torch.from_numpy(np.ascontiguousarray(values)))
        return BitMasks(masks)


def _move_polygons(
    objects: list[list[NDArray[np.float64]]], transforms: T.TransformList
) -> list[list[NDArray[np.float64]]]:
    """Transform all polygons of an image at once."""
    parts = [np.asarray(part, np.float64).reshape(-1, 2) for parts in objects for part in parts]
    if not parts:
        return [[] for _ in objects]
    points = transforms.apply_coords(np.concatenate(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]
    moved = iter(part.reshape(-1) for part in np.split(points, ends))
    return [[next(moved) for _ in parts] for parts in objects]


def _decode(segmentation: Record) -> NDArray[np.uint8]:
    """Any run-length mask as (h, w) zeros and ones."""
    if isinstance(segmentation["counts"], list):
        segmentation = mask_tools.frPyObjects(segmentation, *segmentation["size"])
    return mask_tools.decode(segmentation)
