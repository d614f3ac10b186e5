"""FCOS (https://arxiv.org/abs/1904.01355): head, targets, losses and decoding, one file each."""
