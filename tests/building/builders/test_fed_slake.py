"""Fed-SLAKE on the miniature: 57 rows, of which 39 are English."""

from collections import Counter

import pytest

from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.fed_slake import FedSlake
from fedvlm_hf.building.inputs import changes
from fedvlm_hf.building.work import Work
from raw_slake import raw_rows, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "Slake1.0")


def build(raw, **options):
    work = Work()
    builder = FedSlake(**{"min_question_type_rows": 1, **options})
    examples = builder.read(raw, work)
    assert work.counts.kept == len(examples)
    return examples, {p.name: p for p in builder.partitions(examples)}, work


def counts(work, step):
    return {line["what"]: line["count"] for line in work.counts.lines if line["step"] == step}


def test_it_is_registered():
    assert BUILDERS.get("fed_slake") is FedSlake


def test_english_is_kept_by_default(raw):
    """57 rows less 18 Chinese and one without an answer are 38: 20 train, 12 validation, 6 test."""
    examples, _, work = build(raw)
    assert Counter(column(examples, "split")) == {"train": 20, "validation": 12, "test": 6}
    assert set(column(examples, "language")) == {"en"}
    assert counts(work, "excluded") == {
        "rows in another language": 18,
        "rows without an answer": 1,
        "train rows whose image is also in validation or test": 0,
        "validation rows whose image is also in test": 0,
    }
    assert counts(work, "note")["rows with repeated spaces, repaired"] == 1
    assert sorted(work.sources) == ["test.json", "train.json", "validate.json"]


def test_a_row(raw):
    example = build(raw)[0][0]
    assert example.id == "slake-en-0"
    assert example.prompt[0]["content"].startswith("Is this a CT?\n")
    assert example.completion == [{"role": "assistant", "content": "Yes"}]
    assert (example.task, example.references) == ("vqa", ("Yes",))
    assert example.columns == {
        "modality": "CT",
        "location": "Abdomen",
        "content_type": "Modality",
        "base_type": "vqa",
        "subset": "closed",
        "language": "en",
    }


def test_rare_question_types_are_left_out_and_counted(raw):
    """Modality and Organ have 18 rows each, Plane and Shape one: 38 - 2 rows from a minimum of 2 on."""
    examples, _, work = build(raw, min_question_type_rows=2)
    assert Counter(column(examples, "content_type")) == {"Modality": 18, "Organ": 18}
    found = counts(work, "excluded")
    assert (found["rows of question type Plane"], found["rows of question type Shape"]) == (1, 1)
    assert len(build(raw, min_question_type_rows=18)[0]) == 36


def test_a_minimum_that_leaves_nothing_is_refused(raw):
    with pytest.raises(ValueError, match=r"`min_question_type_rows=20` leaves no row: .* has 18"):
        build(raw, min_question_type_rows=20)


def test_with_both_languages_rows_of_held_out_images_are_left_out(raw):
    """Where a modality's images are (English, Chinese), and which rows go, two English and one Chinese an image.

    0 train, train; 1 train, test: 2 train rows go; 2 train, validation: 2; 3 validation, train: 1; 4 test, train: 1;
    5 validation, test: 2 validation rows. So 3 x 6 train and 3 x 2 validation rows go; 56 - 24 = 32 are kept.
    """
    examples, partitions, work = build(raw, languages="en,zh")
    found = counts(work, "excluded")
    assert found["train rows whose image is also in validation or test"] == 18
    assert found["validation rows whose image is also in test"] == 6
    assert Counter(column(examples, "split")) == {"train": 11, "validation": 9, "test": 12}
    images = {split: {e.image.key for e in examples if e.split == split} for split in ("train", "validation", "test")}
    assert images["train"] == {"imgs/xmlab0/source.jpg", "imgs/xmlab6/source.jpg", "imgs/xmlab12/source.jpg"}
    assert not images["train"] & (images["validation"] | images["test"]) and not images["validation"] & images["test"]
    for partition in partitions.values():
        ours = {e.image.key for e, split in zip(examples, partition.splits, strict=True) if split.startswith("client")}
        assert ours == images["train"]


def test_chinese_only(raw):
    examples, _, _ = build(raw, languages="zh")
    assert Counter(column(examples, "split")) == {"train": 9, "validation": 3, "test": 6}


def test_images_are_compared_by_pixels_and_not_by_name(raw):
    """The CT test image (4) takes the place of a training image (1) of two rows."""
    (raw / "imgs" / "xmlab1" / "source.jpg").write_bytes((raw / "imgs" / "xmlab4" / "source.jpg").read_bytes())
    assert Counter(column(build(raw)[0], "split")) == {"train": 18, "validation": 12, "test": 6}


def test_images_need_not_exist(tmp_path):
    examples, _, work = build(write_raw(tmp_path, images=False), languages="en,zh")
    assert len(examples) == 32
    assert counts(work, "note")["images without a file"] == 18


def test_noniid_has_one_client_per_modality(raw):
    """Each modality has 3 training images of 2 rows; Plane is on a CT image and Shape on an MRI."""
    examples, partitions, _ = build(raw)
    partition = partitions["noniid"]
    assert partition.client_names == {"client_00": "CT", "client_01": "MRI", "client_02": "X-Ray"}
    assert Counter(partition.splits) == {
        "client_00": 7, "client_01": 7, "client_02": 6, "validation": 12, "test": 6
    }  # fmt: skip
    client_of = {name: client_id for client_id, name in partition.client_names.items()}
    for example, split, client_id in zip(examples, partition.splits, partition.client_ids, strict=True):
        expected = client_of[example.columns["modality"]]
        assert (split, client_id) in {(expected, None), ("validation", expected), ("test", expected)}


def test_iid_has_every_modality_in_every_client(raw):
    """7 CT, 7 MRI and 6 X-ray rows over three clients: 2 or 3 of each, 20 rows as 7, 7, 6."""
    examples, partitions, _ = build(raw)
    partition = partitions["iid"]
    modalities = column(examples, "modality")
    cells = Counter(cell for cell in zip(partition.splits, modalities, strict=True) if cell[0].startswith("client"))
    assert sorted(Counter(s for s in partition.splits if s.startswith("client")).values()) == [6, 7, 7]
    assert len(cells) == 9 and set(cells.values()) <= {2, 3}


def test_the_seed_chooses_iid_rows_and_nothing_else(raw):
    one, two, again = (build(raw, seed=seed)[1] for seed in (0, 1, 0))
    assert one == again
    assert one["noniid"] == two["noniid"]
    assert one["iid"].splits != two["iid"].splits


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match=r"`languages='en,de'`: \['de'\] is not one of SLAKE's \['en', 'zh'\]"):
        FedSlake(languages="en,de")


def test_repeated_rows_are_kept_and_counted(tmp_path):
    rows = raw_rows()
    rows["train"].append({**rows["train"][0], "qid": 999})
    examples, _, work = build(write_raw(tmp_path, rows))
    assert len(examples) == 39
    assert counts(work, "note")["rows that repeat another's image, question and answer"] == 1


def test_another_name_of_a_file_is_noticed(raw):
    """`validate.json` comes before `validation.json`, which is the name in the authors' copy on the Hub."""
    (raw / "validate.json").rename(raw / "validation.json")
    work = Work(raw=raw)
    FedSlake(min_question_type_rows=1).read(raw, work)
    assert not changes(work.inputs, work.inputs.read_again(work))
    (raw / "validate.json").write_bytes((raw / "validation.json").read_bytes())
    assert changes(work.inputs, work.inputs.read_again(work)).added == ("validate.json",)


def test_images_may_be_elsewhere_but_no_image_leads_out_of_their_folder(raw, tmp_path):
    elsewhere = (raw / "imgs").rename(tmp_path / "elsewhere")
    (raw / "imgs").symlink_to(elsewhere)
    examples, _, _ = build(raw)
    image = elsewhere / examples[0].image.key.removeprefix("imgs/")
    image.rename(tmp_path / "secret.jpg")
    image.symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ValueError, match=r"is a link to .*secret\.jpg, which is outside of .*imgs"):
        build(raw)
