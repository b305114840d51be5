import json
from collections import Counter

import pytest
from PIL import Image

from deep_images import radiograph
from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.custom import Custom
from fedvlm_hf.building.work import Work
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.data.clients import check_content, client_datasets, evaluation_datasets
from fedvlm_hf.data.pixels import Window, in_8_bits
from fedvlm_hf.launch import load_federation
from raw_custom import question, write_csv, write_image, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def build(raw, **options):
    """The examples, and both partitions."""
    builder = Custom(**options)
    examples = builder.read(raw, Work())
    return examples, *builder.partitions(examples)


def one(tmp_path, *rows, **options):
    """The examples of a client with these rows."""
    write_image(tmp_path / "raw" / "1.png", 1)
    (tmp_path / "raw" / "a.json").write_text(json.dumps([{"image": "1.png", **row} for row in rows]))
    return Custom(test_share=0, validation_share=0, **options).read(tmp_path / "raw", Work())


def test_is_registered():
    assert BUILDERS.get("custom") is Custom


def test_clients_are_files_and_folders(raw):
    """Five clients of ten images: 2 of each are test, 1 is validation, 7 are left."""
    examples, noniid, iid = build(raw)
    names = ["client_site_a", "client_site_b", "client_site_c", "client_site_d", "client_site_e"]
    sizes = {"test": 10, "validation": 5}
    assert Counter(noniid.splits) == {**dict.fromkeys(names, 7), **sizes}
    assert Counter(iid.splits) == {**{f"client_0{k}": 7 for k in range(5)}, **sizes}
    for example, split, client_id in zip(examples, noniid.splits, noniid.client_ids, strict=True):
        assert (client_id or split) == f"client_{example.columns['site'].replace('-', '_')}"
        assert (client_id is None) == (split not in sizes)
    assert [split in sizes for split in noniid.splits] == [split in sizes for split in iid.splits]
    assert noniid.client_names["client_site_c"] == "site-c"
    assert {client_id for client_id in iid.client_ids if client_id} <= {f"client_0{k}" for k in range(5)}


@pytest.mark.parametrize("window", [None, "2501,1000"])
def test_a_deep_image_that_is_held_out_as_a_copy_is_found(tmp_path, window):
    """Of four radiographs one is held out as a TIFF of another type too, and one as the PNG that a build stores."""
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    for number in range(4):
        radiograph(number, 32).save(raw / "images" / f"{number}.png")
    radiograph(0, 32, "F").save(raw / "images" / "copy.tif")
    in_8_bits(radiograph(1, 32), Window.parse(window) if window else None).save(raw / "images" / "copy.png")
    held_out = [
        {**question(10 + place), "image": f"images/{name}", "split": "test"}
        for place, name in enumerate(("copy.tif", "copy.png"))
    ]
    write_csv(raw / "a.csv", [{**question(number), "split": "train"} for number in range(4)] + held_out)
    pairs = r"images/copy\.tif .* = images/0\.png .*; images/copy\.png .* = images/1\.png"
    with pytest.raises(ValueError, match=rf"2 images of `test` or `validation` are also in training.*{pairs}"):
        build_dataset(Custom(validation_share=0), raw, tmp_path / "out", WriteOptions(num_workers=1, window=window))


@pytest.mark.parametrize(("config", "first"), [("noniid", "client_site_a"), ("iid", "client_00")])
def test_what_is_built_can_be_trained_on(raw, tmp_path, config, first):
    out = build_dataset(Custom(), raw, tmp_path / "out", WriteOptions(num_workers=1))
    dataset = load_federation(str(out), config)
    clients = client_datasets(dataset)
    check_content(clients, evaluation_datasets(dataset))
    assert len(clients) == 5
    assert dataset[first].num_rows == 7


def test_tasks_and_texts(raw):
    """Vqa with a question, caption without one, classification by class; the answer is the first reference."""
    examples, *_ = build(raw, wording="plain")
    by_id = {example.id: example for example in examples}
    vqa, more, caption, cat = (by_id[name] for name in ("site_a-2", "site_b-1", "site-c-0", "site_d-cat/0.png"))
    assert (vqa.task, vqa.prompt[0]["content"], vqa.references) == ("vqa", "Which is 0?", ("it is 0",))
    assert more.references == ("it is 10", "it", "10")
    assert (caption.task, caption.prompt[0]["content"]) == ("caption", "Describe the image.")
    assert (cat.task, cat.prompt[0]["content"]) == ("classification", "class of the main object?")
    assert cat.completion == [{"role": "assistant", "content": "cat"}]
    labels = Counter(column(examples, "label"))
    assert labels == {"vqa": 30, "caption": 10, "cat": 5, "dog": 5}


def test_held_out_images_depend_on_names_and_seed_only(raw):
    """Not on the order of rows."""
    held_out = {seed: {e.image.key for e in build(raw, seed=seed)[0] if e.split == "test"} for seed in range(3)}
    write_csv(raw / "site_a.csv", [question(index) for index in reversed(range(10))])
    assert {e.image.key for e in build(raw)[0] if e.split == "test"} == held_out[0]
    assert len({frozenset(keys) for keys in held_out.values()}) > 1


def test_equal_files_are_one_image_and_stay_together(raw):
    """Client a asks twice of each image, the second time of a copy under another name."""
    rows = [question(index) for index in range(10)]
    for index in range(10):
        (raw / "images" / f"copy{index}.png").write_bytes((raw / "images" / f"{index}.png").read_bytes())
        rows.append({**question(index), "image": f"images/copy{index}.png"})
    write_csv(raw / "site_a.csv", rows)
    examples, noniid, _ = build(raw)
    splits_of = {}
    for example, split in zip(examples, noniid.splits, strict=True):
        splits_of.setdefault(example.image.key, set()).add(split)
    assert len(splits_of) == 50
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert Counter(noniid.splits)["client_site_a"] == 14


def test_images_of_two_clients_are_not_held_out(raw):
    """f asks about image 0 too. Of its 10 images 9 are its own; round(0.2 * 9) = 2 are test, 1 validation, 7 stay."""
    for index in range(60, 69):
        write_image(raw / "images" / f"{index}.png", index)
    write_csv(raw / "site_f.csv", [question(index) for index in (0, *range(60, 69))])
    for seed in range(4):
        examples, noniid, _ = build(raw, seed=seed)
        shared = {split for e, split in zip(examples, noniid.splits, strict=True) if e.image.key == "images/0.png"}
        assert shared == {"client_site_a", "client_site_f"}
        assert Counter(noniid.splits)["client_site_f"] == 7


def test_shared_held_out_files(raw):
    """Given rows are the test; a share of images is validation still. A row is of the client it names, or of none."""
    for index in (50, 51):
        write_image(raw / "images" / f"{index}.png", index)
    write_csv(raw / "test.csv", [question(50, client_id="client_site_b"), question(51)])
    examples, noniid, iid = build(raw)
    assert Counter(noniid.splits)["test"] == 2
    assert Counter(noniid.splits)["validation"] == 5
    found = {e.id: (s, c) for e, s, c in zip(examples, noniid.splits, noniid.client_ids, strict=True)}
    assert found["test-2"] == ("test", "client_site_b")
    assert found["test-3"] == ("test", None)
    assert all(c for s, c in zip(iid.splits, iid.client_ids, strict=True) if s == "test")


def test_a_split_column_and_several_clients_in_one_file(tmp_path):
    raw = tmp_path / "raw"
    rows = []
    for index in range(6):
        write_image(raw / "images" / f"{index}.png", index)
        split = ("train", "validation", "test")[index % 3]
        rows.append(question(index, split=split, client_id=("north", "client_south")[index // 3]))
    write_csv(raw / "all.csv", rows)
    _, noniid, _ = build(raw)
    assert noniid.splits == ("client_north", "validation", "test", "client_south", "validation", "test")
    assert noniid.client_ids == (None, "client_north", "client_north", None, "client_south", "client_south")


def test_further_columns_are_kept(tmp_path):
    first, second = one(
        tmp_path,
        {"question": "q", "answer": True, "subset": "open", "year": 2020, "id": "x"},
        {"question": "q", "answer": 4, "label": "mine"},
    )
    assert first.columns == {"site": "a", "label": "vqa", "subset": "open", "year": "2020"}
    assert second.columns == {"site": "a", "label": "mine", "subset": None, "year": None}
    assert (first.id, second.id, first.references, second.references) == ("x", "a-1", ("true",), ("4",))


def test_boxes_are_written_in_the_text_form_of_rows(tmp_path):
    (row,) = one(
        tmp_path, {"task": "grounding", "expression": "the cat", "answer": "[0, 0.25,0.5, 1]"}, wording="plain"
    )
    assert row.references == ("[0.000, 0.250, 0.500, 1.000]",)
    assert row.completion[0]["content"] == "[0.000, 0.250, 0.500, 1.000]"
    assert row.prompt[0]["content"] == "Where is the cat?"


def test_the_answer_to_a_multiple_choice_question_is_a_letter(tmp_path):
    """As a list or divided by |; the answer is an option's text or letter."""
    first, second = one(
        tmp_path,
        {"question": "Which?", "choices": ["cat", "dog"], "answer": "dog"},
        {"question": "Which?", "choices": "x | y | z", "answer": "C"},
        wording="plain",
    )
    assert first.prompt[0]["content"] == "Which?\nA. cat\nB. dog"
    assert (first.task, first.references, second.references) == ("vqa", ("B",), ("C",))
    assert second.completion[0]["content"] == "C"
    with pytest.raises(ValueError, match=r"`answer` 'cow' is neither one of the `choices`"):
        one(tmp_path, {"question": "Which?", "choices": ["cat", "dog"], "answer": "cow"})


def test_a_prompt_is_used_unchanged(tmp_path):
    (row,) = one(tmp_path, {"prompt": "Say a\n letter.", "answer": "b", "task": "report"}, wording="polite")
    assert (row.task, row.prompt) == ("report", [{"role": "user", "content": "Say a\n letter."}])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "q"}, "`answer` is missing"),
        ({"question": "q", "prompt": "p", "answer": "a"}, "a `question` and a `prompt`"),
        ({"answer": "a", "task": "vqa"}, "'vqa' needs the column `question`"),
        ({"answer": "a", "task": "poem"}, "`task` 'poem' is unknown"),
        ({"answer": "a", "split": "dev"}, "`split` 'dev' is not one of"),
        ({"answer": "a", "references": [[1]]}, r"`references` \[\[1\]\] is not a list of texts, it has a list"),
        ({"answer": {"text": "a"}}, "`answer` must be text or a number, got a dict"),
        ({"answer": "left", "task": "detection", "target": "lung"}, "'left' is not a box"),
        ({"answer": "[0, 0, 640, 480]", "task": "detection", "target": "lung"}, "fractions of the image"),
        ({"answer": "a", "client_id": ["b"]}, "`client_id` must be text or a number, got a list"),
        ({"answer": "a", "images": "b"}, "the build adds a column `images`"),
        ({"answer": "a", "id": "a-0"}, "the `id` 'a-0' is not unique"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, problem):
    with pytest.raises(ValueError, match=rf"a\.json, row 1: .*{problem}"):
        one(tmp_path, {"answer": "fine"}, row)


def test_an_unknown_client_is_named(raw):
    write_csv(raw / "test.csv", [question(0, client_id="site_x")])
    with pytest.raises(
        ValueError, match=r"test\.csv, line 2: `client_id` 'site_x' is not one of \['site-c', 'site_a'"
    ):
        Custom().read(raw, Work())


def test_a_dataset_needs_rows_of_clients(tmp_path):
    write_image(tmp_path / "raw" / "images" / "0.png", 0)
    write_csv(tmp_path / "raw" / "test.csv", [question(0)])
    with pytest.raises(ValueError, match=r"(?s)has no client, only \['test'\]\. Expected is:.*site_a\.csv"):
        Custom().read(tmp_path / "raw", Work())


def test_too_few_images_say_what_to_do(tmp_path):
    write_image(tmp_path / "raw" / "1.png", 1)
    write_csv(tmp_path / "raw" / "a.csv", [{"image": "1.png", "answer": "x"}])
    with pytest.raises(ValueError, match=r"stratum 'a' \(groups: 1\).*strata are clients.*test\.csv"):
        Custom().read(tmp_path / "raw", Work())


def test_shares_must_leave_something(tmp_path):
    for shares in ({"test_share": -0.1}, {"test_share": 0.9, "validation_share": 0.1}):
        with pytest.raises(ValueError, match="so that each client has images to train on"):
            Custom(**shares)


def test_the_example_of_the_help_is_a_dataset(tmp_path):
    """north.csv as the layout prints it, with a second image so that one can be trained on."""
    raw = tmp_path / "own"
    line = "images/0001.jpg,Is the heart enlarged?,yes"
    assert line in Custom.layout
    for index in (1, 2):
        write_image(raw / "images" / f"000{index}.jpg", index)
    (raw / "north.csv").write_text(f"image,question,answer\n{line}\n{line.replace('0001', '0002')}\n")
    _, noniid, _ = build(raw, validation_share=0)
    assert sorted(noniid.splits) == ["client_north", "test"]


def conversation(number, *answers):
    """A row in LLaVA's form with a question for each answer."""
    turns = []
    for place, answer in enumerate(answers):
        turns += [
            {"from": "human", "value": f"{'<image>' * (not place)}\nQ{place}?"},
            {"from": "gpt", "value": answer},
        ]
    return {"image": f"images/{number}.png", "conversations": turns}


def write_json(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def test_each_answer_of_a_conversation_is_a_row(tmp_path):
    """Before, all but the last answer were dropped. The counts name what was added."""
    raw = tmp_path / "raw"
    for number in range(2):
        write_image(raw / "images" / f"{number}.png", number)
    write_json(raw / "a.json", [conversation(0, "yes", "no", "red"), conversation(1, "blue")])
    work = Work()
    examples = Custom(test_share=0, validation_share=0).read(raw, work)
    assert [(example.id, example.references) for example in examples] == [
        ("a-0-1", ("yes",)), ("a-0-2", ("no",)), ("a-0-3", ("red",)), ("a-1", ("blue",)),
    ]  # fmt: skip
    assert [len(example.prompt) for example in examples] == [1, 3, 5, 1]
    assert examples[0].prompt == [{"role": "user", "content": "Q0?"}]
    assert {
        "step": "read",
        "what": "further answers in conversations of a",
        "count": 2,
        "why": "",
    } in work.counts.lines
    assert work.counts.kept == 4


def test_answers_of_a_conversation_stay_in_one_split(tmp_path):
    raw = tmp_path / "raw"
    for number in range(10):
        write_image(raw / "images" / f"{number}.png", number)
    write_json(raw / "a.json", [conversation(number, "yes", "no") for number in range(10)])
    examples, noniid, _ = build(raw)
    assert Counter(noniid.splits) == {"client_a": 14, "validation": 2, "test": 4}
    splits = {}
    for example, split in zip(examples, noniid.splits, strict=True):
        splits.setdefault(example.image.key, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_options_name_the_columns(tmp_path):
    raw = tmp_path / "raw"
    for number in range(3):
        write_image(raw / "scans" / f"{number}.png", number)
    rows = [{"scan": f"{n}.png", "frage": f"Was ist {n}?", "antwort": f"{n}", "answer": "own"} for n in range(3)]
    write_csv(raw / "a.csv", rows)
    options = {"image": "scan", "image_folder": str(raw / "scans"), "question": "frage", "answer": "antwort"}
    examples, *_ = build(raw, validation_share=0, wording="plain", **options)
    assert [example.prompt[0]["content"] for example in examples] == ["Was ist 0?", "Was ist 1?", "Was ist 2?"]
    assert [example.references for example in examples] == [("0",), ("1",), ("2",)]
    assert examples[0].columns == {"site": "a", "label": "vqa", "subset": None, "answer": "own"}


def test_an_instruction_for_all_rows(tmp_path):
    (row,) = one(tmp_path, {"answer": "clear lungs"}, instruction="Report.", task="report")
    assert (row.task, row.prompt) == ("report", [{"role": "user", "content": "Report."}])


def test_columns_with_lists_are_left_out_and_counted(tmp_path):
    write_image(tmp_path / "raw" / "1.png", 1)
    write_json(tmp_path / "raw" / "a.json", [{"image": "1.png", "answer": "a", "tags": ["x"], "meta": {"y": 1}}])
    work = Work()
    (row,) = Custom(test_share=0, validation_share=0).read(tmp_path / "raw", work)
    assert set(row.columns) == {"site", "label", "subset"}
    (line,) = [line for line in work.counts.lines if line["what"] == "columns left out"]
    assert (line["count"], line["why"]) == (2, "they have lists or objects: meta, tags")


@pytest.mark.parametrize("name", ["train", "val", "valid", "validation", "test", "dev"])
def test_splits_are_never_clients(tmp_path, name):
    """`val.csv` beside `train.csv` became the training client `client_val`."""
    raw = write_raw(tmp_path / "raw")
    rows = [question(index, client_id="site_b") for index in (50, 51)]
    for index in (50, 51):
        write_image(raw / "images" / f"{index}.png", index)
    write_csv(raw / f"{name}.csv", rows)
    _, noniid, _ = build(raw)
    assert set(noniid.splits) == {
        "client_site_a", "client_site_b", "client_site_c", "client_site_d", "client_site_e", "validation", "test",
    }  # fmt: skip
    split = {"train": "client_site_b", "test": "test"}.get(name, "validation")
    assert Counter(noniid.splits)[split] == (9 if name == "train" else 2)


def test_training_rows_need_a_client(tmp_path):
    raw = tmp_path / "raw"
    for name, numbers in {"train": range(4), "val": range(4, 6), "test": range(6, 8)}.items():
        for number in numbers:
            write_image(raw / "images" / f"{number}.png", number)
        write_csv(raw / f"{name}.csv", [question(number) for number in numbers])
    with pytest.raises(
        ValueError, match=r"train\.csv, line 2: training rows need a client.*`client_id`.*`fedvlm partition --from`"
    ):
        Custom().read(raw, Work())


def test_all_training_rows_name_their_client_or_none_does(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json, row 1: only some training rows of a\.json have a `client_id`"):
        one(tmp_path, {"answer": "a", "client_id": "north"}, {"answer": "b", "client_id": float("nan")})


def test_a_client_without_training_rows_is_named(tmp_path):
    raw = write_raw(tmp_path / "raw")
    write_csv(raw / "site_a.csv", [question(index, split="test") for index in range(3)])
    with pytest.raises(ValueError, match="All 3 rows of the client 'site_a' are held out, so it has nothing to train"):
        Custom().read(raw, Work())


def test_equal_pixels_are_held_out_together(tmp_path):
    """Each image also exists as BMP: other bytes, the same pixels, and both files are stored."""
    raw = tmp_path / "raw"
    rows = []
    for number in range(10):
        write_image(raw / "images" / f"{number}.png", number)
        with Image.open(raw / "images" / f"{number}.png") as image:
            image.save(raw / "images" / f"{number}.bmp")
        rows += [question(number), {**question(number), "image": f"images/{number}.bmp"}]
    write_csv(raw / "a.csv", rows)
    examples, noniid, _ = build(raw)
    assert len({example.image.key for example in examples}) == 20
    splits = [set(noniid.splits[place : place + 2]) for place in range(0, 20, 2)]
    assert all(len(found) == 1 for found in splits)
    assert Counter(noniid.splits) == {"client_a": 14, "validation": 2, "test": 4}


def test_missing_images_may_be_allowed(tmp_path):
    raw = write_raw(tmp_path / "raw")
    (raw / "images" / "0.png").unlink()
    (raw / "images" / "1.png").unlink()
    with pytest.raises(ValueError, match="2 of 50 images are missing"):
        build_dataset(Custom(), raw, tmp_path / "out", WriteOptions(num_workers=1))
    options = WriteOptions(num_workers=1, allow_missing_images=True)
    out = build_dataset(Custom(), raw, tmp_path / "out", options)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["missing_images"] == 2
    assert manifest["num_rows"] == 50


@pytest.mark.parametrize("option", ["raw", "image_folder"])
def test_a_changed_image_is_noticed_in_any_folder(tmp_path, option):
    photos = tmp_path / ("raw" if option == "raw" else "photos")
    for number in range(10):
        write_image(photos / f"{number}.png", number)
    write_csv(tmp_path / "raw" / "a.csv", [{**question(number), "image": f"{number}.png"} for number in range(10)])
    builder = Custom(image_folder=None if option == "raw" else str(photos))
    build_dataset(builder, tmp_path / "raw", tmp_path / "out", WriteOptions(num_workers=1))
    build_dataset(builder, tmp_path / "raw", tmp_path / "out", WriteOptions(num_workers=1))
    write_image(photos / "3.png", 77)
    with pytest.raises(ValueError, match="image_folder" if option == "image_folder" else r"3\.png"):
        build_dataset(builder, tmp_path / "raw", tmp_path / "out", WriteOptions(num_workers=1))
    text = (tmp_path / "out" / "manifest.json").read_text() + (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in text


@pytest.mark.parametrize("target", ["raw", "raw/site_d", "elsewhere"])
def test_a_link_is_no_client(raw, tmp_path, target):
    """Neither a folder that contains the link itself, nor one that is outside of the data."""
    write_image(tmp_path / "elsewhere" / "cat" / "1.png", 1)
    link = raw / "site_d" / "loop"
    link.symlink_to(tmp_path / target)
    with pytest.raises(
        ValueError, match=rf"{link} is a link to {tmp_path / target}, (a folder that contains|which is)"
    ):
        build_dataset(Custom(), raw, tmp_path / "out", WriteOptions(num_workers=1))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.build").exists()
