"""What `fedvlm check` verifies in a federated dataset, whoever wrote it."""
