import json
import shutil
from collections import Counter
from hashlib import sha256

import pytest

import raw_coco
import raw_coco_qa
import raw_refcoco
from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.builders.fed_nature import TASKS, FedNature, largest_objects
from fedvlm_hf.building.readers.coco import Annotation
from fedvlm_hf.building.work import Work
from fedvlm_hf.data.spec import value_problem


def write_raw(folder):
    for source in (raw_coco, raw_refcoco, raw_coco_qa):
        source.write_raw(folder)
    return folder


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def by_id(examples):
    return {example.id: example for example in examples}


def images_of(examples, split):
    return {e.columns["image_id"] for e in examples if e.split == split}


def test_it_is_registered():
    assert BUILDERS.get("fed_nature") is FedNature


def test_rows_of_each_task(raw):
    """Image 1 has a crowd larger than its cat, image 2 a dog as large with a greater number, image 3 a larger dog."""
    rows = by_id(FedNature().read(raw, Work()))
    vqa, box = rows["coco_qa-train-1"], "[0.250, 0.250, 0.750, 0.750]"
    assert (vqa.task, vqa.references) == ("vqa", ("black",))
    assert vqa.prompt[0]["content"].startswith("what is the color of the cat\n")
    assert vqa.columns == {"image_id": "1", "subset": "color", "category": None}
    grounding = rows["refcoco-grounding-1"]
    assert (grounding.task, grounding.references) == ("grounding", (box,))
    assert grounding.prompt[0]["content"].endswith("describes: cat 1 on the right")
    assert grounding.completion == [{"role": "assistant", "content": box}]
    assert grounding.columns == {"image_id": "1", "subset": None, "category": "cat"}
    caption = rows["refcoco-caption-1"]
    assert (caption.task, caption.references) == ("caption", ("cat 1 on the right", "the 1th cat"))
    assert box in caption.prompt[0]["content"]
    assert caption.completion[0]["content"] == "cat 1 on the right"
    assert [rows[f"coco-class-{k}"].references for k in (1, 2, 3)] == [("cat",), ("cat",), ("dog",)]
    assert "category of the largest object" in rows["coco-class-1"].prompt[0]["content"]
    assert len({rows[i].image.key for i in ("coco_qa-train-1", "refcoco-caption-31", "coco-class-1")}) == 1
    assert vqa.image.load() == (raw / "train2014" / "COCO_train2014_000000000001.jpg").read_bytes()


def test_every_row_is_valid(raw):
    for example in FedNature(wording="plain").read(raw, Work()):
        for name in ("prompt", "completion", "task"):
            assert value_problem(name, getattr(example, name)) is None
        assert value_problem("references", list(example.references)) is None


def test_only_images_that_all_tasks_have(raw):
    """Questions are on 1-20, 26-28 and 501, refs with words on 1-24, objects in 1-28: all three on 1-20.

    4 of the 20 are test, 2 validation, 14 training images. All 40 questions, 20 + 1 refs, 20 images are taken.
    """
    work = Work()
    examples = FedNature().read(raw, work)
    assert {task: len([e for e in examples if e.task == task]) for task in TASKS} == {
        "vqa": 40, "grounding": 21, "caption": 21, "classification": 20
    }  # fmt: skip
    parts = {split: images_of(examples, split) for split in ("train", "validation", "test")}
    assert {split: len(ids) for split, ids in parts.items()} == {"train": 14, "validation": 2, "test": 4}
    assert set.union(*parts.values()) == {str(k) for k in range(1, 21)}
    too_few = {line["what"]: line["count"] for line in work.counts.lines if "fewer" in line["what"]}
    assert too_few["classification: train rows fewer than requested"] == 4200 - 14
    assert too_few["vqa: test rows fewer than requested"] == 1200 - 2 * 4


def test_counts_of_what_was_read_left_out_and_drawn(raw):
    """10 rows a task: 7, 1 and 2. Of the 47 questions 7 are on other images (26-28 twice, 501), 30 are not drawn."""
    work = Work(raw=raw)
    examples = FedNature(rows_per_task=10).read(raw, work)
    assert len(examples) == work.counts.kept == 40
    assert Counter((e.task, e.split) for e in examples) == {
        (task, split): count for task in TASKS for split, count in (("train", 7), ("validation", 1), ("test", 2))
    }
    counts = {line["what"]: line["count"] for line in work.counts.lines}
    assert counts["linked images"] == 20
    assert counts["empty phrases of RefCOCO"] == 2
    for task, (read, unusable, unlinked, not_drawn) in {
        "vqa": (47, None, 7, 30),
        "grounding": (26, 1, 4, 11),
        "caption": (26, 1, 4, 11),
        "classification": (30, 2, 8, 10),
    }.items():
        assert [line["count"] for line in work.counts.lines if line["what"].endswith(f"for {task}")] == [read]
        assert counts[f"{task}: image without rows of the other tasks"] == unlinked
        assert counts[f"{task}: not drawn"] == not_drawn
        left_out = counts.get(f"{task}: ref without a phrase", counts.get(f"{task}: image without an object"))
        assert left_out == unusable
    assert list(work.sources) == [
        "annotations/instances_train2014.json", "refcoco/instances.json", "refcoco/refs(unc).p",
        *(f"cocoqa/{s}/{n}.txt" for s in ("train", "test") for n in ("questions", "answers", "img_ids", "types")),
    ]  # fmt: skip


def test_no_held_out_image_is_in_a_client_of_any_task(raw):
    examples = FedNature(rows_per_task=10).read(raw, Work())
    train, validation, test = (images_of(examples, split) for split in ("train", "validation", "test"))
    assert not test & (train | validation)
    assert not validation & train


def test_equal_images_with_two_ids_are_both_held_out(raw):
    """A training image becomes a copy of a test image: all of its rows go."""
    before = FedNature().read(raw, Work())
    train, test = (min(images_of(before, split), key=int) for split in ("train", "test"))
    folder = raw / "train2014"
    shutil.copy(folder / raw_coco.file_name(int(test)), folder / raw_coco.file_name(int(train)))
    after = FedNature().read(raw, Work())
    gone = by_id(before).keys() - by_id(after).keys()
    assert gone == {e.id for e in before if e.columns["image_id"] == train}


def test_rows_are_drawn_by_id_and_seed_alone(raw, tmp_path):
    first = [e.id for e in FedNature(rows_per_task=10).read(raw, Work())]
    assert [e.id for e in FedNature(rows_per_task=10).read(raw, Work())] == first
    path = raw / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    content["images"].reverse()
    content["annotations"].reverse()
    path.write_text(json.dumps(content))
    (raw / "refcoco" / "refs(unc).p").write_bytes(raw_refcoco.python2_pickle(raw_refcoco.refs()[::-1]))
    assert sorted(e.id for e in FedNature(rows_per_task=10).read(raw, Work())) == sorted(first)
    assert {e.id for e in FedNature(rows_per_task=10, seed=1).read(raw, Work())} != set(first)


def test_which_images_are_held_out_and_which_rows_are_drawn(raw):
    """Worked out with hashlib alone.

    The 4 linked images with the smallest sha256("0/<id>") are test, the next 2 validation; of the classification rows
    on the other 14 the 7 with the smallest sha256("0/coco-class-<id>") are drawn.
    """
    ranked = sorted(map(str, range(1, 21)), key=lambda k: sha256(f"0/{k}".encode()).hexdigest())
    train = sorted(ranked[6:], key=lambda k: sha256(f"0/coco-class-{k}".encode()).hexdigest())
    everything = FedNature().read(raw, Work())
    assert images_of(everything, "test") == set(ranked[:4])
    assert images_of(everything, "validation") == set(ranked[4:6])
    drawn = [e for e in FedNature(rows_per_task=10).read(raw, Work()) if e.task == "classification"]
    assert images_of(drawn, "train") == set(train[:7])


def test_more_rows_are_drawn_on_top_of_fewer(raw):
    few, more = ({e.id for e in FedNature(rows_per_task=n).read(raw, Work())} for n in (10, 20))
    assert few < more


def test_rows_are_counted_without_images(raw):
    shutil.rmtree(raw / "train2014")
    work = Work()
    assert len(FedNature().read(raw, work)) == 102
    assert {"images without a file", "linked images"} <= {line["what"] for line in work.counts.lines}


def test_noniid_has_one_client_per_task(raw):
    builder = FedNature(rows_per_task=10)
    examples = builder.read(raw, Work())
    noniid, _ = builder.partitions(examples)
    assert noniid.name == "noniid"
    assert noniid.client_names == {
        "client_00": "vqa", "client_01": "grounding", "client_02": "caption", "client_03": "classification"
    }  # fmt: skip
    for example, split, client_id in zip(examples, noniid.splits, noniid.client_ids, strict=True):
        held_out = example.split != "train"
        assert split == example.split if held_out else noniid.client_names[split] == example.task
        assert noniid.client_names[client_id] == example.task if held_out else client_id is None


def test_evenly(raw):
    """7 training rows of each task over four clients: 1 or 2 each, 7 in all."""
    builder = FedNature(rows_per_task=10)
    examples = builder.read(raw, Work())
    _, iid = builder.partitions(examples)
    assert iid.name == "iid"
    counts = Counter((split, e.task) for e, split in zip(examples, iid.splits, strict=True) if e.split == "train")
    assert {counts[f"client_{k:02d}", task] for k in range(4) for task in TASKS} == {1, 2}
    assert {sum(counts[f"client_{k:02d}", task] for task in TASKS) for k in range(4)} == {7}


def test_downloads_that_do_not_belong_together(raw):
    for split in ("train", "test"):
        path = raw / "cocoqa" / split / "img_ids.txt"
        path.write_text("".join(f"{900 + int(line)}\n" for line in path.read_text().split()))
    with pytest.raises(ValueError, match=r"no COCO image has rows of all four tasks; images by task: \{'vqa': 24, "):
        FedNature().read(raw, Work())


@pytest.mark.parametrize("part", ["annotations", "refcoco", "cocoqa"])
def test_a_missing_download_is_named(raw, part):
    shutil.rmtree(raw / part)
    with pytest.raises(ValueError, match=rf"`raw=.*Expected is .*{part}/"):
        FedNature().read(raw, Work())


def test_too_few_rows_to_split():
    with pytest.raises(ValueError, match="`rows_per_task=9` leaves a split without rows"):
        FedNature(rows_per_task=9)


def test_largest_objects():
    """Areas 5, 7, 7 of the annotations 1, 3, 2: the smaller number wins. Crowds do not count; image 8 has no other."""

    def annotation(annotation_id, image_id, area, is_crowd=False):
        return Annotation(annotation_id, image_id, 1, (0.0, 0.0, 1.0, 1.0), area, is_crowd)

    found = largest_objects(
        [
            annotation(1, 7, 5),
            annotation(3, 7, 7),
            annotation(2, 7, 7),
            annotation(4, 7, 9, is_crowd=True),
            annotation(5, 8, 9, is_crowd=True),
        ]
    )
    assert {image_id: a.annotation_id for image_id, a in found.items()} == {7: 2}
