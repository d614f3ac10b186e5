"""CondInst: instance segmentation by conditional convolutions (https://arxiv.org/abs/2003.05664).

Importing the package does nothing; :mod:`condinst.config`, where configs are made, registers the
meta architecture and the backbones with detectron2.
"""
