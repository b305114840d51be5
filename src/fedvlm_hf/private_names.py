"""Every private name of another library that this package uses: where it was read, why, and what breaks without it.

A private name may be renamed in any release. `tests/test_private_names.py` fails when one is gone, and when the
package uses one that is not listed here.
"""

from typing import NamedTuple


class PrivateName(NamedTuple):
    """A private name of another library.

    Args:
        owner (`str`):
            Import path of the class or module that has it.
        name (`str`):
            The name.
        version (`str`):
            The release that it was read in.
        why (`str`):
            What it is used for.
        without (`str`):
            What breaks where it is renamed.
    """

    owner: str
    name: str
    version: str
    why: str
    without: str


_TRANSFORMERS, _TRL = "transformers 5.23.0", "trl 1.16.0"

PRIVATE_NAMES = (
    PrivateName(
        "transformers.PretrainedConfig", "_name_or_path", _TRANSFORMERS,
        "the id or folder that a model was loaded from", "the base model is not named in run.json and on the card",
    ),
    PrivateName(
        "transformers.PretrainedConfig", "_commit_hash", _TRANSFORMERS,
        "the revision that the weights of a model's parts were loaded from", "a built model does not name them",
    ),
    PrivateName(
        "transformers.Trainer", "_load_from_checkpoint", _TRANSFORMERS,
        "a continuous client's tensors come with its task, not from a checkpoint", "`central` fails on resume",
    ),
    PrivateName(
        "transformers.Trainer", "_load_optimizer_and_scheduler", _TRANSFORMERS,
        "a continuous client continues with its moments, at the rate of the round", "`central` forgets its optimizer",
    ),
    PrivateName(
        "transformers.Trainer", "_save_optimizer_and_scheduler", _TRANSFORMERS,
        "saves what a continuous client continues from", "`central` cannot continue",
    ),
    PrivateName(
        "transformers.Trainer", "_save_rng_state", _TRANSFORMERS,
        "saves what a continuous client continues from", "`central` does not resume to the same bits",
    ),
    PrivateName(
        "trl.trainer.base_trainer._BaseTrainer", "_send_telemetry", _TRL,
        "TRL reports trainer and model names at construction", "telemetry leaves the client",
    ),
    PrivateName(
        "trl.SFTTrainer", "_total_train_tokens", _TRL,
        "a counter that continues from one `train()` to the next", "a client's `num_tokens` counts those before it",
    ),
    PrivateName(
        "trl.SFTTrainer", "_metrics", _TRL,
        "metrics that continue from one `train()` to the next", "a client's metrics include earlier clients'",
    ),
    PrivateName(
        "trl.SFTConfig", "_VALID_DICT_FIELDS", _TRL,
        "fields that may arrive as JSON from a command line", "`--method_kwargs '{...}'` stays text",
    ),
    PrivateName(
        "huggingface_hub.utils", "_http", "huggingface_hub 2.4.0",
        "the module of the name below", "requests have no time limit",
    ),
    PrivateName(
        "huggingface_hub.utils._http", "_GLOBAL_CLIENT_FACTORY", "huggingface_hub 2.4.0",
        "the user's own HTTP client, if one is set, is kept and given the time limit", "requests have no time limit",
    ),
    PrivateName(
        "datasets.Dataset", "_fingerprint", "datasets 5.2.0",
        "changes with every change of the rows, so that what was checked is remembered", "data are checked every time",
    ),
    PrivateName(
        "datasets.Dataset", "_indices", "datasets 5.2.0",
        "which rows of its table a filtered or shuffled dataset has", "`image` and `messages` of such data get mixed",
    ),
    PrivateName(
        "torch.nn.modules.batchnorm", "_BatchNorm", "torch 2.13.0",
        "the base class of all BatchNorms", "the statistics of frozen parts drift while clients train",
    ),
    PrivateName(
        "torch.utils", "_pytree", "torch 2.13.0",
        "maps over tensors in nested arguments of a module", "a bf16 model with an fp32 connector fails",
    ),
)  # fmt: skip
