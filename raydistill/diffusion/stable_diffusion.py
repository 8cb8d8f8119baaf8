"""Fine-tune Stable Diffusion 1.5 on captions, as GalaxySD does.

GalaxySD: Ma et al. 2025, arXiv:2506.16233.

The U-Net is trained, in full or by low-rank adapters. Autoencoder and text encoder stay as they
are, where GalaxySD trains the text encoder too.

Shapes: B images, T tokens of a caption, D numbers of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from raydistill.diffusion.captions import captions, check_layout
from raydistill.diffusion.conditions import ConditionLayout, Conditions
from raydistill.diffusion.frozen import Frozen, leave_out_frozen
from raydistill.diffusion.options.networks import StableDiffusion
from raydistill.diffusion.pretrained import import_extra

# Projections of every attention, as in diffusers' train_text_to_image_lora.py.
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")


class CaptionedUNet(nn.Module):
    def __init__(self, config: StableDiffusion) -> None:
        super().__init__()
        self.unet = config.pretrained.unet()
        if config.lora_rank is None:
            self.unet.requires_grad_(True)
        else:
            self.unet.add_adapter(_adapters(config.lora_rank))
        if config.checkpointing:
            self.unet.enable_gradient_checkpointing()
        leave_out_frozen(self)

    def forward(self, x_BLHW: Tensor, label_B: Tensor, tokens_BTD: Tensor) -> Tensor:
        (out,) = self.unet(x_BLHW, label_B, encoder_hidden_states=tokens_BTD, return_dict=False)
        return out


def _adapters(rank: int) -> Any:
    """Return adapters that change nothing at first, with a scale of 1."""
    return import_extra("peft").LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ADAPTED)
    )


class CaptionEmbedding(Frozen):
    """Embed conditions as the last hidden states of a text encoder for their captions.

    The empty caption stands for conditions of which nothing is known.

    Parameters
    ----------
    layout
        Groups "votes" and "class", or one of them.
    tokenizer
        A `transformers.CLIPTokenizer`. Longer captions lose their last tags.
    text_encoder
        A `transformers.CLIPTextModel`. It is not trained.

    Raises
    ------
    ConfigError
        The layout has another group.
    """

    def __init__(self, layout: ConditionLayout, tokenizer: Any, text_encoder: Any) -> None:
        super().__init__()
        check_layout(layout)
        self.layout, self.tokenizer, self.text_encoder = layout, tokenizer, text_encoder
        self.num_tokens = int(text_encoder.config.max_position_embeddings)
        self.eval()
        leave_out_frozen(self)

    @torch.no_grad()
    def forward(self, conditions: Conditions) -> Tensor:
        """Return the hidden states [B, T, D]; gradients stop here."""
        tokens = self.tokenizer(
            captions(self.layout, conditions),
            padding="max_length",
            truncation=True,
            max_length=self.num_tokens,
            return_tensors="pt",
        )
        hidden: Tensor = self.text_encoder(tokens.input_ids.to(self.text_encoder.device)).last_hidden_state
        return hidden
