"""Detections for pictures, and overlays that show them: drawing needs no torch."""
