import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.report.numbers import (
    earth_movers_distance,
    label_counts,
    pool,
    shared_images,
    total_variation,
)


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 9), min_size=1).filter(lambda d: sum(d.values()))


def test_distances_by_hand():
    """p = (3/4, 1/4, 0) and q = (1/4, 1/4, 1/2): |p - q| = 1/2 + 0 + 1/2 = 1."""
    p, q = {"CT": 3, "MRI": 1}, {"CT": 1, "MRI": 1, "X-Ray": 2}
    assert total_variation(p, q) == 0.5
    assert earth_movers_distance(p, q) == 1.0


def test_smallest_and_largest_distances():
    assert total_variation({"a": 2, "b": 2}, {"b": 7, "a": 7}) == 0
    assert total_variation({"a": 1}, {"b": 5}) == 1
    assert earth_movers_distance({"a": 1}, {"b": 5}) == 2


@settings(derandomize=True, deadline=None, max_examples=80)
@given(COUNTS, COUNTS, COUNTS)
def test_total_variation_is_a_metric_of_shares(p, q, r):
    assert 0 <= total_variation(p, q) <= 1 + 1e-12
    assert total_variation(p, q) == total_variation(q, p)
    assert total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + 1e-12
    assert total_variation(p, {label: 3 * count for label, count in p.items()}) == pytest.approx(0)


@pytest.mark.parametrize("bad", [{}, {"a": 0}, {"a": 2, "b": -1}])
def test_invalid_distributions_are_refused(bad):
    with pytest.raises(ValueError, match=r"`p=.* is not a distribution"):
        total_variation(bad, {"a": 1})
    with pytest.raises(ValueError, match=r"`q=.* is not a distribution"):
        earth_movers_distance({"a": 1}, bad)


def test_label_counts():
    counts = label_counts(["b", "a", "b", None], ["test", "client_00", "test", "client_00"])
    assert counts == {"client_00": {None: 1, "a": 1}, "test": {"b": 2}}
    assert list(counts) == ["client_00", "test"]


def test_labels_and_splits_are_of_the_same_rows():
    with pytest.raises(ValueError, match="shorter"):
        label_counts(["a", "b"], ["test"])


def test_pool_adds_up():
    assert list(pool([{"b": 2}, {"a": 1, "b": 3}]).items()) == [("a", 1), ("b", 5)]


def test_shared_images_counts_distinct_images_of_pairs():
    """x is in three splits: three pairs. y is in two, twice in one of them: one more pair. z is in one only."""
    digests = ["x", "x", "x", "y", "y", "y", "z"]
    splits = ["test", "client_01", "client_00", "test", "client_00", "client_00", "client_01"]
    assert shared_images(digests, splits) == {
        ("client_00", "client_01"): 1,
        ("client_00", "test"): 2,
        ("client_01", "test"): 1,
    }


def test_no_shared_image():
    assert shared_images(["x", "y", "x"], ["test", "client_00", "test"]) == {}
