"""A source file that exists but cannot be read is an error with its name, in every builder."""

from pathlib import Path

import pytest

import raw_coco
import raw_coco_qa
import raw_fgvc
import raw_mimic_cxr
import raw_refcoco
import raw_scienceqa
import raw_slake
import raw_vqa_rad
from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.work import Work


def write_nature(folder):
    for module in (raw_coco, raw_coco_qa, raw_refcoco):
        module.write_raw(folder)
    return folder


def write_med(folder):
    raw_slake.write_raw(folder / "slake")
    raw_vqa_rad.write_raw(folder / "vqa_rad")
    raw_mimic_cxr.write_raw(folder / "mimic_cxr")
    return folder


UNREADABLE = Path("/proc/self/mem")

SOURCES = [
    ("fed_slake", raw_slake.write_raw, "test.json", {}),
    ("fed_fgvc", raw_fgvc.write_raw, "data/manufacturers.txt", {}),
    ("fed_sciencecap", raw_scienceqa.write_raw, "data/captions.json", {}),
    (
        "fed_sciencecap",
        raw_scienceqa.write_hub,
        "data/test-00000-of-00001-f0e719df791966ff.parquet",
        {"caption_from": "hint"},
    ),
    ("fed_vqa_rad", raw_vqa_rad.write_raw, "trainset.json", {}),
    ("fed_vqa_rad", raw_vqa_rad.write_official, "VQA_RAD Dataset Public.json", {}),
    ("fed_vqa_rad", raw_vqa_rad.write_hub, "data/test-00000-of-00001.parquet", {}),
    ("fed_med", write_med, "slake/train.json", {"tasks": "vqa,report"}),
    ("fed_med", write_med, "vqa_rad/testset.json", {"tasks": "vqa,report"}),
    ("fed_med", write_med, "mimic_cxr/mimic-cxr-2.0.0-split.csv.gz", {"tasks": "report"}),
    ("fed_med", write_med, "mimic_cxr/files/p10/p10000000/s50000000.txt", {"tasks": "report"}),
    ("fed_nature", write_nature, "annotations/instances_train2014.json", {"rows_per_task": 10}),
    ("fed_nature", write_nature, "cocoqa/test/types.txt", {"rows_per_task": 10}),
    ("fed_nature", write_nature, "refcoco/refs(unc).p", {"rows_per_task": 10}),
]


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs Linux")
@pytest.mark.parametrize(("name", "write", "file", "options"), SOURCES)
def test_a_source_that_cannot_be_read_is_named(name, write, file, options, tmp_path):
    """Reading the memory of this process at its start is an input/output error, also for the superuser."""
    raw = write(tmp_path / "raw")
    path = raw / file
    path.unlink()
    path.symlink_to(UNREADABLE)
    with pytest.raises(ValueError, match=r"cannot be read|incomplete|no complete|not a complete") as caught:
        BUILDERS.get(name)(**options).read(raw, Work())
    assert path.name in str(caught.value)
