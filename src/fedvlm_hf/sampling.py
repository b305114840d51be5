"""Choose the clients of a round, as a pure function of the seed and the round."""

from collections.abc import Mapping

import torch


def cohort_size(clients_per_round: float | None, num_clients: int) -> int:
    """Return how many of `num_clients` take part in each round.

    Args:
        clients_per_round (`float`, *optional*):
            A fraction of the clients if it is below 1 (at least one takes part), else a number of clients. `None`
            means all clients.
        num_clients (`int`):
            Number of clients of the federation.

    Raises:
        `ValueError`: If the value is not positive, is above 1 and not an integer, or is larger than the number of
            clients.
    """
    if clients_per_round is None:
        return num_clients
    if clients_per_round <= 0 or (clients_per_round >= 1 and clients_per_round != int(clients_per_round)):
        raise ValueError(
            f"`clients_per_round` must be a fraction below 1 or an integer number of clients, got {clients_per_round}."
        )
    if clients_per_round > num_clients:
        raise ValueError(
            f"`clients_per_round` is {clients_per_round:g}, but there are only {num_clients} clients. Pass at most "
            f"{num_clients}, or leave it out for all."
        )
    return int(clients_per_round) if clients_per_round >= 1 else max(1, round(clients_per_round * num_clients))


def sample_cohort(sizes: Mapping[str, int], size: int, strategy: str, seed: int, round_idx: int) -> list[str]:
    """Draw the clients of one round, and return them in sorted order.

    Args:
        sizes (`Mapping[str, int]`):
            Number of training rows of each client.
        size (`int`):
            Number of clients to draw, without replacement.
        strategy (`str`):
            `"uniform"`, or `"weighted"` by the number of rows. Drawing by size and averaging by size count size twice:
            to optimize the global loss, combine `"weighted"` with uniform weights in the mean.
        seed (`int`):
            Seed of the run.
        round_idx (`int`):
            The round. The draw depends only on seed and round, so a resumed run draws the same clients.

    Raises:
        `ValueError`: If the strategy is unknown.

    Example:

    ```python
    >>> from fedvlm_hf.sampling import sample_cohort

    >>> sample_cohort({"a": 1, "b": 1, "c": 1}, 3, "uniform", seed=0, round_idx=1)
    ['a', 'b', 'c']
    ```
    """
    if strategy not in ("uniform", "weighted"):
        raise ValueError(f"`client_sampling` must be 'uniform' or 'weighted', got {strategy!r}.")
    names = sorted(sizes)
    if size == len(names):
        return names
    # mixed into 32 bits, since torch's CPU generator silently ignores the others
    generator = torch.Generator().manual_seed(client_seed(seed, round_idx, -1))
    weights = [float(sizes[name]) if strategy == "weighted" else 1.0 for name in names]
    drawn = torch.multinomial(torch.tensor(weights, dtype=torch.float64), size, generator=generator)
    return sorted(names[i] for i in drawn.tolist())


def client_seed(seed: int, round_idx: int, position: int, phase: int = 0) -> int:
    """Return the seed of one client run, from 0 to 2^32 - 1, so that data order and dropout differ by round and
    client.

    The first round of the first client has the seed of the run, so that a run with one client and one round equals
    SFTTrainer with that seed.

    Args:
        seed (`int`):
            Seed of the run.
        round_idx (`int`):
            The round, from 1.
        position (`int`):
            Index of the client among all clients in sorted order.
        phase (`int`, *optional*, defaults to `0`):
            Index of the local phase in the round.
    """
    # odd constants (golden ratio, and those of MurmurHash3's finaliser) keep rounds, clients and phases apart mod 2^32
    return (seed + 0x9E3779B1 * (round_idx - 1) + 0x85EBCA6B * position + 0xC2B2AE35 * phase) % 2**32
