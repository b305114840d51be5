from fedvlm_hf.metrics.classification_accuracy.classification_accuracy import score_examples


def test_case_and_spaces_do_not_count_and_everything_else_does():
    predictions = [" Top  LEFT\n", "row", "rows", "a row", "row.", "", "STRASSE"]
    references = [["top left"], ["column", "row"], ["row"], ["row"], ["row"], [" "], ["straße"]]
    assert score_examples(predictions, references) == {"accuracy": [1, 1, 0, 0, 0, 0, 1]}
