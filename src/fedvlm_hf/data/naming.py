"""What splits are called: a client each, and what is held out."""

CLIENT_PREFIX = "client_"
HELD_OUT = ("validation", "test")
"""Splits that are never clients."""


def is_client(split: str) -> bool:
    """Whether a split is a client's."""
    return split.startswith(CLIENT_PREFIX)


def client_name(k: int, num_clients: int) -> str:
    """Split name of client `k`, from 0: `"client_00"`, with three digits and more from 101 clients on.

    Args:
        k (`int`):
            Less than `num_clients`.
        num_clients (`int`):
            All names have the same number of digits, so that they sort by number.

    Returns:
        `str`: the name.

    Raises:
        `ValueError`: if there is no client `k`.
    """
    if not 0 <= k < num_clients:
        raise ValueError(f"`k={k}` is none of the `num_clients={num_clients}` clients, which count from 0.")
    return f"{CLIENT_PREFIX}{k:0{max(2, len(str(num_clients - 1)))}d}"
