import pytest

from fedvlm_hf.building.partitions.holdout import hold_out_groups


def test_rows_of_a_group_stay_together_in_the_documented_order():
    """`printf 0/a | sha256sum` starts with d321, b with 7d9a, c with 2881, d with 9d84: the order is c, b, d, a.

    A quarter of four groups is one: c is held out, with both its rows.
    """
    parts = hold_out_groups(["a", "b", "c", "d", "a", "b", "c", "d"], ["s"] * 8, {"test": 0.25})
    assert parts["test"] == [2, 6]
    assert sorted(parts["test"] + parts["train"]) == list(range(8))


def test_every_stratum_gives_to_every_split():
    """x has 10 groups: 2 and 1 are held out. y has 3: 0.6 rounds to 1, and 0.3 to 0, which becomes the least, 1."""
    groups = [f"x{index}" for index in range(10)] + [f"y{index}" for index in range(3)]
    strata = ["x"] * 10 + ["y"] * 3
    parts = hold_out_groups(groups, strata, {"test": 0.2, "validation": 0.1})
    counts = {split: [sum(row < 10 for row in rows), sum(row >= 10 for row in rows)] for split, rows in parts.items()}
    assert counts == {"test": [2, 1], "validation": [1, 1], "train": [7, 1]}


def test_groups_do_not_depend_on_the_row_order():
    groups = [f"g{index}" for index in range(20)]
    held = {groups[row] for row in hold_out_groups(groups, ["s"] * 20, {"test": 0.3})["test"]}
    backwards = groups[::-1]
    assert {backwards[row] for row in hold_out_groups(backwards, ["s"] * 20, {"test": 0.3})["test"]} == held


def test_the_seed_changes_the_groups():
    groups = [f"g{index}" for index in range(20)]
    held = [tuple(hold_out_groups(groups, ["s"] * 20, {"test": 0.3}, seed)["test"]) for seed in range(3)]
    assert len(set(held)) == 3


def test_a_group_in_two_strata_is_refused():
    with pytest.raises(ValueError, match="group 'a' is in 'x' and in 'y'"):
        hold_out_groups(["a", "a"], ["x", "y"], {"test": 0.5})


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match=r"no training rows in stratum 'x' \(groups: 2\)"):
        hold_out_groups(["a", "b"], ["x", "x"], {"test": 0.2, "validation": 0.1})
