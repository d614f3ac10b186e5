"""The dataset as it is used: checked, mended, counted and indexed."""
