"""Backbones with feature pyramids; importing their modules registers them with detectron2."""
