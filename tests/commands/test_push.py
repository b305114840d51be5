"""`fedvlm push` before it asks the Hub; what it sends is tested in `tests/hub`."""

import json

import pytest

from fedvlm_hf.commands.push import _target, run
from fedvlm_hf.hub.layout import PushTarget
from fedvlm_hf.types import RoundRecord


def test_a_run_that_was_never_pushed_needs_a_repository(tmp_path):
    with pytest.raises(ValueError, match="Name a repository: `--repo OWNER/NAME`"):
        run([str(tmp_path)])


def test_a_folder_without_rounds_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="holds no round to push"):
        run([str(tmp_path), "--repo", "me/run"])


def test_a_run_of_an_older_version_is_told_what_to_do(tmp_path):
    (tmp_path / "rounds" / "round-0000" / "federated_state").mkdir(parents=True)
    state = {"record": RoundRecord(0).to_json()}
    (tmp_path / "rounds" / "round-0000" / "federated_state" / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"There is no .*\.json .* `--resume_from_checkpoint true`"):
        run([str(tmp_path), "--repo", "me/run"])


@pytest.mark.parametrize("repo", ["run", "me/my run"])
def test_a_repository_is_owner_and_name(tmp_path, repo):
    with pytest.raises(ValueError, match="`hub_model_id`"):
        run([str(tmp_path), "--repo", repo])


def test_what_the_training_said_holds_unless_an_option_says_something_else(tmp_path):
    PushTarget("me/run", private=False, branch="trial", share_client_names=False).write(tmp_path / "outbox")
    assert _target(str(tmp_path), {}) == PushTarget("me/run", False, "trial", share_client_names=False)
    options = {"repo": "me/other", "share_client_names": True}
    assert _target(str(tmp_path), options) == PushTarget("me/other", False, "trial")
