"""FederatedTrainer: TRL's SFTTrainer as the client of a federation."""

from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from .config import FederatedConfig
from .data.spec import PROMPT_COMPLETION
from .federated import FederatedMixin


class FederatedTrainer(FederatedMixin, SFTTrainer):
    """
    Fine-tunes a vision-language model over clients whose data stay where they are.

    It takes the arguments of [`FederatedMixin`], with a [`FederatedConfig`], and those of [`~trl.SFTTrainer`] that
    have a meaning for clients, such as `data_collator`. Rows are in the prompt-completion format of
    `fedvlm_hf.data.spec`.

    Example:

    ```python
    >>> from fedvlm_hf import FederatedConfig, FederatedTrainer
    >>> from fedvlm_hf.mini import base_model, fed_nature

    >>> trainer = FederatedTrainer(
    ...     model=base_model("llava"),
    ...     args=FederatedConfig(output_dir="out", num_rounds=3, max_steps=2),
    ...     train_dataset=fed_nature(),
    ... )
    >>> trainer.train()  # doctest: +SKIP
    ```
    """

    row_format = PROMPT_COMPLETION
    config_class = FederatedConfig
    collator_class = DataCollatorForVisionLanguageModeling
