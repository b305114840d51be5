"""The checks that `fedvlm check` runs on a federated dataset, regardless of what wrote it."""
