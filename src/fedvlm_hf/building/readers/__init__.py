"""Readers of the official downloads, one file each. They return plain records, without prompts and clients."""
