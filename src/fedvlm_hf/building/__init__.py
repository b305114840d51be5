"""What makes a federated dataset: readers, builders, partitions, writing, checking, reports. Only commands use it."""
