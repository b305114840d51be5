"""A federation's home on the Hub: each round a revision that anyone with access can load, compare and continue."""
