"""Rounds on the Hub: each is a commit with a tag that anyone with access can load, compare and continue."""
