"""One dataset a file: what is read from the official downloads, by which rules, into which configurations."""
