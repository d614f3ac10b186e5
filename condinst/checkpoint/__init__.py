"""Reading, recognising, converting and fetching weights."""
