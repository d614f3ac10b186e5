"""What masks are trained against: one object a kind of supervision."""
