"""A random Stable Diffusion of 16,000 parameters in a local folder.

Its layout is that of the release of 2022.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.model import Generator, build_generator
from raydistill.diffusion.network_options import StableDiffusion
from raydistill.diffusion.options import LatentSpace, Model
from raydistill.diffusion.processes import StableDiffusionProcess
from raydistill.imports import import_beside_torchvision
from raydistill.seeding import generator as seeded

LAYOUT = ConditionLayout((ConditionGroup("class", 2, ("smooth", "spiral")),))
SIZE = 16  # pixels; a latent has 8 x 8 numbers of 4 channels
TOKENS = 24
START, END = "<|startoftext|>", "<|endoftext|>"
# Names of the release of 2022, which diffusers and transformers still read.
OLD_VAE = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_checkpoint(root: Path) -> None:
    """Write the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _unet().save_pretrained(root / "unet")
        _vae().save_pretrained(root / "vae")
        vocabulary = _write_tokenizer(root / "tokenizer")
        _write_text_encoder(root / "text_encoder", vocabulary)
    _rename(root / "vae" / "diffusion_pytorch_model.safetensors")
    schedule = import_beside_torchvision("diffusers.schedulers.scheduling_ddim").DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    schedule.save_pretrained(root / "scheduler")


def tiny_model(root: Path, lora_rank: int | None = 2, process: StableDiffusionProcess | None = None) -> Model:
    """Return the model with the weights of this folder."""
    network = StableDiffusion(path=str(root), lora_rank=lora_rank)
    return Model(network, process or StableDiffusionProcess(), LatentSpace())


def tiny_generator(root: Path, lora_rank: int | None = 2, seed: int = 0) -> Generator:
    """Return a generator with the weights of this folder."""
    return build_generator(tiny_model(root, lora_rank), LAYOUT, SIZE, seed)


def classes(*labels: int) -> Conditions:
    """Return conditions of these classes."""
    return Conditions.of(LAYOUT, len(labels), **{"class": torch.eye(2)[list(labels)]})


def pixels(count: int) -> torch.Tensor:
    """Return random uint8 pictures [N, 16, 16, 3]."""
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=seeded(0, "pixels"))


def _unet() -> torch.nn.Module:
    return import_beside_torchvision("diffusers.models.unets.unet_2d_condition").UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def _vae() -> torch.nn.Module:
    return import_beside_torchvision("diffusers.models.autoencoders.autoencoder_kl").AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
    )


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Write a tokenizer whose tokens are characters, and return its vocabulary."""
    characters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*characters, *(f"{column}</w>" for column in characters), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return vocabulary


def _write_text_encoder(folder: Path, vocabulary: dict[str, int]) -> None:
    transformers = import_beside_torchvision("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
    )
    encoder = transformers.CLIPTextModel(config)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["CLIPTextModel"]}))
    prefix = "text_model."
    tensors = {f"{prefix}{name.removeprefix(prefix)}": tensor for name, tensor in encoder.state_dict().items()}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(TOKENS)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _rename(path: Path) -> None:
    def old(name: str) -> str:
        for new, before in OLD_VAE.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    save_file({old(name): tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
