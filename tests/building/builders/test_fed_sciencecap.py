"""Fed-ScienceCap on the miniature: 16 problems, of which 14 have an image.

| category | train | validation | test |
|---|---|---|---|
| Maps | 0 1 2 3 | 10 | 13 |
| Magnets | 4 5 6 7 | 11 | 14 15 |
| Rocks | 8 | | |

Problems 3 and 13 show one image, and so do 11 and 14. Problem 5 has no caption.
"""

import random
from collections import Counter
from itertools import combinations

import pytest

from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.fed_sciencecap import FedScienceCap, largest_shareable
from fedvlm_hf.building.images import image_digest, open_image
from fedvlm_hf.building.work import Work
from raw_scienceqa import raw_problems, write_hub, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "ScienceQA")


@pytest.fixture
def hub(tmp_path):
    return write_hub(tmp_path / "hub")


def build(raw, **options):
    work = Work()
    builder = FedScienceCap(**{"min_rows": 4, **options})
    examples = builder.read(raw, work)
    assert work.counts.kept == len(examples)
    return examples, {p.name: p for p in builder.partitions(examples)}, work


def excluded(work):
    return {line["what"]: line["count"] for line in work.counts.lines if line["step"] == "excluded"}


def test_it_is_registered():
    assert BUILDERS.get("fed_sciencecap") is FedScienceCap


def test_every_exclusion_is_counted(raw):
    """16 problems less 2 without image, 1 without caption, 3 (its image is 13's), 11 (14's) and Rocks, which has 1."""
    examples, _, work = build(raw)
    assert excluded(work) == {
        "problems without an image": 2,
        "problems without a target text": 1,
        "train rows whose image is also in validation or test": 1,
        "validation rows whose image is also in test": 1,
        "problems of category Rocks": 1,
    }
    assert column(examples, "pid") == ["0", "1", "2", "4", "6", "7", "10", "13", "14", "15"]
    assert Counter(column(examples, "split")) == {"train": 6, "validation": 1, "test": 3}
    assert sorted(work.sources) == ["captions.json", "pid_splits.json", "problems.json"]


def test_a_row(raw):
    example = build(raw)[0][0]
    assert example.id == "scienceqa-0"
    assert example.prompt == [{"role": "user", "content": "Describe this image in one sentence."}]
    assert example.completion == [{"role": "assistant", "content": "a picture of thing 0"}]
    assert (example.task, example.references) == ("caption", ("a picture of thing 0",))
    assert example.columns == {"category": "Maps", "topic": "geography", "subject": "social science", "pid": "0"}


@pytest.mark.parametrize(
    ("caption_from", "without", "text"),
    [("hint", "0", "A hint of two lines, 4."), ("solution", "1", "Because of 4.")],
)
def test_hint_and_solution_are_options(raw, caption_from, without, text):
    """Problem 0 has no hint, problem 1 no solution; problem 5 has both."""
    examples, _, work = build(raw, caption_from=caption_from)
    by_pid = {example.columns["pid"]: example for example in examples}
    assert without not in by_pid and "5" in by_pid
    assert by_pid["4"].references == (text,)
    assert excluded(work)["problems without a target text"] == 1
    assert "captions.json" not in work.sources


def test_the_parquet_gives_the_same_rows(raw, hub):
    official, parquet = (build(folder, caption_from="hint") for folder in (raw, hub))
    assert set(column(parquet[0], "pid")) == {None}
    assert column(parquet[0], "id")[:2] == ["scienceqa-train-1", "scienceqa-train-2"]
    for a, b in zip(official[0], parquet[0], strict=True):
        assert (a.references, a.split, a.columns["category"]) == (b.references, b.split, b.columns["category"])
    assert official[1]["noniid"].splits == parquet[1]["noniid"].splits
    assert len(parquet[2].sources) == 3


def test_the_parquet_with_captions_is_refused(hub):
    with pytest.raises(ValueError, match=r"`--caption_from hint` or `--caption_from solution`"):
        build(hub)


def test_noniid_has_one_client_per_category(raw):
    """Magnets 4 6 7, Maps 0 1 2."""
    examples, partitions, _ = build(raw)
    partition = partitions["noniid"]
    assert partition.client_names == {"client_00": "Magnets", "client_01": "Maps"}
    by_pid = dict(zip(column(examples, "pid"), zip(partition.splits, partition.client_ids, strict=True), strict=True))
    assert by_pid == {
        **dict.fromkeys(("4", "6", "7"), ("client_00", None)),
        **dict.fromkeys(("0", "1", "2"), ("client_01", None)),
        "10": ("validation", "client_01"),
        "13": ("test", "client_01"),
        "14": ("test", "client_00"),
        "15": ("test", "client_00"),
    }


def test_iid_spreads_every_category(raw):
    """Three rows of each over two clients: one or two."""
    examples, partitions, _ = build(raw)
    found = Counter(zip(partitions["iid"].splits, column(examples, "category"), strict=True))
    for category in ("Maps", "Magnets"):
        assert sorted(found[f"client_0{k}", category] for k in range(2)) == [1, 2]


def test_no_client_has_a_held_out_image(raw):
    examples, partitions, _ = build(raw, caption_from="solution")
    digests = [image_digest(open_image(example.image.load(), example.id)) for example in examples]
    for partition in partitions.values():
        sides = {}
        for digest, split in zip(digests, partition.splits, strict=True):
            sides.setdefault(split.split("_")[0], set()).add(digest)
        assert not sides["client"] & (sides["validation"] | sides["test"]) and not sides["validation"] & sides["test"]


def test_a_category_with_too_few_training_rows_is_left_out(raw):
    """From one row on there are three categories; Rocks has one training row, and iid would have three clients."""
    examples, _, work = build(raw, min_rows=1)
    assert set(column(examples, "category")) == {"Maps", "Magnets"}
    why = next(line["why"] for line in work.counts.lines if line["what"] == "problems of category Rocks")
    assert why == "1 training row, too few for the 3 clients that iid would have with it"


@pytest.mark.parametrize(
    ("training_rows", "kept"),
    [
        # by rank: 9 >= 1, 6 >= 2, 4 >= 3, but 3 < 4. With a fourth category there would be four clients of iid, and
        # the fourth category has three rows.
        ({"a": 3, "b": 9, "c": 1, "d": 4, "e": 6, "f": 3}, "bde"),
        # three of four categories with three rows each: the first ones by name
        ({"d": 3, "c": 3, "b": 3, "a": 3}, "abc"),
        ({"a": 1}, "a"),
        ({"a": 2, "b": 2}, "ab"),
        ({"a": 5, "b": 0}, "a"),
        ({"a": 0, "b": 0}, ""),
    ],
)
def test_kept_categories_have_a_training_row_for_each_client_of_iid(training_rows, kept):
    assert largest_shareable(training_rows) == set(kept)


def test_no_larger_set_of_categories_has_enough_training_rows():
    """Compared with all subsets of up to six categories, for 200 draws of their training rows."""
    draw = random.Random(0)
    for _ in range(200):
        rows = {name: draw.randrange(8) for name in "abcdef"[: draw.randrange(1, 7)]}
        enough = [
            subset
            for size in range(len(rows) + 1)
            for subset in combinations(rows, size)
            if all(rows[name] >= size for name in subset)
        ]
        found = largest_shareable(rows)
        assert all(rows[name] >= len(found) for name in found)
        assert len(found) == max(map(len, enough))


def test_a_lower_minimum_never_keeps_fewer_categories():
    """The 20 categories with 20 rows among the first 1,773 problems of the real problems.json.

    The 15th largest has 15 training rows and the 16th has 13, so 15 of them can share their rows with 15 clients. Only
    8 have 20 training rows.
    """
    training = [64, 32, 26, 25, 24, 22, 21, 21, 19, 17, 16, 16, 15, 15, 15, 13, 13, 13, 12, 12]
    rows = {f"category {number:02d}": count for number, count in enumerate(training)}
    assert largest_shareable(rows) == {f"category {number:02d}" for number in range(15)}
    sizes = [len(largest_shareable(dict(list(rows.items())[:end]))) for end in range(len(rows) + 1)]
    assert sizes == sorted(sizes)


def test_a_minimum_that_leaves_nothing_is_refused(raw):
    """Maps has 5 rows left (0 1 2 10 13), Magnets 5 (4 6 7 14 15)."""
    assert len(build(raw, min_rows=5)[0]) == 10
    with pytest.raises(ValueError, match=r"`min_rows=6` leaves no category: the largest has 5 rows.* Use at most 5, "):
        build(raw, min_rows=6)


def test_categories_without_training_rows_are_refused(tmp_path):
    """All problems are in the test split: a lower minimum would not help."""
    problems = {pid: {**problem, "split": "test"} for pid, problem in raw_problems().items()}
    raw = write_raw(tmp_path / "ScienceQA", problems, {"train": [], "val": [], "test": list(problems)})
    with pytest.raises(ValueError, match=r"None of the 2 categories with .*`min_rows=4` rows has a training row"):
        build(raw)


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r"`caption_from='lecture'` is unknown; choose one of .*captions"):
        FedScienceCap(caption_from="lecture")
