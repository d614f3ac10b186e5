"""One training: from the prepared index to weights, curve and a record of both."""
