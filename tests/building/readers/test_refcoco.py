import json
import os
import pickle

import pytest

import raw_refcoco
from fedvlm_hf.building.readers import refcoco
from fedvlm_hf.building.readers.refcoco import Sentence


@pytest.fixture
def raw(tmp_path):
    return raw_refcoco.write_raw(tmp_path / "raw")


def test_refs_are_read_with_the_boxes_of_their_annotations(raw):
    """The box of annotation 102, [16, 12, 32, 24] in 64 x 48 pixels, ends at 48 and 36: 1/4, 1/4, 3/4, 3/4."""
    refs = refcoco.read(raw)
    assert [ref.ref_id for ref in refs] == [*range(1, 25), 31, 25]
    first = refs[0]
    assert (first.image_id, first.annotation_id, first.category, first.given_split) == (1, 102, "cat", "train")
    assert first.box == (0.25, 0.25, 0.75, 0.75)
    assert first.sentences == (
        Sentence("cat 1 on the right", "Cat 1 On The Right!"), Sentence("the 1th cat", "The 1Th Cat!")
    )  # fmt: skip
    assert [ref.given_split for ref in refs[20:24]] == ["val", "testA", "testB", "train"]
    assert [sentence.text for sentence in refs[-1].sentences] == ["", ""]
    assert [path.name for path in refcoco.annotation_files(raw)] == ["instances.json", "refs(unc).p"]


def test_a_box_may_exceed_its_image_by_a_pixel(raw):
    """Annotation 2402 ends at 64.5 of 64 pixels and is cut there: x1 = 32.5 / 64."""
    assert refcoco.read(raw)[23].box == (0.5078125, 0.25, 1.0, 0.75)


def test_a_json_export_is_the_same(raw, tmp_path):
    exported = raw_refcoco.write_raw(tmp_path / "exported", as_json=True)
    assert refcoco.read(exported) == refcoco.read(raw)
    assert refcoco.annotation_files(exported)[1].name == "refs.json"


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_pickle_of_python_3_is_the_same(raw, protocol):
    expected = refcoco.read(raw)
    (raw / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(raw_refcoco.refs(), protocol))
    assert refcoco.read(raw) == expected


def test_raw_may_be_spelt_as_in_the_readme(tmp_path):
    rows = raw_refcoco.refs()[:1]
    for sentence in rows[0]["sentences"]:
        sentence["arw"] = sentence.pop("raw")
    (ref,) = refcoco.read(raw_refcoco.write_raw(tmp_path, rows))
    assert ref.sentences[0].raw == "Cat 1 On The Right!"


def test_the_folder_itself_and_folders_one_level_off(tmp_path):
    raw = raw_refcoco.write_raw(tmp_path / "above" / "raw")
    assert len(refcoco.read(raw / "refcoco")) == 26
    with pytest.raises(ValueError, match=rf"one level off: use {raw.resolve()}\."):
        refcoco.read(tmp_path / "above")


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_the_refs_is_not_executed(raw, tmp_path):
    marker = tmp_path / "ran"
    (raw / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([Evil(f"touch '{marker}'")], 2))
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p, byte 5: the pickle has the opcode GLOBAL"):
        refcoco.read(raw)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ann_id": 7}, r"annotation 7 is not in .*instances\.json\. The two files do not belong together"),
        ({"image_id": 5}, r"has image 5, but its annotation 302 has image 3 in .*instances\.json"),
        ({"split": "test"}, r"`split` is 'test', not one of \['train', 'val', 'testA', 'testB'\]"),
        ({"sentences": "cat"}, r"`sentences` must be a list, not 'cat'"),
        ({"sentences": ["cat"]}, r"a sentence must be an object, not text"),
        ({"sentences": [{"sent": "cat"}]}, r"a sentence has no `raw`"),
        ({"ref_id": "3"}, r"`ref_id` must be a whole number, not '3'"),
        ({"ref_id": 1}, r"the ref_id 1 already occurred"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_refs_are_named(tmp_path, change, message, as_json):
    rows = raw_refcoco.refs()
    rows[2].update(change)
    raw_refcoco.write_raw(tmp_path, rows, as_json)
    name = r"refs\.json" if as_json else r"refs\(unc\)\.p"
    with pytest.raises(ValueError, match=rf"{name}, row 2.*{message}"):
        refcoco.read(tmp_path)


@pytest.mark.parametrize("bbox", [[40.0, 12.0, 25.5, 24.0], [-1.5, 12.0, 20.0, 24.0], [16.0, 12.0, 32.0, 0.0]])
def test_a_box_outside_its_image_is_named(raw, bbox):
    """40 + 25.5 is 1.5 pixels outside of 64."""
    path = raw / "refcoco" / "instances.json"
    content = json.loads(path.read_text())
    next(row for row in content["annotations"] if row["id"] == 302)["bbox"] = bbox
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"refs\(unc\)\.p, row 2 \(ref_id 3\), annotation 302 of .*instances\.json: The box"
    ):
        refcoco.read(raw)


def test_files_that_are_not_refs(raw):
    path = raw / "refcoco" / "refs(unc).p"
    path.write_bytes(b"}.")
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p contains an object without content, not a list of refs"):
        refcoco.read(raw)
    path.unlink()
    with pytest.raises(ValueError, match=r"has an instances\.json, but none of \['refs\(unc\)\.p'"):
        refcoco.read(raw)
    (raw / "refcoco" / "refs.json").write_text('[{"ref_id": 1')
    with pytest.raises(ValueError, match=r"refs\.json, line 1, column 14: not complete JSON"):
        refcoco.read(raw)
