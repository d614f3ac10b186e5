"""Trained weights on a user's own images and videos."""
