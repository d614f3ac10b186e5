"""Layers that know nothing about detectors."""
