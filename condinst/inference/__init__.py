"""Detections in images, and overlays to show them: drawing does not need torch."""
