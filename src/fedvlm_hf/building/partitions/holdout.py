"""Hold whole groups of rows out, such as all questions on one image."""

from collections.abc import Mapping, Sequence

from .drawing import shuffled


def hold_out_groups(
    groups: Sequence[str], strata: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[int]]:
    """Splits rows so that a group's rows stay together and every stratum is in every split.

    Within each stratum the groups are put in the order of `sha256("{seed}/{group}")`; the first split takes the first
    `round(share * number of groups)` of them (at least one), the next split the next ones, and `train` the rest. The
    order depends on nothing but seed and names: other row orders or library versions do not move a group.

    Args:
        groups (`Sequence[str]`):
            Each row's group, such as its image name.
        strata (`Sequence[str]`):
            Each row's stratum, such as the organ. A group lies in one stratum.
        shares (`Mapping[str, float]`):
            Share of each stratum's groups that a split holds out, such as `{"test": 0.2}`.
        seed (`int`, *optional*, defaults to `0`):
            Another seed, another order.

    Returns:
        `dict[str, list[int]]`: row indices, ascending, of each split in `shares` and of `train`.

    Raises:
        `ValueError`: if a group lies in two strata, or a stratum has too few groups to leave one for `train`.
    """
    stratum_of = dict(zip(groups, strata, strict=True))
    for group, stratum in zip(groups, strata, strict=True):
        if stratum_of[group] != stratum:
            raise ValueError(
                f"`strata`: group {group!r} lies in {stratum!r} and in {stratum_of[group]!r}; it can lie in one only."
            )
    split_of: dict[str, str] = {}
    for stratum in sorted(set(strata)):
        members = shuffled((group for group in stratum_of if stratum_of[group] == stratum), seed)
        sizes = {split: max(1, round(share * len(members))) for split, share in shares.items()}
        if sum(sizes.values()) >= len(members):
            raise ValueError(
                f"`shares={dict(shares)}` leaves nothing to train on in stratum {stratum!r} with its {len(members)} "
                "groups. Lower the shares, or merge strata."
            )
        names = [split for split, size in sizes.items() for _ in range(size)]
        split_of.update(zip(members, names, strict=False))
    rows: dict[str, list[int]] = {split: [] for split in [*shares, "train"]}
    for row, group in enumerate(groups):
        rows[split_of.get(group, "train")].append(row)
    return rows
