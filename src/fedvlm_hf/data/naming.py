"""Names of splits: one split per client, and the held-out splits."""

CLIENT_PREFIX = "client_"
HELD_OUT = ("validation", "test")
"""Splits that are never clients."""


def is_client(split: str) -> bool:
    """Return whether a split is a client."""
    return split.startswith(CLIENT_PREFIX)


def client_name(k: int, num_clients: int) -> str:
    """Return the split name of client `k`: `"client_00"`, with more digits if there are more than 100 clients.

    Args:
        k (`int`):
            Number of the client, from 0.
        num_clients (`int`):
            Number of clients. All names have the same number of digits, so that they sort by number.

    Returns:
        `str`: the name.

    Raises:
        `ValueError`: if there is no client `k`.
    """
    if not 0 <= k < num_clients:
        raise ValueError(f"`k={k}` is not one of the `num_clients={num_clients}` clients, which are counted from 0.")
    return f"{CLIENT_PREFIX}{k:0{max(2, len(str(num_clients - 1)))}d}"
