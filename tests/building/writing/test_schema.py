"""The schema of a built dataset is that of `datasets`."""

from datasets import Features, Value

from fedvlm_hf.building.writing.checks import FIXED_COLUMNS
from fedvlm_hf.building.writing.schema import row_schema
from fedvlm_hf.data.features import FEATURES


def test_it_is_the_schema_that_datasets_makes():
    types = {**FEATURES, **dict.fromkeys(("client_id", "image_digest", "own column"), Value("string"))}
    columns = [*FIXED_COLUMNS, "own column"]
    expected = Features({name: types[name] for name in columns}).arrow_schema
    found = row_schema(columns)
    assert found.equals(expected, check_metadata=True)
    assert found.metadata == expected.metadata
