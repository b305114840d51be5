"""FedEx-LoRA (Singhal et al., 2024, https://huggingface.co/papers/2410.07815)."""

from dataclasses import dataclass

from ..lora import LoraPair
from .base import STRATEGIES
from .flora import StackingStrategy, Terms


@STRATEGIES.register("fedex")
@dataclass(frozen=True)
class FedEx(StackingStrategy):
    """Average A and B as FedAvg does (FedIT), and add to the base model what that misses.

    The mean of the clients' models is W + sum_k p_k B_k A_k, with p_k = n_k / sum_k n_k, and the averaged adapter
    gives W + B A, with B = sum_k p_k B_k and A = sum_k p_k A_k. In each round the residual sum_k p_k B_k A_k - B A is
    added to the base model, so that base and adapter together are the mean exactly. With one client in the round it
    is 0, and the base stays as it is.

    The residual is kept as a stacked pair with the terms (p_k, B_k A_k) and (-1, B A), of rank (K + 1) r, and not as a
    dense matrix: the two are equal to rounding. What trains and is not LoRA, such as the connector, is the weighted
    mean. All clients have the rank of the run's adapter.

    Where it differs from the paper: its mean is plain, which is `client_weighting="uniform"`, and it sends the
    residual of the last round, where each client here gets the sum of all rounds, since it may have sat out. A base
    model in bf16 is rounded as in [`~fedvlm_hf.methods.flora.FLoRA`].

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("fedex")
    Method(client=ClientMethod(), strategy=FedEx())
    ```
    """

    def terms(self, clients: Terms, mean: dict[str, LoraPair]) -> Terms:
        """The products of the clients, less the product of the means."""
        return [*clients, (-1.0, mean)] if len(clients) > 1 else []
