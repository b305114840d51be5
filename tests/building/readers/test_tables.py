import json

import pytest

from fedvlm_hf.building.readers.tables import read_table


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_rows_are_known_by_their_line(tmp_path):
    """A text over two lines counts both; a byte order mark, spaces around names and empty cells are no content."""
    path = write(
        tmp_path / "a.csv", '\ufeffimage, answer,note\r\n1.png,"two\nlines",\r\n\r\n2.png,"a, b",x\u2028y\r\n'
    )
    rows = read_table(path)
    assert [row.values for row in rows] == [
        {"image": "1.png", "answer": "two\nlines"},
        {"image": "2.png", "answer": "a, b", "note": "x\u2028y"},
    ]
    assert [row.name for row in rows] == ["3", "5"]
    assert rows[1].where == f"{path}, line 5"


def test_json_keeps_types_and_drops_nulls(tmp_path):
    row = {"image": "1.png", "answer": 0, "references": ["a"], "note": None, "empty": " "}
    expected = {"image": "1.png", "answer": 0, "references": ["a"]}
    lines = read_table(write(tmp_path / "a.jsonl", f"\n{json.dumps(row)}\n"))
    listed = read_table(write(tmp_path / "a.json", json.dumps([row])))
    assert [found.values for found in (*lines, *listed)] == [expected, expected]
    assert (lines[0].name, listed[0].name) == ("2", "0")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "image,answer\n1.png,a\n2.png\n", r"a\.csv, line 3: 1 values for the 2 columns"),
        ("a.csv", "image,answer\n1.png,a,b\n", r"a\.csv, line 2: 3 values for the 2 columns"),
        ("a.csv", "image,image\n1.png,a\n", r"a\.csv, line 1: the header .* has a duplicate or an empty name"),
        ("a.csv", "image,\n1.png,a\n", r"a\.csv, line 1: the header .* has a duplicate or an empty name"),
        ("a.csv", 'image,answer\n1.png,"cut', r"a\.csv, line 2: not CSV"),
        ("a.csv", "image,answer\n", r"a\.csv has no rows"),
        ("a.csv", "", r"a\.csv has no rows"),
        ("a.jsonl", '{"image": "1.png"}\n{"image', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: a row must be an object .* a list"),
        ("a.json", '[{"image": "1.png"}', r"a\.json, line 1, column 20: not complete JSON"),
        ("a.json", '{"image": "1.png"}', r"a\.json contains an object, not a list"),
        ("a.json", '["1.png"]', r"a\.json, row 0: a row must be an object .* a str"),
    ],
)
def test_what_is_not_a_table_is_named(tmp_path, name, text, problem):
    with pytest.raises(ValueError, match=problem):
        read_table(write(tmp_path / name, text))


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("image,answer\n1.png,größer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.csv, line 2: not text in UTF-8"):
        read_table(tmp_path / "a.csv")
