"""Detections for images, and overlays that show them: drawing needs no torch."""
