import pytest
from huggingface_hub.repocard import metadata_load

from fedvlm_hf.markdown import front_matter, markdown_table


def test_words_stand_left_and_numbers_right():
    table = markdown_table(["name", "value"], [["a|b\nc", "1.000"]])
    assert table == "| name   | value |\n| ------ | ----: |\n| a\\|b c | 1.000 |\n"


def test_columns_of_whole_numbers_are_found():
    """The second column has numbers only, the third a word too."""
    table = markdown_table(["a", "b", "c"], [["x", 1234, 5], ["y", 5, "z"]], num_labels=None)
    assert table.splitlines() == [
        "| a   |     b | c   |", "| --- | ----: | --- |", "| x   | 1,234 | 5   |", "| y   |     5 | z   |",
    ]  # fmt: skip


def test_without_rows_there_is_a_head():
    assert markdown_table(["a"], [], num_labels=None) == "| a   |\n| --- |\n"


@pytest.mark.parametrize(
    "text",
    [
        "---\na: 1\nb: [x, y]\n---\n# Title\n---\nc: 2\n---\n",
        "---\r\na: 1\r\n---\r\ntext",
        "\n---\na: 1\n---",
        "---\n# only a comment\n---\n",
        "# Title\n\ntext",
        "",
    ],
)
def test_front_matter_is_what_the_hub_reads(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_bytes(text.encode())
    assert front_matter(path) == (metadata_load(path) or {})


@pytest.mark.parametrize(("text", "message"), [("---\na: [\n---\n", "valid YAML"), ("---\n- a\n---\n", "a list")])
def test_front_matter_that_is_no_object_is_refused(tmp_path, text, message):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match=message):
        front_matter(tmp_path / "README.md")
