"""Evaluated runs beside one another: differences, intervals, verdicts; whether they still hold."""
