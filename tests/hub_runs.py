"""Small runs that were pushed to the loopback Hub and are gone from the disk, for tests of what can be had back."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load, save

from hub_children import Ended


CASES = {
    "fedadam": {"method": "fedadam", "method_kwargs": {"server_lr": 0.001}},
    "two-stage": {"tuning": "two_stage", "share_client_names": False},
    # the seed draws cohorts b and c, a and b, a and c: at round 2 the states are of different rounds
    "local": {"method": "local", "push_client_adapters": True, "seed": 3},
    "ditto": {"method": "ditto", "push_client_adapters": True, "seed": 3},
    "flora": {"method": "flora"},
}

TRAIN = """
data = dict(tiny_federation({"hospital_b": 4, "hospital_a": 3, "hospital_c": 2}, test_rows=1))
it = trainer(OUT, data, model=MODEL, **{"num_rounds": 3, "eval_every": 1, "clients_per_round": 2, **KWARGS})
it.train(resume_from_checkpoint=RESUME)
lines = [json.loads(line) for line in open(f"{OUT}/metrics.jsonl")]
rounds = sorted(path.name for path in Path(OUT, "rounds").iterdir())
answers = [json.load(open(f"{OUT}/rounds/{name}/federated_state/generations.json"))["test"]
           for name in rounds if Path(OUT, "rounds", name, "federated_state/generations.json").exists()]
adapter = it.local.adapter
show(end=it.federation.tensors.digest(), all=adapter.read(adapter.parameters).digest(), rounds=rounds,
     states={c: {g: t.digest() for g, t in it.store.load(c).items()} for c in it.clients},
     metrics=[[line["evaluations"]["test"]["scores"], {c: m["train_loss"] for c, m in line["clients"].items()},
               line["evaluations"]["test"]["clients"]] for line in lines],
     answers=[[row["prediction"] for row in rows] for rows in answers])
"""


def push_all(run, home: Path) -> dict[str, Ended]:
    """Train three rounds of each case without a stop, pushing each; of `local` the clients' states are kept.

    Args:
        run (`Callable`): As `hub_children.programs` gives it.
        home (`Path`): Its folder `programs` has the base model.
    """
    ends = {}
    for name, kwargs in CASES.items():
        kwargs = {**kwargs, "push_to_hub": True, "hub_model_id": f"alice/{name}"}
        out = home / name
        ends[name] = run(TRAIN, OUT=out, MODEL=home / "programs/my-base", RESUME=None, KWARGS=kwargs)
        if (out / "client_state").exists():
            shutil.move(out / "client_state", home / f"kept by {name}")
        shutil.rmtree(out)
    return ends


def files_of(hub, name: str, tag: str = "round-0002") -> dict[str, bytes]:
    store = hub.store
    return {path: store.read_blob(entry["blob"]) for path, entry in store.files(f"models/{name}", tag).items()}


def put(hub, name: str, files: dict[str, bytes | None], tag: str = "round-0002") -> str:
    """A repository with these files at a tag; returns the round's name."""
    key = f"models/{name}"
    hub.store.create(key, False, "alice")
    changes = [(path, hub.store.blob(content)) for path, content in files.items() if content is not None]
    large = tuple(path for path, _ in changes if path.endswith(".safetensors"))
    hub.store.repo(key)["tags"][tag] = hub.store.commit(key, "main", tag, changes, "alice", large=large)
    return f"{name}@{tag}"


def changed_json(content: bytes, *path: str, value) -> bytes:
    top = part = json.loads(content)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return json.dumps(top).encode()


def changed_tensor(content: bytes, change) -> bytes:
    """The first tensor changed, with the layout kept that `save_state` writes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = load(content)
    name = next(iter(tensors))
    tensors[name] = change(tensors[name])
    return save(tensors, header.get("__metadata__"))
