"""Tables of own data: CSV, JSON and JSON Lines."""

import csv
import json
import subprocess
import sys

import pytest

from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def read(path):
    """Return the rows of the only source of a file."""
    (source,) = open_source(path, Work(raw=path.parent)).sources
    return list(source.rows())


def test_csv_rows_are_known_by_their_line(tmp_path):
    """A text over two lines counts both; a byte order mark, spaces around names and empty cells are no content."""
    path = write(
        tmp_path / "a.csv", '\ufeffimage, answer,note\r\n1.png,"two\nlines",\r\n\r\n2.png,"a, b",x\u2028y\r\n'
    )
    rows = read(path)
    assert [row.values for row in rows] == [{"answer": "two\nlines"}, {"answer": "a, b", "note": "x\u2028y"}]
    assert [row.image.key for row in rows] == ["1.png", "2.png"]
    assert [row.name for row in rows] == ["3", "5"]
    assert rows[1].where == f"{path}, line 5"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image,answer\n1.png,a;b|c\n"),
        ("a.csv", 'image;answer\n1.png;"a;b|c"\n'),
        ("a.csv", '"image, or file";image;answer\nx;1.png;"a;b|c"\n'),
        ("a.csv", "image\tanswer\n1.png\ta;b|c\n"),
        ("a.tsv", "image\tanswer\n1.png\ta;b|c\n"),
        ("a.csv", 'image,"answer;x"\n1.png,"a;b|c"\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_with_any_usual_delimiter_and_encoding(tmp_path, name, text, encoding):
    (row,) = read(write(tmp_path / name, text.replace("a;b|c", "ä;b|ç"), encoding))
    assert row.image.key == "1.png"
    assert row.values["answer;x" if "answer;x" in text else "answer"] == "ä;b|ç"


def test_a_header_that_can_be_divided_in_two_ways_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "image,file;answer,text;id\n1.png,2.png;a,b;1\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 1: the header can be divided by commas and by semicolons"):
        read(path)


def test_missing_values_are_left_out_but_words_are_kept(tmp_path):
    """pandas writes missing numbers as nan; `None` and `NA` may be answers."""
    csv_file = write(tmp_path / "a.csv", "image,a,b,c,d,e\n1.png,nan, NaN ,None,NA,none\n")
    (row,) = read(csv_file)
    assert row.values == {"c": "None", "d": "NA", "e": "none"}
    rows = [{"image": "1.png", "a": float("nan"), "b": None, "c": "NaN", "d": " ", "e": 0, "f": False, "g": ["x"]}]
    for name, text in (("b.json", json.dumps(rows)), ("c.jsonl", json.dumps(rows[0]))):
        (row,) = read(write(tmp_path / name, text))
        assert row.values == {"c": "NaN", "e": 0, "f": False, "g": ["x"]}


def test_json_keeps_types_and_is_known_by_index_or_line(tmp_path):
    row = {"image": "1.png", "answer": 0, "references": ["a"], "note": None, "empty": " "}
    lines = read(write(tmp_path / "a.jsonl", f"\n{json.dumps(row)}\n"))
    listed = read(write(tmp_path / "b.json", json.dumps([row])))
    assert [found.values for found in (*lines, *listed)] == [{"answer": 0, "references": ["a"]}] * 2
    assert (lines[0].name, listed[0].name) == ("2", "0")
    assert listed[0].where == f"{tmp_path / 'b.json'}, row 0"


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"image": "1.png", "answer": "a"}]},
        {"version": 2, "classes": ["x", "y"], "data": [{"image": "1.png", "answer": "a"}], "info": {"by": "me"}},
    ],
)
def test_a_json_object_with_one_list_of_rows(tmp_path, content):
    (row,) = read(write(tmp_path / "a.json", json.dumps(content)))
    assert (row.image.key, row.values) == ("1.png", {"answer": "a"})


def test_json_lines_in_a_json_file(tmp_path):
    text = "\n".join(json.dumps({"image": f"{index}.png", "answer": "a"}) for index in range(3))
    assert [row.name for row in read(write(tmp_path / "a.json", text))] == ["1", "2", "3"]


def test_chats_are_passed_on(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a cat"}]
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "a cat"}]
    path = write(tmp_path / "a.json", json.dumps([{"id": "7", "image": "1.png", "conversations": turns}]))
    (row,) = read(path)
    assert row.values == {"id": "7", "conversations": turns}
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "messages", "note"], ["1.png", json.dumps(messages), "[not json"]])
    (row,) = read(tmp_path / "b.csv")
    assert row.values == {"messages": messages, "note": "[not json"}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "image,answer\n1.png,a\n2.png\n", r"a\.csv, line 3: 1 values for the 2 columns"),
        ("a.csv", "image,answer\n1.png,a,b\n", r"a\.csv, line 2: 3 values for the 2 columns"),
        ("a.csv", "image;answer\n1.png;a;b\n", r"a\.csv, line 2: .* with a semicolon not in quotes"),
        ("a.csv", "image,image\n1.png,a\n", r"a\.csv, line 1: the header .* has a duplicate or an empty name"),
        ("a.csv", "image,\n1.png,a\n", r"a\.csv, line 1: the header .* has a duplicate or an empty name"),
        ("a.csv", 'image,answer\n1.png,"cut', r"a\.csv, line 2: not CSV"),
        ("a.csv", 'image,answer\n1.png,"a"b\n', r"a\.csv, line 2: not CSV"),
        ("a.csv", "image,answer\n", r"a\.csv has no rows"),
        ("a.csv", "", r"a\.csv has no rows"),
        ("a.jsonl", '{"image": "1.png"}\n{"image', r"a\.jsonl, line 2: not complete JSON"),
        ("a.jsonl", '{"image": "1.png"}\n{"image": "2.png"} {}', r"a\.jsonl, line 2: .*extra data, column 20"),
        ("a.jsonl", '{"image": "1.png", "image": "2.png"}', r"a\.jsonl, line 1: .*the key 'image' occurs twice"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: a row must be an object .* a list"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1: .*nested too deep"),
        ("a.jsonl", '{"image": ' + "1" * 5000 + "}", r"a\.jsonl, line 1: .*4300 digits"),
        ("a.jsonl", "", r"a\.jsonl has no rows"),
        ("a.json", '[{"image": "1.png"}', r"a\.json, line 1, column 20: not complete JSON .*at the end of the file"),
        ("a.json", '[{"image": "1.png"},\n]', r"a\.json, line 2, column 1: not complete JSON"),
        ("a.json", '[{"image": "1.png"}] []', r"a\.json, line 1, column 22: .*something follows"),
        ("a.json", '[{"image": "1.png", "image": 1}]', r"a\.json, line 1, column 2: .*'image' occurs twice"),
        ("a.json", '[{"image": ' + "[" * 100_000, r"a\.json, line 1, column 2: .*nested too deep"),
        ("a.json", '{"a": ' + '{"a": ' * 100_000, r"a\.json, line 1, column 7: .*nested too deep"),
        ("a.json", '{"image": "1.png"}', r"a\.json is an object in which no key has a list of rows"),
        ("a.json", '{"a": [{}], "b": [{}]}', r"a\.json .* several keys have a list of rows; lists are \['a', 'b'\]"),
        ("a.json", '["1.png"]', r"a\.json, row 0: a row must be an object .* a str"),
        ("a.json", '"text"', r"a\.json has neither a list of rows nor an object, but starts with '\"'"),
        ("a.json", "[]", r"a\.json has no rows"),
        ("a.json", "", r"a\.json, line 1, column 1: not complete JSON .*at the end of the file"),
    ],
)
def test_what_is_not_a_table_is_named(tmp_path, name, text, problem):
    with pytest.raises(ValueError, match=problem) as error:
        read(write(tmp_path / name, text))
    assert "ownload" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_other_encodings_are_named_with_line_and_remedy(tmp_path, name):
    texts = {
        "a.csv": "image,answer\n1.png,größer\n",
        "a.jsonl": '{"image": "1.png"}\n{"image": "größer"}',
        "a.json": '[{"image": "1.png"},\n{"image": "größer"}]',
    }
    write(tmp_path / name, texts[name], "latin-1")
    with pytest.raises(ValueError, match=rf"{name}, line 2: not text in UTF-8 \(byte 0xf6 .*iconv -f LATIN1 -t UTF-8"):
        read(tmp_path / name)


def test_utf16_without_a_byte_order_mark_is_named(tmp_path):
    write(tmp_path / "a.csv", "image,answer\n1.png,a\n", "utf-16-le")
    with pytest.raises(ValueError, match=r"a\.csv, line 1: .*UTF-16 without a byte order mark: iconv -f UTF-16LE"):
        read(tmp_path / "a.csv")


def test_a_broken_utf16_file_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("image,answer\n1.png,a\n".encode("utf-16") + b"\x00\xdc\x00")
    with pytest.raises(ValueError, match=r"a\.csv is not text in UTF-16"):
        read(tmp_path / "a.csv")


MEASURE = """
import resource, sys
from pathlib import Path
from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(source,) = open_source(path, Work()).sources
rows = sum(1 for row in source.rows())
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path, name):
    """30,000 rows of 1 kB: 30 MB in a file, which would take more than 60 MB as Python objects."""
    rows = [{"image": f"{index}.png", "answer": f"{index}" + "x" * 1000} for index in range(30_000)]
    with (tmp_path / name).open("w", newline="") as file:
        if name == "rows.json":
            json.dump(rows, file)
        elif name == "rows.jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, ["image", "answer"])
            writer.writeheader()
            writer.writerows(rows)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / name)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) == 30_000
    assert int(out[1]) / 1024 < 25
