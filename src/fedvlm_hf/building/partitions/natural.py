"""The two configurations of most benchmarks: natural clients, and the same rows spread evenly."""

from collections.abc import Sequence

from ..builders.base import Example, Partition, column
from .assemble import assemble, to_example_indices, train_rows
from .iid import iid_by_label


def natural_and_even(
    examples: Sequence[Example], name: str, seed: int = 0, values: Sequence[str] | None = None
) -> list[Partition]:
    """Return `noniid`, with one client per value of a column, and `iid`, with every value spread evenly.

    Args:
        examples (`Sequence[Example]`):
            All rows with their given splits.
        name (`str`):
            The column, such as `"modality"`. Held-out rows are also assigned to clients by it.
        seed (`int`, *optional*, defaults to `0`):
            Seed of `iid`.
        values (`Sequence[str]`, *optional*):
            The values in the order of the clients. By default the sorted values of the train rows.

    Returns:
        `list[Partition]`: `noniid` and `iid`, which has as many clients.

    Raises:
        `ValueError`: if a value has no train row, or fewer than there are clients.
    """
    train, labels, splits = train_rows(examples), column(examples, name), column(examples, "split")
    values = sorted({labels[row] for row in train}) if values is None else values
    owned = [[row for row in train if labels[row] == value] for value in values]
    evenly = to_example_indices(iid_by_label([labels[row] for row in train], len(values), seed), train)
    return [
        assemble("noniid", f"One client per {name}.", splits, owned, labels, values),
        assemble("iid", f"The rows of every {name} are spread evenly over the clients.", splits, evenly, labels),
    ]
