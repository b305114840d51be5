"""FLoRA (Wang et al., 2024, https://huggingface.co/papers/2409.05976), and what it shares with FedEx-LoRA."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..lora import LoraPair, add_pairs, at_rank, is_lora, is_lora_a, lora_pairs, pair_tensors, stack_pairs
from ..tensors import TensorDict
from ..types import Aggregate, ClientTask, ClientUpdate, ServerState
from .base import STRATEGIES, Strategy


BASE = "base"
"""The group of the change of the base model: of a round in its aggregate, of all rounds in the state."""

Terms = list[tuple[float, dict[str, LoraPair]]]
"""LoRA pairs by module, each with its factor in a sum of products."""


@dataclass(frozen=True)
class StackingStrategy(Strategy):
    """A server half that adds a weighted sum of products B A to the base model, without rounding it to a low rank.

    The sum is kept as one pair with the factors stacked, see [`~fedvlm_hf.lora.stack_pairs`], so no weight of the base
    model is needed at the server. The change of all rounds so far is sent to each client: one that sat out some
    rounds has missed none of it. A pair whose rank exceeds the smaller side of the weight is multiplied out.

    The LoRA pairs of all clients of a round are in memory at once.
    """

    def check_run(self, shared: TensorDict, client_ids: Sequence[str]) -> None:
        """Refuse a run in which no whole LoRA pair is shared."""
        name = type(self).__name__
        try:
            pairs = lora_pairs(shared)
        except ValueError as error:
            raise ValueError(
                f"`method` {name} multiplies A and B of each client, so its client half must share both: {error}"
            ) from error
        if not pairs:
            raise ValueError(
                f"`method` {name} is about the LoRA pairs of all clients, but no LoRA pair is shared in this run: it "
                "would be FedAvg. Use a `tuning` that trains LoRA ('llm', 'joint' or 'two_stage'), or 'fedavg'."
            )

    def aggregate(self, updates: Iterable[ClientUpdate], current: TensorDict, state: ServerState) -> Aggregate:
        """The mean of what `averaged` leaves, and the change of the base from the clients' pairs."""
        clients: dict[str, tuple[float, dict[str, LoraPair]]] = {}

        def noted() -> Iterator[ClientUpdate]:
            for update in updates:
                lora = {name: tensor for name, tensor in update.tensors.items() if is_lora(name)}
                clients[update.client_id] = update.weight, lora_pairs(TensorDict.from_tensors(lora))
                yield self.averaged(update)

        aggregate = super().aggregate(noted(), current, state)
        # in one order, whatever the order of arrival: the position in the stack decides the last bits of the product
        terms = [(weight / aggregate.total_weight, pairs) for _, (weight, pairs) in sorted(clients.items())]
        terms = self.terms(terms, lora_pairs(aggregate.tensors))
        factors = [factor for factor, _ in terms]
        change = {m: stack_pairs([pairs[m] for _, pairs in terms], factors) for m in (terms[0][1] if terms else ())}
        tensors = TensorDict.from_tensors({**current, **aggregate.tensors})
        control = {**aggregate.control, BASE: TensorDict.from_tensors(pair_tensors(change))}
        return replace(aggregate, tensors=tensors, control=control)

    def averaged(self, update: ClientUpdate) -> ClientUpdate:
        """The part of an update that is averaged: all of it unless overridden."""
        return update

    def terms(self, clients: Terms, mean: dict[str, LoraPair]) -> Terms:
        """The terms of the change: p_k and the pairs of each client unless overridden.

        Args:
            clients (`Terms`):
                The pairs of each client with its share p_k of all weights.
            mean (`dict[str, LoraPair]`):
                The pairs of the mean, where they are averaged.
        """
        return clients

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """Add the change of the round to the change of the base; the tensors are the aggregate's."""
        base = add_pairs(self.base_change(state), lora_pairs(aggregate.control[BASE]))
        return aggregate.tensors, replace(state, tensors={BASE: base})

    def base_change(self, state: ServerState) -> TensorDict:
        """The change of all rounds so far."""
        return state.tensors.get(BASE, TensorDict({}))


@STRATEGIES.register("flora")
@dataclass(frozen=True)
class FLoRA(StackingStrategy):
    """Add the exact weighted sum of the clients' products to the base model, and start each round with new adapters.

    With p_k = n_k / sum_k n_k, a round changes the base model by sum_k p_k B_k A_k (equations 3 and 4), where the mean
    of A times the mean of B would be another matrix. The sum is exact for clients of different ranks, too: A is
    [p_1 A_1; ...; p_K A_K], and B is [B_1 ... B_K]. Then adapters start anew: B = 0, and A is drawn anew.

    What trains and is not LoRA, such as the connector, is the weighted mean; with `tuning="two_stage"` that is all
    that the first stage has. On a base model in bf16, the base plus its change is rounded to bf16 once in each round,
    from the sum of all rounds in fp32: a change below half a unit of bf16 shows when more of it has added up.

    Where it differs from the paper: A is drawn anew as the last A with its columns (input features) in a random order
    that depends on the round alone. For PEFT's default, independent values of one distribution for each row, that is a
    draw from the same distribution, and any other initialisation keeps its scale. The LoRA factor alpha / r is that of
    the run's adapter for all clients, also for those of a lower rank. Each client gets the change of the base of all
    rounds and not that of the last one, since it may have sat out.

    Args:
        ranks (`Mapping[str, int]`, *optional*):
            LoRA rank of each client, by id, up to the rank of the run's adapter. A client of a lower rank trains and
            sends the first components alone. By default all have the adapter's.

    Raises:
        `ValueError`: if `ranks` is not a mapping of names to positive whole numbers.

    Example:

    ```python
    >>> from fedvlm_hf.methods import resolve_method

    >>> resolve_method("flora", {"ranks": {"client_00": 4, "client_01": 8}}).strategy
    FLoRA(ranks={'client_00': 4, 'client_01': 8})
    ```
    """

    ranks: Mapping[str, int] | None = field(
        default=None,
        metadata={"help": "LoRA rank of each client by id, up to the rank of the adapter, which is the default."},
    )

    def __post_init__(self) -> None:
        if self.ranks is None:
            return
        is_valid = isinstance(self.ranks, Mapping) and self.ranks
        if not is_valid or any(type(rank) is not int or rank < 1 for rank in self.ranks.values()):
            raise ValueError(
                f"`ranks` must give each client a whole number of at least 1, such as {{'client_00': 4}}, got "
                f"{self.ranks!r}."
            )

    def check_run(self, shared: TensorDict, client_ids: Sequence[str]) -> None:
        """Refuse ranks of unknown clients, missing ranks, and ranks that the run's adapter cannot hold."""
        super().check_run(shared, client_ids)
        ranks = self.ranks or {}
        if ranks and (different := sorted(set(ranks) ^ set(client_ids))):
            raise ValueError(
                f"`ranks` must name each client of the run and no other, but {different[0]!r} "
                f"{'is not one of them' if different[0] in ranks else 'is missing'}. The clients are "
                f"{', '.join(client_ids)}."
            )
        pairs = lora_pairs(shared)
        highest = max(pair.rank for pair in pairs.values())
        for client_id, rank in ranks.items():
            if rank > highest:
                raise ValueError(
                    f"`ranks` gives client {client_id!r} the rank {rank}, but the adapter of the run has {highest}. "
                    "Set the rank of the LoRA configuration (`r`, or `--lora_r`) to the highest rank of all clients."
                )
        if min(ranks.values(), default=highest) < highest and any(pair.b.any() for pair in pairs.values()):
            raise ValueError(
                "`ranks` has ranks below the adapter's, but the adapter does not start at B = 0: clients of a lower "
                "rank would start from another model. Merge the adapter into the base model first, or leave `ranks` "
                "out."
            )

    def configure(
        self, round_idx: int, client_ids: Sequence[str], current: TensorDict, state: ServerState
    ) -> list[ClientTask]:
        """Send each client the adapter cut to its rank."""
        if self.ranks is None:
            return super().configure(round_idx, client_ids, current, state)
        cut = {rank: at_rank(current, rank) for rank in {self.ranks[client_id] for client_id in client_ids}}
        return [ClientTask(round_idx, client_id, cut[self.ranks[client_id]]) for client_id in client_ids]

    def averaged(self, update: ClientUpdate) -> ClientUpdate:
        """What is not LoRA."""
        others = {name: tensor for name, tensor in update.tensors.items() if not is_lora(name)}
        return replace(update, tensors=TensorDict.from_tensors(others))

    def apply(self, aggregate: Aggregate, current: TensorDict, state: ServerState) -> tuple[TensorDict, ServerState]:
        """Change the base, and start the adapters anew."""
        tensors, state = super().apply(aggregate, current, state)
        rounds = state.scalars.get("rounds", 0) + 1
        return _with_new_adapters(tensors, int(rounds)), replace(state, scalars={"rounds": rounds})


def _with_new_adapters(tensors: TensorDict, round_number: int) -> TensorDict:
    """The tensors with each B at 0 and the columns of each A in a random order."""
    generator = torch.Generator().manual_seed(round_number)
    new = {}
    for name, tensor in tensors.items():
        if is_lora_a(name):
            tensor = tensor[:, torch.randperm(tensor.shape[1], generator=generator)]
        elif is_lora(name):
            tensor = torch.zeros_like(tensor)
        new[name] = tensor
    return TensorDict.from_tensors(new)
