"""COCO scores of a model's detections, and how far to trust them and their differences."""
