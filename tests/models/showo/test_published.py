"""The published weights against the reference in plain torch, where somebody has downloaded them.

`FEDVLM_SHOWO_CHECKPOINTS` names a folder with show-o, magvitv2 and phi-1_5 in it, each as on the Hub. With random
weights of the published sizes, no code of 256 differed, and logits of up to 5.2 by 3.0e-6. It took 9 GB and 90 seconds
on one core.
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

import showo_reference as reference
from fedvlm_hf.models.showo.conversion import MAGVIT, SHOWO, convert_showo


FOLDER = os.environ.get("FEDVLM_SHOWO_CHECKPOINTS")


@pytest.mark.slow
@pytest.mark.skipif(FOLDER is None, reason="FEDVLM_SHOWO_CHECKPOINTS names no folder with the published checkpoints")
def test_the_published_weights_give_the_codes_and_logits_of_the_reference():
    """Codes of a picture and logits of a question. The last position decides the first token of the answer."""
    model, processor = convert_showo(Path(FOLDER, "show-o"), Path(FOLDER, "magvitv2"), str(Path(FOLDER, "phi-1_5")))
    model = model.float().eval()
    image = Image.linear_gradient("L").resize((300, 260)).rotate(30)
    inputs = processor(images=image, text="<|mmu|><|v2v|>USER: What is it? ASSISTANT:", return_tensors="pt")
    state = model.state_dict()
    weights = {old: state[new] for names in (SHOWO, MAGVIT) for old, new in names.expected(state).items()}
    config = model.config
    with torch.no_grad():
        (codes,) = reference.codes(weights, inputs["pixel_values"], config.vq_config.num_res_blocks)
        found = (model.get_image_tokens(inputs["pixel_values"])[0] - config.first_code_id).tolist()
        # a latent that rounding moves over 0 changes a code
        assert sum(a == b for a, b in zip(found, codes, strict=True)) >= 0.99 * len(codes)
        ids, left = inputs["input_ids"][0].tolist(), iter(found)
        ids = [config.first_code_id + next(left) if token == config.image_token_id else token for token in ids]
        mask = reference.prefix_mask(ids, config.eoi_token_id)
        expected = reference.logits(weights, ids, mask, config.text_config.num_attention_heads)
        logits = model(**inputs).logits[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-3)
