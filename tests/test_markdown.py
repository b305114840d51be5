from fedvlm_hf.markdown import markdown_table


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
