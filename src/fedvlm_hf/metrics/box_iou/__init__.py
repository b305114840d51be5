"""Box IoU as an `evaluate` module."""
