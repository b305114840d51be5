"""Classification accuracy as an `evaluate` module."""
