"""VQA accuracy as an `evaluate` module."""
