"""Federated datasets: the row format, clients, official downloads, partitions, building and checking."""
