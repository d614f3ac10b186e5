"""The dataset as it comes: drawn, linked, converted or downloaded."""
