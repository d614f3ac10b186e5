"""Trained weights measured on a split: numbers, intervals, curves, images."""
