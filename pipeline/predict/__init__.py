"""Predicting on a user's own images and videos."""
