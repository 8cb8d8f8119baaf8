"""Fine-tune Stable Diffusion 1.5 on captions, as GalaxySD does.

GalaxySD: Ma et al. 2025, arXiv:2506.16233.

The U-Net is trained, in full or by low-rank adapters. Autoencoder and text encoder stay as they
are, where GalaxySD trains the text encoder too.

Shapes: B images, T tokens of a caption, D numbers of a token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.diffusion.captions import captions, check_layout
from raydistill.diffusion.conditions import ConditionLayout, Conditions
from raydistill.diffusion.network_options import StableDiffusion
from raydistill.diffusion.scaled_linear import BETA_END, BETA_START, NUM_STEPS
from raydistill.diffusion.spaces import Frozen, leave_out_frozen
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing, RaydistillError
from raydistill.imports import import_beside_torchvision, import_extra

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
    return import_package("peft").LoraConfig(
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
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device)).last_hidden_state


# Open the parts of Stable Diffusion in a local folder of the diffusers layout.
#
# The folder has the sub-folders of `FILES`. Weights are safetensors. Nothing is downloaded, and no
# pickle is read.

UNET, VAE, TEXT_ENCODER, TOKENIZER, SCHEDULER = "unet", "vae", "text_encoder", "tokenizer", "scheduler"
HALF = ".fp16"  # before the ending of a file in half precision, which is read if there is no other
FILES = (
    f"{UNET}/config.json",
    f"{UNET}/diffusion_pytorch_model.safetensors",
    f"{VAE}/config.json",
    f"{VAE}/diffusion_pytorch_model.safetensors",
    f"{TEXT_ENCODER}/config.json",
    f"{TEXT_ENCODER}/model.safetensors",
    f"{TOKENIZER}/vocab.json",
    f"{TOKENIZER}/merges.txt",
    f"{TOKENIZER}/tokenizer_config.json",
    f"{SCHEDULER}/scheduler_config.json",
)
COPY = "copy all of Stable Diffusion 1.5 in the layout of diffusers, see docs/how-to/stable-diffusion.md"
NOISE = {
    "beta_start": BETA_START, "beta_end": BETA_END, "beta_schedule": "scaled_linear", "num_train_timesteps": NUM_STEPS
}  # fmt: skip
EXTRA = "run pip install 'raydistill[stable-diffusion]'"


@dataclass(frozen=True)
class Pretrained:
    """A local folder of Stable Diffusion.

    Parameters
    ----------
    path
        The folder; "~" is the home folder.
    sha256
        The digest that its files must have (`digest`); None: any.
    """

    path: str
    sha256: str | None = None

    def files(self) -> Mapping[str, Path]:
        """Return the path of every file of `FILES`.

        Raises
        ------
        ArtifactMissing
            The folder or a file is missing, or weights are stored as pickle alone.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            what = "there is no such folder of Stable Diffusion weights"
            raise ArtifactMissing(what, self.path, f"set generate.model.network.path, or {COPY}")
        return {name: self._find(root, name) for name in FILES}

    def _find(self, root: Path, name: str) -> Path:
        half = Path(name).with_suffix(f"{HALF}.safetensors")
        for path in (root / name, root / half):
            if path.is_file():
                return path
        if name.endswith(".safetensors") and any((root / name).parent.glob("*.bin")):
            what = f"the weights of '{Path(name).parent}' are stored as pickle alone, which can run code"
            raise ArtifactMissing(what, self.path, "save them as safetensors")
        raise ArtifactMissing(f"the Stable Diffusion weights lack the file '{name}'", self.path, COPY)

    def digest(self) -> str:
        """Return the sha256 of the names and contents of all files.

        Raises
        ------
        ArtifactMissing
            As `files`.
        """
        total = hashlib.sha256()
        for name, path in self.files().items():
            status = path.stat()
            total.update(f"{name} {_sha256(path, status.st_size, status.st_mtime_ns)}\n".encode())
        return total.hexdigest()

    def check(self) -> None:
        """Check all files.

        Raises
        ------
        ArtifactMissing
            As `files`.
        ArtifactIncompatible
            The digest is another one, the noise schedule is not Stable Diffusion's, or the parts
            do not fit together.
        ArtifactCorrupt
            A config cannot be read.
        """
        self.files()
        if self.sha256 is not None and (digest := self.digest()) != self.sha256:
            what = f"these are not the Stable Diffusion weights of the generator (sha256 {digest[:12]}, not {self.sha256[:12]})"
            raise ArtifactIncompatible(what, self.path, "copy the weights with which it was trained to this folder")
        scheduler = self._config(SCHEDULER)
        for key, value in NOISE.items():
            if scheduler.get(key) != value:
                what = f"the noise schedule has {key}={scheduler.get(key)}, and Stable Diffusion has {value}"
                raise ArtifactIncompatible(what, self.path, COPY)
        self._check_pair("latent channels", (UNET, "in_channels"), (VAE, "latent_channels"))
        self._check_pair("numbers of a token", (UNET, "cross_attention_dim"), (TEXT_ENCODER, "hidden_size"))

    def _check_pair(self, noun: str, first_key: tuple[str, str], other: tuple[str, str]) -> None:
        first, second = self._config(first_key[0]).get(first_key[1]), self._config(other[0]).get(other[1])
        if first != second:
            what = f"the {noun} differ: {first} in '{first_key[0]}', {second} in '{other[0]}'"
            raise ArtifactIncompatible(what, self.path, COPY)

    def _config(self, part: str) -> dict[str, Any]:
        path = self.files()[f"{part}/{'scheduler_config' if part == SCHEDULER else 'config'}.json"]
        with self._reading(part):
            return json.loads(path.read_bytes())

    def unet(self) -> Any:
        """Return the U-Net, a `diffusers.UNet2DConditionModel` in float32 on the CPU."""
        return self._diffusers(UNET, "diffusers.models.unets.unet_2d_condition", "UNet2DConditionModel")

    def vae(self) -> Any:
        """Return the autoencoder, a `diffusers.AutoencoderKL` in float32 on the CPU."""
        return self._diffusers(VAE, "diffusers.models.autoencoders.autoencoder_kl", "AutoencoderKL")

    def text_encoder(self) -> Any:
        """Return the text encoder, a `transformers.CLIPTextModel` in float32 on the CPU."""
        load = import_package("transformers").CLIPTextModel.from_pretrained
        with _without_progress_bar():
            # `attn_implementation`: a config may name one on the Hugging Face Hub, whose code would run
            return self._load(TEXT_ENCODER, load, "model.safetensors", dtype=torch.float32, attn_implementation="sdpa")

    def tokenizer(self) -> Any:
        """Return the tokenizer, a `transformers.CLIPTokenizer`."""
        self.check()
        with self._reading(TOKENIZER):
            folder = str(Path(self.path).expanduser() / TOKENIZER)
            return import_package("transformers").CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def _diffusers(self, part: str, module: str, name: str) -> nn.Module:
        load = getattr(import_beside_torchvision(module), name).from_pretrained
        return self._load(part, load, "diffusion_pytorch_model.safetensors", torch_dtype=torch.float32)

    def _load(self, part: str, load: Callable[..., Any], weights: str, **options: Any) -> nn.Module:
        """Return a part with its weights; ArtifactCorrupt if some are missing."""
        self.check()
        path = self.files()[f"{part}/{weights}"]
        options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        if path.name != weights:
            options["variant"] = HALF.removeprefix(".")
        with self._reading(part):
            module, report = load(str(path.parent), **options)
        if missing := sorted(report["missing_keys"]):
            raise ArtifactCorrupt(f"the weights of '{part}' lack {missing[0]}", self.path, "copy them again")
        return module.requires_grad_(False).eval()

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        try:
            yield
        except RaydistillError:
            raise
        except Exception as error:  # tokenizers and safetensors raise no narrower one
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ArtifactCorrupt(f"'{part}' cannot be read ({reason})", self.path, "copy it again") from error


def import_package(name: str) -> ModuleType:
    """Import a package of the extra `stable-diffusion`; ConfigError if missing."""
    what, where = f"Stable Diffusion needs {name}", "generate.model.network"
    return import_extra(name, what, where, EXTRA, import_beside_torchvision)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """Return the sha256 of a file; size and time tell whether it has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from showing a progress bar."""
    settings = import_package("transformers").utils.logging
    shown = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            settings.enable_progress_bar()
