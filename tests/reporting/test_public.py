import pytest

from fedvlm_hf.config import FederatedConfig
from fedvlm_hf.reporting.public import ALWAYS_SHOWN, hyperparameters, is_hub_id, public_name, public_value


def test_what_matters_and_what_differs_is_shown(tmp_path):
    default = FederatedConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True).to_dict()
    assert sorted(hyperparameters(default)) == sorted(ALWAYS_SHOWN)
    changed = {
        "adam_beta2": 0.95, "method_kwargs": {"mu": 0.1}, "learning_rate": 3e-3, "logging_steps": 7, "hub_token": "t",
        "run_name": "r", "dataloader_num_workers": 2,
    }  # fmt: skip
    shown = hyperparameters({**default, **changed})
    assert shown.keys() - set(ALWAYS_SHOWN) == {"adam_beta2", "method_kwargs"}
    assert (shown["learning_rate"], shown["method_kwargs"]) == (3e-3, {"mu": 0.1})


def test_what_is_no_argument_is_not_shown():
    assert hyperparameters({"seed": 3, "something": 1}) == {"seed": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/someone/cache", "cache"),
        ("~/cache", "cache"),
        ("C:\\Users\\someone\\cache", "cache"),
        ("owner/name", "owner/name"),
        ({"cache_dir": "/data/hub", "dtype": "float32"}, {"cache_dir": "hub", "dtype": "float32"}),
        ([["/a/b"], 1.5, None], [["b"], 1.5, None]),
    ],
)
def test_absolute_paths_are_cut(value, expected):
    assert public_value(value) == expected


def test_a_hub_id_is_owner_and_name_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "base").mkdir(parents=True)
    assert is_hub_id("owner/name")
    for name in ("out/base", str(tmp_path), "name", "./out/base", "a/b/c", "Fed-Nature mini"):
        assert not is_hub_id(name), name
    assert public_name("owner/name") == "owner/name"
    assert public_name("out/base") == "base"
    assert public_name(f"{tmp_path}/out/base/") == "base"
    assert public_name("Fed-Nature mini") == "Fed-Nature mini"
