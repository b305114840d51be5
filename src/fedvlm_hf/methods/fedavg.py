"""FedAvg (McMahan et al., 2017, https://huggingface.co/papers/1602.05629)."""

from dataclasses import dataclass

from .base import STRATEGIES, Strategy


@STRATEGIES.register("fedavg")
@dataclass(frozen=True)
class FedAvg(Strategy):
    """The mean of the clients' weights, weighted by their numbers of samples (Algorithm 1).

    w_{r+1} = sum_k n_k w_k / sum_k n_k, over weights and not over updates: the two are equal in real numbers, but only
    the mean of weights gives one client its own bits back. With adapters it is also called FedIT.
    """
