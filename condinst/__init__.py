"""CondInst: instance segmentation by conditional convolutions (https://arxiv.org/abs/2003.05664).

Importing the package registers its meta architecture and backbones with detectron2, and does
nothing else.
"""

from condinst import modeling  # registration

__all__ = ["modeling"]
