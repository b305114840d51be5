"""Configuration of Show-o (https://huggingface.co/papers/2408.12528)."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig


NORM_GROUPS = 32
"""Groups of every GroupNorm of the image tokenizer, so that its numbers of channels are multiples of it."""
PHI = {
    "vocab_size": 58498, "qk_layernorm": True, "bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": 50295,
}  # fmt: skip
"""What differs from the defaults of Phi-1.5 in the published showlab/show-o."""


@strict
class ShowoVQConfig(PreTrainedConfig):
    r"""
    Configuration of the image tokenizer of Show-o, the encoder of MAGVIT-v2 (https://huggingface.co/papers/2310.05737).
    The defaults are the sizes of the published showlab/magvitv2.

    Args:
        in_channels (`int`, *optional*, defaults to 3):
            Channels of an image.
        base_channels (`int`, *optional*, defaults to 128):
            Channels after the first convolution.
        channel_multiplier (`list[int]`, *optional*, defaults to `(1, 2, 2, 4, 4)`):
            For each level, its channels as a multiple of `base_channels`. Each level but the last halves height and
            width.
        num_res_blocks (`list[int]`, *optional*, defaults to `(4, 3, 4, 3, 4)`):
            Residual blocks of each level.
        latent_channels (`int`, *optional*, defaults to 13):
            Bits of a code.

    Example:

    ```python
    >>> from fedvlm_hf.models import ShowoVQConfig

    >>> config = ShowoVQConfig()
    >>> config.codebook_size, config.downsampling
    (8192, 16)
    ```
    """

    model_type = "showo_vq"
    base_config_key = "vq_config"

    in_channels: int = 3
    base_channels: int = 128
    channel_multiplier: list[int] | tuple[int, ...] = (1, 2, 2, 4, 4)
    num_res_blocks: list[int] | tuple[int, ...] = (4, 3, 4, 3, 4)
    latent_channels: int = 13

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if len(self.channel_multiplier) != len(self.num_res_blocks):
            raise ValueError(
                f"`num_res_blocks` must have one number for each level, like `channel_multiplier`, which has "
                f"{len(self.channel_multiplier)}, got {list(self.num_res_blocks)}."
            )
        if self.base_channels % NORM_GROUPS:
            raise ValueError(
                f"`base_channels` must be a multiple of {NORM_GROUPS}, since each GroupNorm has {NORM_GROUPS} groups, "
                f"got {self.base_channels}."
            )

    @property
    def codebook_size(self) -> int:
        """The number of codes."""
        return 2**self.latent_channels

    @property
    def downsampling(self) -> int:
        """The number of pixels in a row that become one code."""
        return 2 ** (len(self.channel_multiplier) - 1)


@strict
class ShowoConfig(PreTrainedConfig):
    r"""
    Configuration of a [`ShowoForConditionalGeneration`]. The defaults are those of the published showlab/show-o, whose
    vocabulary of 58,498 entries has 50,295 tokens of Phi-1.5, `[PAD]`, nine special tokens, 8,192 image codes and the
    mask token of image generation, in this order.

    Args:
        vq_config ([`ShowoVQConfig`] or `dict`, *optional*):
            Configuration of the image tokenizer.
        text_config ([`~transformers.PhiConfig`] or `dict`, *optional*):
            Configuration of the language model: by default Phi-1.5 with `qk_layernorm=True` and the vocabulary above.
        image_token_id (`int`, *optional*, defaults to 50303):
            The placeholder for an image code, `<|v2v|>`. Show-o reserves this token and never uses it. A new token
            would get the id of the first code.
        soi_token_id (`int`, *optional*, defaults to 50296), eoi_token_id (`int`, *optional*, defaults to 50297):
            The tokens before and after the codes of an image.
        first_code_id (`int`, *optional*, defaults to 50305):
            The id of image code 0.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the head shares its weights with the input embeddings.

    Example:

    ```python
    >>> from fedvlm_hf.models import ShowoConfig

    >>> config = ShowoConfig()
    >>> config.text_config.vocab_size, config.first_code_id + config.vq_config.codebook_size
    (58498, 58497)
    ```
    """

    model_type = "showo"
    sub_configs: ClassVar[dict[str, type]] = {"vq_config": ShowoVQConfig, "text_config": AutoConfig}
    keys_to_ignore_at_inference = ("past_key_values",)

    vq_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 50303
    soi_token_id: int = 50296
    eoi_token_id: int = 50297
    first_code_id: int = 50305
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        # by hand, since the specifications for this are newer than the oldest transformers that the package takes
        if not isinstance(self.vq_config, PreTrainedConfig):
            self.vq_config = ShowoVQConfig(**(self.vq_config or {}))
        if not isinstance(self.text_config, PreTrainedConfig):
            text_config = dict(PHI) if self.text_config is None else self.text_config
            self.text_config = AutoConfig.for_model(**{"model_type": "phi", **text_config})
        super().__post_init__(**kwargs)
        end = self.first_code_id + self.vq_config.codebook_size
        if end > self.text_config.vocab_size:
            raise ValueError(
                f"`first_code_id` is {self.first_code_id}, so the {self.vq_config.codebook_size} image codes need a "
                f"vocabulary of {end} entries or more, but `text_config.vocab_size` is {self.text_config.vocab_size}."
            )


__all__ = ["ShowoConfig", "ShowoVQConfig"]
