"""CIDEr and ROUGE_L as an `evaluate` module."""
