"""Show-o: a Phi that reads images as tokens of its own vocabulary (https://huggingface.co/papers/2408.12528).

An image becomes codes of MAGVIT-v2 (https://huggingface.co/papers/2310.05737). They have embeddings in the language
model like words do, so there is neither a vision tower nor a connector. Only the understanding of images is
implemented: the model generates text and no images.
"""

from inspect import signature
from typing import ClassVar

import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_showo import ShowoConfig, ShowoVQConfig
from .modeling_showo_vq import ShowoVQEncoder


class ShowoPreTrainedModel(PreTrainedModel):
    """What all models of Show-o have in common."""

    config: ShowoConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ("PhiDecoderLayer", "ShowoVQModel")
    _skip_keys_device_placement = ("past_key_values",)
    # Flash attention is not supported: it takes no mask that is causal in one part and bidirectional in another
    _supports_sdpa = True
    # A code is made of the signs of the latents: less precision would change those that are close to 0
    _keep_in_fp32_modules_strict = ("vqmodel",)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load a model as [`~transformers.PreTrainedModel.from_pretrained`], with a frozen image tokenizer."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with `output_loading_info=True`
        for module in model.modules():
            if isinstance(module, ShowoVQModel):
                module.requires_grad_(False)  # transformers makes every weight that it loads trainable
        return loaded


class ShowoVQModel(ShowoPreTrainedModel):
    """The image tokenizer: the encoder of MAGVIT-v2, and a quantizer without a table. It is frozen.

    Args:
        config ([`ShowoVQConfig`]):
            The configuration of the image tokenizer.
    """

    config: ShowoVQConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: ShowoVQConfig):
        super().__init__(config)
        self.encoder = ShowoVQEncoder(config)
        self.post_init()
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixel_values: torch.Tensor) -> torch.LongTensor:
        """Return the codes of images, row by row.

        Args:
            pixel_values (`torch.Tensor`):
                Images of shape `(images, channels, height, width)`, with values from -1 to 1.

        Returns:
            `torch.LongTensor`: Codes of shape `(images, height * width / downsampling ** 2)`. The first latent channel
            is the highest bit of a code, which is 1 if the latent is above 0.
        """
        with torch.autocast(pixel_values.device.type, enabled=False):
            latents = self.encoder(pixel_values.to(self.dtype))
        place_values = 2 ** torch.arange(self.config.latent_channels - 1, -1, -1, device=latents.device)
        return ((latents > 0).flatten(2) * place_values[:, None]).sum(1)


class ShowoModel(ShowoPreTrainedModel):
    """Show-o without a head.

    Args:
        config ([`ShowoConfig`]):
            The configuration of the model.
    """

    def __init__(self, config: ShowoConfig):
        super().__init__(config)
        if "block_sequence_ids" not in signature(create_causal_mask).parameters:
            raise ImportError(
                f"Show-o needs transformers 5.10 or newer, whose masks have bidirectional blocks. This is version "
                f"{transformers.__version__}."
            )
        self.language_model = AutoModel.from_config(config.text_config)
        self.vqmodel = ShowoVQModel(config.vq_config)
        self.post_init()

    def get_image_tokens(self, pixel_values: torch.Tensor) -> torch.LongTensor:
        """Return the ids of images in the vocabulary, one row for each image.

        Args:
            pixel_values (`torch.Tensor`):
                Images of shape `(images, channels, height, width)`, with values from -1 to 1.
        """
        return self.vqmodel(pixel_values) + self.config.first_code_id

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Put the codes of the images in the place of their placeholders, and run the language model.

        The tokens of an image attend to each other in both directions. The first image of a row includes the tokens
        before it. All other tokens are causal.

        Args:
            input_ids (`torch.LongTensor`):
                Tokens of shape `(rows, length)`. Each image is `<|soi|>`, its placeholders and `<|eoi|>`.
            pixel_values (`torch.Tensor`, *optional*):
                The images of all rows, in order, of shape `(images, channels, height, width)`.
            attention_mask (`torch.Tensor`, *optional*):
                1 for tokens and 0 for padding.
            position_ids (`torch.LongTensor`, *optional*):
                Position of each token. By default they are counted from 0, padding included.
            past_key_values ([`~transformers.Cache`], *optional*):
                Keys and values of earlier tokens.
            use_cache (`bool`, *optional*):
                Whether to return the keys and values.

        Raises:
            `ValueError`: If there are more or fewer placeholders than codes.
        """
        if pixel_values is not None:
            input_ids = self._with_image_tokens(input_ids, pixel_values)
        inputs_embeds = self.get_input_embeddings()(input_ids)
        mask = create_causal_mask(
            config=self.config.text_config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
            block_sequence_ids=self._image_blocks(input_ids, past_key_values),
        )
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )

    def _with_image_tokens(self, input_ids: torch.LongTensor, pixel_values: torch.Tensor) -> torch.LongTensor:
        tokens = self.get_image_tokens(pixel_values).to(input_ids.device)
        is_placeholder = input_ids == self.config.image_token_id
        if is_placeholder.sum() != tokens.numel():
            raise ValueError(
                f"Image features and image tokens do not match, tokens: {is_placeholder.sum()}, features: "
                f"{tokens.numel()}"
            )
        return input_ids.masked_scatter(is_placeholder, tokens)

    def _image_blocks(self, input_ids: torch.LongTensor, cache: Cache | None) -> torch.LongTensor | None:
        """Number the tokens of each image; -1 marks tokens that are causal. Return `None` if all of them are."""
        if input_ids.shape[1] == 1:  # a step of generation
            return None
        num_begun = (input_ids == self.config.soi_token_id).cumsum(1)
        is_end = ((input_ids == self.config.eoi_token_id) & (num_begun > 0)).long()
        num_ended = is_end.cumsum(1) - is_end  # images that end before a token
        num_cached = 0 if cache is None else int(cache.get_seq_length())
        is_image = num_begun > num_ended if num_cached else (num_begun > num_ended) | (num_ended == 0)
        is_image &= num_ended < is_end.sum(1, keepdim=True)  # text after the last image, or without any image
        return F.pad(torch.where(is_image, num_ended, -1), (num_cached, 0), value=-1)


class ShowoForConditionalGeneration(ShowoPreTrainedModel, GenerationMixin):
    """Show-o with its head.

    Args:
        config ([`ShowoConfig`]):
            The configuration of the model.

    Example:

    ```python
    >>> import torch
    >>> from transformers import AutoModelForImageTextToText
    >>> from fedvlm_hf.models import ShowoConfig

    >>> with torch.device("meta"):  # without memory for 1.5 billion weights
    ...     model = AutoModelForImageTextToText.from_config(ShowoConfig())
    >>> model.lm_head
    Linear(in_features=2048, out_features=58498, bias=True)
    ```
    """

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: ShowoConfig):
        super().__init__(config)
        self.model = ShowoModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=True)
        self.post_init()

    def get_image_tokens(self, pixel_values: torch.Tensor) -> torch.LongTensor:
        """Return the ids of images in the vocabulary, as [`ShowoModel.get_image_tokens`]."""
        return self.model.get_image_tokens(pixel_values)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Return the logits and, with labels, the loss.

        Args:
            input_ids, pixel_values, attention_mask, position_ids, past_key_values, use_cache:
                As in [`ShowoModel`].
            labels (`torch.LongTensor`, *optional*):
                The tokens to predict, of the shape of `input_ids`. -100 is ignored.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0):
                The number of last positions that logits are computed for; 0 for all.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.text_config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs,
    ) -> dict:
        """Leave the mask of the prompt to `forward`, which knows the images: a static cache would get a causal one."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, is_first_iteration=is_first_iteration, **kwargs
        )
        return {**inputs, "attention_mask": attention_mask} if is_first_iteration else inputs


__all__ = ["ShowoForConditionalGeneration", "ShowoModel", "ShowoPreTrainedModel", "ShowoVQModel"]
