from hashlib import sha256

from fedvlm_hf.building.partitions.quota import draw_rows


IDS = [f"row-{k}" for k in range(30)]
SPLITS = ["train", "validation", "test"] * 10


def test_the_first_rows_of_each_split_are_drawn_in_seeded_order():
    """Worked out with hashlib alone: the 4 train rows and the test row with the smallest sha256("3/row-k")."""
    ranked = sorted(range(30), key=lambda k: sha256(f"3/row-{k}".encode()).hexdigest())
    expected = [k for k in ranked if k % 3 == 0][:4] + [k for k in ranked if k % 3 == 2][:1]
    assert draw_rows(IDS, SPLITS, {"train": 4, "test": 1}, seed=3) == sorted(expected)


def test_a_split_with_fewer_rows_gives_all():
    assert draw_rows(IDS, SPLITS, {"validation": 11}) == list(range(1, 30, 3))


def test_a_larger_quota_adds_rows():
    assert set(draw_rows(IDS, SPLITS, {"train": 3})) < set(draw_rows(IDS, SPLITS, {"train": 5}))


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    drawn = {IDS[row] for row in draw_rows(IDS, SPLITS, {"train": 4})}
    turned = {IDS[::-1][row] for row in draw_rows(IDS[::-1], SPLITS[::-1], {"train": 4})}
    assert turned == drawn
    assert {IDS[row] for row in draw_rows(IDS, SPLITS, {"train": 4}, seed=1)} != drawn
