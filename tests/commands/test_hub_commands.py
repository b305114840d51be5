"""`fedvlm hub-server` and `fedvlm hub-client`: arguments. What they do is in tests/engines/hub."""

import pytest

from fedvlm_hf.commands import hub_client, hub_server
from fedvlm_hf.commands.hub_client import HubClientArguments, _rows
from tiny import tiny_federation


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data")
    tiny_federation({"client_00": 5, "client_01": 3}, test_rows=1).save_to_disk(folder)
    return str(folder)


def rows_of(data: str, client_id: str, split: str | None = None):
    return _rows(HubClientArguments("org/name", client_id, data, split=split))


def test_a_clients_rows_are_the_split_of_its_name_or_the_one_that_is_named(data):
    assert rows_of(data, "client_01").num_rows == 3
    assert rows_of(data, "site_a", "client_00").num_rows == 5


def test_rows_are_never_guessed(data):
    """A client of another name than any split would else train on the first one, or on the test split."""
    with pytest.raises(ValueError, match=r"`--split` must say which rows are this client's.*client_00, client_01"):
        rows_of(data, "site_a")
    with pytest.raises(ValueError, match="has the splits"):
        rows_of(data, "site_a", "client_07")


def test_the_only_split_is_the_clients(tmp_path):
    from datasets import DatasetDict

    DatasetDict({"train": tiny_federation({"client_00": 5})["client_00"]}).save_to_disk(tmp_path)
    assert rows_of(str(tmp_path), "site_a").num_rows == 5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "`--model_name_or_path` is needed"),
        (["--model_name_or_path", "x", "--round_timeout", "5"], "`--round_timeout` needs `--min_clients`"),
        (["--model_name_or_path", "x", "--min_clients", "3"], "`--min_clients` must be from 1 to 2"),
    ],
)
def test_a_server_says_what_it_lacks(tmp_path, argv, message):
    common = ["--repo", "org/name", "--client_ids", "a,b", "--output_dir", str(tmp_path), "--bf16", "false"]
    with pytest.raises(ValueError, match=message):
        hub_server.run([*common, *argv])


@pytest.mark.parametrize("module", [hub_server, hub_client])
def test_help_says_who_sees_what(module, capsys):
    with pytest.raises(SystemExit):
        module.run(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "everyone with read access to the repository sees" in text.lower()
    assert "--repo" in text
    assert text.startswith(f"usage: fedvlm {module.__name__.rsplit('.', 1)[-1].replace('_', '-')} ")
