"""Make federated datasets from downloads: readers, builders, partitions, writing, checking, reports.

Only `commands` imports this package; training reads its results through `data`.
"""
