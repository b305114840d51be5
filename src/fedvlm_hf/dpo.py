"""FederatedDPOTrainer: TRL's DPOTrainer as the client of a federation."""

from dataclasses import dataclass
from typing import ClassVar

from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from .config import FederatedArguments
from .data.spec import PREFERENCE
from .federated import FederatedMixin


@dataclass
class FederatedDPOConfig(FederatedArguments, DPOConfig):
    r"""
    Configuration of a federated run of direct preference optimization, for [`FederatedDPOTrainer`].

    It has every argument of [`FederatedArguments`] and of [`~trl.DPOConfig`].
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*DPOConfig._VALID_DICT_FIELDS, "method_kwargs", "transform_kwargs"]

    objective: ClassVar[str] = "dpo"
    deciding: ClassVar[tuple[str, ...]] = (
        *FederatedArguments.deciding,
        *("activation_offloading", "router_aux_loss_coef", "disable_dropout", "loss_type", "loss_weights", "ld_alpha"),
        *("f_divergence_type", "f_alpha_divergence_coef", "label_smoothing", "beta", "use_weighting", "discopop_tau"),
    )


class FederatedDPOTrainer(FederatedMixin, DPOTrainer):
    """
    Aligns a vision-language model with preferences over clients whose data stay where they are.

    Direct preference optimization (Rafailov et al., 2023, https://huggingface.co/papers/2305.18290). It takes the
    arguments of [`FederatedMixin`], with a [`FederatedDPOConfig`]. Rows are in the preference format of
    `fedvlm_hf.data.spec`: `images`, `prompt`, `chosen`, `rejected`. What to evaluate on is answered by generation and
    scored, so it is in the evaluation format.

    The reference model is the model that the run starts from: TRL keeps it as a frozen copy of the adapter, which
    never trains, travels or is exported.

    Example:

    ```python
    >>> from fedvlm_hf import FederatedDPOConfig, FederatedDPOTrainer
    >>> from fedvlm_hf.mini import base_model

    >>> trainer = FederatedDPOTrainer(  # doctest: +SKIP
    ...     model=base_model("llava"),
    ...     args=FederatedDPOConfig(output_dir="out", num_rounds=3, beta=0.1),
    ...     train_dataset={"site_a": rows_a, "site_b": rows_b},
    ... )
    >>> trainer.train()  # doctest: +SKIP
    ```
    """

    row_format = PREFERENCE
    config_class = FederatedDPOConfig
    collator_class = DataCollatorForVisionPreference
