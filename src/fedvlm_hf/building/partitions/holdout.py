"""Hold out whole groups of rows, such as all questions about one image."""

from collections.abc import Mapping, Sequence

from .drawing import shuffled


def hold_out_groups(
    groups: Sequence[str], strata: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[int]]:
    """Split rows so that groups stay together and every stratum is in every split.

    Within each stratum the groups are ordered by `sha256("{seed}/{group}")`. The first split takes the first
    `round(share * number of groups)` groups (at least one), the next split takes the following groups, and `train` the
    rest. The order depends only on seed and names, not on the order of the rows or on library versions.

    Args:
        groups (`Sequence[str]`):
            The group of each row, such as the name of its image.
        strata (`Sequence[str]`):
            The stratum of each row, such as the organ. All rows of a group are in the same stratum.
        shares (`Mapping[str, float]`):
            The share of each stratum's groups that a split holds out, such as `{"test": 0.2}`.
        seed (`int`, *optional*, defaults to `0`):
            Changes the order of the groups.

    Returns:
        `dict[str, list[int]]`: row indices, ascending, of each split in `shares` and of `train`.

    Raises:
        `ValueError`: if a group is in two strata, or a stratum has too few groups to leave one for `train`.
    """
    stratum_of = dict(zip(groups, strata, strict=True))
    for group, stratum in zip(groups, strata, strict=True):
        if stratum_of[group] != stratum:
            raise ValueError(
                f"`strata`: group {group!r} is in {stratum!r} and in {stratum_of[group]!r}; it must be in only one."
            )
    split_of: dict[str, str] = {}
    for stratum in sorted(set(strata)):
        members = shuffled((group for group in stratum_of if stratum_of[group] == stratum), seed)
        sizes = {split: max(1, round(share * len(members))) for split, share in shares.items()}
        if sum(sizes.values()) >= len(members):
            raise ValueError(
                f"`shares={dict(shares)}` leaves no training rows in stratum {stratum!r} (groups: {len(members)}). "
                "Lower the shares, or merge strata."
            )
        names = [split for split, size in sizes.items() for _ in range(size)]
        split_of.update(zip(members, names, strict=False))
    rows: dict[str, list[int]] = {split: [] for split in [*shares, "train"]}
    for row, group in enumerate(groups):
        rows[split_of.get(group, "train")].append(row)
    return rows
