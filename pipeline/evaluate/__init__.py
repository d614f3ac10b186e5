"""Evaluating trained weights on a split: metrics, intervals, curves, images."""
