import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from fedvlm_hf.files import new_folder, path_from_here, write_atomic


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_have_the_permissions_that_the_umask_gives(tmp_path, umask, file_mode, folder_mode):
    """safetensors writes files that only their owner can read, whatever the umask."""
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "round") as folder:
            (folder / "state").mkdir()
            save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
            save_file({"a": torch.ones(2)}, folder / "state" / "tensors.safetensors")
            (folder / "config.json").write_text("{}")
        write_atomic(tmp_path / "card.md", "text")
    finally:
        os.umask(before)
    for path in [tmp_path / "card.md", tmp_path / "round", *(tmp_path / "round").rglob("*")]:
        expected = folder_mode if path.is_dir() else file_mode
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_paths_from_the_current_directory(tmp_path, monkeypatch):
    """They start with a dot: `models/base` could be a repository on the Hub."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert path_from_here(tmp_path / "work" / "models" / "base") == "./models/base"
    assert path_from_here("models/base") == "./models/base"
    assert path_from_here(tmp_path / "base") == "../base"
