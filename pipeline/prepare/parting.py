"""Images that are left out for what the whole dataset holds, with all of their annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.prepare.findings import Findings

Record = dict[str, Any]


def leave_out(
    split: str,
    content: Record,
    reasons: Mapping[int, str],
    kind: str,
    policy: str,
    found: Findings,
) -> Record:
    """A content without some images.

    Args:
        split: its name.
        content: sound.
        reasons: why images are left out, by their id.
        kind: of the fault, a few words.
        policy: ``strict``, ``repair`` or ``drop``.
        found: gets a fault for each image and each of its annotations.
    """
    from condinst.annotations.faults import Fault
    from condinst.annotations.json_lists import edit

    if not reasons:
        return content
    action = "refused" if policy == "strict" else "dropped"
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for number, reason in reasons.items():
        found.faults[split].append(Fault("image", number, names[number], kind, reason, action))
    for entry in content["annotations"]:
        if entry["image_id"] in reasons:
            place = "annotation", entry["id"], names[entry["image_id"]]
            reason = f"its image {entry['image_id']} is left out"
            found.faults[split].append(Fault(*place, "image left out", reason, action))
    images = [image for image in content["images"] if image["id"] not in reasons]
    kept = edit(
        content["annotations"], lambda entry: None if entry["image_id"] in reasons else entry
    )
    return {**content, "images": images, "annotations": kept}
