"""One file per dataset: what is read from the official downloads, by which rules, into which configurations."""
