"""COCO annotations before training reads them: what is wrong, what can be mended, and the index."""
