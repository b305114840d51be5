"""A client's own model, where a run pushes it: an adapter that loads like the run's, and the state to resume with."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file, save_file

from ..checkpoint import round_folder
from ..client.store import ClientStore
from ..state import load_state
from .client_states import CLIENT_STATE, CLIENT_VERSION, client_branch
from .layout import STATE
from .pack import Packer, link, write_json


WEIGHTS = "adapter_model.safetensors"


def pack_clients(packer: Packer, round_idx: int, folder: Path) -> None:
    """Fill an empty folder with one folder for each client that wrote a state in this round.

    Args:
        packer ([`~hub.pack.Packer`]):
            Knows the run, and what its clients are called on the Hub.
        round_idx (`int`):
            The round.
        folder (`Path`):
            Gets `client_00/` and so on: the files of the commits to the branches `clients/client_00`.
    """
    store, names = ClientStore(packer.output_dir / "client_state"), packer.names(round_idx)
    for client_id, version in packer.client_versions(round_idx).items():
        if version == round_idx:
            state = store.folder(client_id, version) / "state.safetensors"
            _pack_client(packer, round_idx, state, folder / names.get(client_id, client_id))


def _pack_client(packer: Packer, round_idx: int, state: Path, folder: Path) -> None:
    groups = load_state(state)
    if not groups:  # a client that keeps nothing has no adapter of its own
        return
    (folder / STATE).mkdir(parents=True)
    packer.pack_export(round_folder(packer.output_dir, round_idx), folder)
    tensors = load_file(folder / WEIGHTS)
    tensors |= {name: tensor.to(tensors[name].dtype) for name, tensor in groups.get("private", {}).items()}
    (folder / WEIGHTS).unlink()  # a link to the round's own file
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    link(state, folder / CLIENT_STATE)
    write_json(folder / CLIENT_VERSION, {"version": round_idx})
    (folder / "README.md").write_text(f"{_card(packer, round_idx, folder.name)}\n", encoding="utf-8")


def _card(packer: Packer, round_idx: int, client: str) -> ModelCard:
    repo_id, data = packer.target.repo_id, ModelCardData(library_name="peft", base_model=packer.base_model)
    return ModelCard(
        f"---\n{data.to_yaml()}\n---\n\n# {repo_id}, {client}\n\n"
        f"The model of one client, `{client}`, after round {round_idx} of `{packer.info.method}`, where "
        f"clients keep a state of their own; what they share is on the branch `{packer.target.branch}`.\n\n"
        f'```python\nfrom peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base, "{repo_id}", '
        f'revision="{client_branch(client)}")\n```\n\n'
        "Whoever may read this repository may read what this client's data left in these weights.\n"
    )
