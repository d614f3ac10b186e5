"""The dynamic mask head: one small network per instance, its parameters from the controller."""
