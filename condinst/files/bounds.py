"""How much memory a file from outside may ask for, and the environment variables to raise that.

The defaults limit what is read to about a gigabyte:

- pixels: Pillow keeps 4 bytes per pixel and numpy 3, so 100 million, 10,000 x 10,000, take 0.7 GB.
- JSON read in one go: the size of its lists, mappings and values in Python. COCO's own 450 MB are
  read in pieces and do not count.
- YAML: PyYAML reads about 100 kB a second; the names of 20,000 classes are 0.5 MB.
- text: a label file of 64 MB holds 200,000 polygons for one image.
- inflation: what a compressed checkpoint may grow to; ``torch.save`` never compresses.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from condinst.errors import UserError


class Bound(NamedTuple):
    """A limit.

    Attributes:
        variable: of the environment.
        default: if that is not set.
    """

    variable: str
    default: int

    @property
    def value(self) -> int:
        """The limit in force.

        Raises:
            UserError: the variable is not a whole number above 0.
        """
        text = os.environ.get(self.variable)
        if not text:
            return self.default
        if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:
            raise UserError(f"{self.variable} is {text!r}, must be a whole number above 0")
        return int(text)

    def require(self, asked: int, place: str, what: str) -> None:
        """Check an amount against the limit.

        Args:
            asked: the amount.
            place: file, and where in it.
            what: says what is asked for, as in ``has 5 pixels``.

        Raises:
            UserError: it is above the limit.
        """
        if asked > self.value:
            raise UserError(
                f"{place} {what}; the limit is {self.value:,}, since more may exhaust the "
                f"memory. If the file is right, set {self.variable}={asked} in the environment"
            )


PIXELS = Bound("CONDINST_MAX_PIXELS", 100_000_000)
JSON = Bound("CONDINST_MAX_JSON_BYTES", 1 << 30)
YAML = Bound("CONDINST_MAX_YAML_BYTES", 1 << 20)
TEXT = Bound("CONDINST_MAX_TEXT_BYTES", 64 << 20)
INFLATED = Bound("CONDINST_MAX_INFLATED_BYTES", 512 << 20)

DEPTH = 64  # of nested lists and mappings; COCO has 5
FAR = 1e6  # pixels from an image's corner; no image is that large
OUTLINE = 4e6  # pixels around a polygon; pycocotools takes 40 bytes for each
