"""The dynamic mask head: one small network an instance, its numbers predicted by the controller."""
