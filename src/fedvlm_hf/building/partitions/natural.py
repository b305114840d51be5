"""The two configurations that most benchmarks have: clients as they come, and the same rows evenly."""

from collections.abc import Sequence

from ..builders.base import Example, Partition, column
from .assemble import assemble, lift, train_rows
from .iid import iid_by_label


def natural_and_even(
    examples: Sequence[Example], name: str, seed: int = 0, values: Sequence[str] | None = None
) -> list[Partition]:
    """`noniid`, a client a value of a column, and `iid`, as many clients with their even share of every value's rows.

    Args:
        examples (`Sequence[Example]`):
            All rows with their given splits.
        name (`str`):
            The column, such as `"modality"`; held-out rows are shared out by it too.
        seed (`int`, *optional*, defaults to `0`):
            Of `iid`.
        values (`Sequence[str]`, *optional*):
            The clients in their order. By default the values of the train rows, sorted.

    Returns:
        `list[Partition]`: `noniid` first.

    Raises:
        `ValueError`: if a value has no train row, or fewer than there are clients.
    """
    train, labels, splits = train_rows(examples), column(examples, name), column(examples, "split")
    values = sorted({labels[row] for row in train}) if values is None else values
    owned = [[row for row in train if labels[row] == value] for value in values]
    evenly = lift(iid_by_label([labels[row] for row in train], len(values), seed), train)
    article = "an" if name[0] in "aeiou" else "a"
    return [
        assemble("noniid", f"A client {article} {name}.", splits, owned, labels, values),
        assemble("iid", f"Every {name}'s rows spread evenly.", splits, evenly, labels),
    ]
