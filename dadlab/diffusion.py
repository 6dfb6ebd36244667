"""Diffusion models in the discretizer's place (Zhou et al., 2023, appendix B.1, Table 10): a discretizer without codes.

Image-to-image noises an image half-way and denoises it; text-to-image starts from noise alone and keeps nothing of the
image, as in the paper. The prompt is the paper's, one for all, or names an image's class, which the paper leaves open.
`PipelineDiffusion` wraps any Stable Diffusion of `diffusers`; `SmallDiffusion` is the embedded one, written by
`dadlab.making.diffusion`. Noise is keyed by the image's pixels, so Q is a function of the image (and its class): where
it stands in a batch does not matter. Needs the extra `diffusion`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn

from dadlab.diffusion_name import check_unlabelled, parse_diffusion
from dadlab.files import fill, load_weights
from dadlab.photos import ASSETS
from dadlab.progress import one_line
from dadlab.wrappers import Frozen, resize

PROMPT = "A photo of an object"  # the paper's, for every image
NAMING = "A photo of a {}"  # with the name of an image's class
STRENGTH = 0.5  # how far image-to-image goes towards noise; the paper has none, being text-to-image
_PATCH = 2


def generators(images: Tensor) -> list[torch.Generator]:
    """One a sample, keyed by its pixels as bytes."""
    pixels = (images.detach() * 255).round().to(torch.uint8).cpu().numpy()
    keys = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:7]) for image in pixels]
    return [torch.Generator().manual_seed(key) for key in keys]


class Diffusion(Frozen):
    """Q by diffusion: images (B, 3, S, S) in [0, 1], and labels (B,) or None, to images of the same shape.

    Attributes:
        text: whether it is text-to-image.
        names: whether its prompts name classes, so that it wants labels.
    """

    text: bool
    names: bool

    def straight_through(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Q(x) with the identity's gradient (Bengio et al., 2013); text-to-image has none of its own."""
        return images + (self(images, labels) - images).detach()

    def of(self, labels: Tensor) -> Diffusion | Labelled:
        """Q for images of these classes (B,): itself, unless its prompts name them."""
        return Labelled(self, labels) if self.names else self

    @staticmethod
    def told(labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError("this diffusion model's prompts name classes: ask `of(labels)`")
        return labels


@dataclass(frozen=True)
class Labelled:
    """A Q that has been told the classes of its images."""

    diffusion: Diffusion
    labels: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return self.diffusion(images, self.labels)

    def straight_through(self, images: Tensor) -> Tensor:
        return self.diffusion.straight_through(images, self.labels)


class SmallDiffusion(nn.Module):
    """A class-conditioned diffusion model of small images, on their 2 × 2 patches.

    Args:
        classes: labels 0 … classes − 1; `classes` itself means no class in particular, as the paper's prompt does.
        image_size: side in pixels, a multiple of 4.
        widths: channels of the U-Net at half and at a quarter of the size, multiples of 16.
    """

    def __init__(self, *, classes: int, image_size: int, widths: Sequence[int]):
        super().__init__()
        self.classes, self.image_size = classes, image_size
        self.unet: Any = UNet2DModel(
            sample_size=image_size // _PATCH,
            in_channels=3 * _PATCH**2,
            out_channels=3 * _PATCH**2,
            block_out_channels=tuple(widths),
            layers_per_block=1,
            norm_num_groups=16,
            attention_head_dim=16,
            down_block_types=("DownBlock2D",) * (len(widths) - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (len(widths) - 1),
            num_class_embeds=classes + 1,
        )
        self.scheduler: Any = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        )

    def grid(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] as patches (B, 12, S/2, S/2) in [−1, 1]."""
        return F.pixel_unshuffle(images * 2 - 1, _PATCH)

    def pixels(self, grid: Tensor) -> Tensor:
        """The inverse of `grid`, cut to [0, 1]."""
        return ((F.pixel_shuffle(grid, _PATCH) + 1) / 2).clamp(0, 1)

    def velocity(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Predicted v (B, 12, S/2, S/2) at times (B,) for labels (B,)."""
        return self.unet(noisy, times, class_labels=labels).sample

    @torch.no_grad()
    def sample(self, images: Tensor, labels: Tensor, *, strength: float = 1.0, steps: int = 8) -> Tensor:
        """DDIM (Song et al., 2021) without noise of its own, from `strength` of the way to noise: (B, 3, S, S).

        Args:
            images: (B, 3, S, S) in [0, 1]; at strength 1 they are but the key of the noise.
            labels: (B,), `classes` for no class in particular.
            strength: in (0, 1].
            steps: of a whole way; the rest of it takes its share, at least one.
        """
        self.scheduler.set_timesteps(steps)
        times = self.scheduler.timesteps[steps - max(1, round(strength * steps)) :]
        clean = self.grid(images)
        noise = torch.stack([torch.randn(clean.shape[1:], generator=one) for one in generators(images)]).to(clean)
        noisy = self.scheduler.add_noise(clean, noise, times[:1].expand(len(images)))
        for time in times:
            guess = self.velocity(noisy, time.expand(len(images)).to(images.device), labels)
            noisy = self.scheduler.step(guess, time, noisy).prev_sample
        return self.pixels(noisy)


class EmbeddedDiffusion(Diffusion):
    """The embedded model as Q, without class or under each image's."""

    def __init__(self, model: SmallDiffusion, *, text: bool, names: bool = False):
        super().__init__()
        self.model, self.text, self.names = model, text, names

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        anything = torch.full((len(images),), self.model.classes, device=images.device)
        classes = self.told(labels) if self.names else anything
        return self.model.sample(images, classes, strength=1.0 if self.text else STRENGTH)

    def get_extra_state(self) -> list[Any]:
        return [self.text, STRENGTH, *[NAMING] * self.names]


class PipelineDiffusion(Diffusion):
    """A Stable Diffusion of `diffusers` as Q; images are resized to its resolution and back.

    Args:
        pipeline: of image-to-image or text-to-image.
        text: which of the two it is.
        steps: of a whole way, as diffusers counts them.
        classes: names for prompts that name classes; without them all images have the paper's prompt.
    """

    def __init__(self, pipeline: Any, *, text: bool, steps: int = 50, classes: Sequence[str] = ()):
        super().__init__()
        self.pipeline, self.text, self.steps, self.names = pipeline, text, steps, bool(classes)
        self.prompts = [NAMING.format(name) for name in classes]
        self.pipeline.set_progress_bar_config(disable=True)
        self.networks = nn.ModuleList(part for part in pipeline.components.values() if isinstance(part, nn.Module))
        self.size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        prompts = [self.prompts[k] for k in self.told(labels).tolist()] if self.names else [PROMPT] * len(images)
        given: dict[str, Any] = {"prompt": prompts, "num_inference_steps": self.steps}
        given |= {"generator": generators(images), "output_type": "pt"}
        if self.text:
            given |= {"height": self.size, "width": self.size}
        else:
            given |= {"image": resize(images, self.size), "strength": STRENGTH}
        made = self.pipeline(**given).images.to(images)
        return resize(made, images.shape[-1]).clamp(0, 1)

    def get_extra_state(self) -> list[Any]:
        return [self.text, STRENGTH, self.steps, *(self.prompts or [PROMPT])]


def load_diffusion(name: str, classes: Sequence[str] = ()) -> Diffusion:
    """A diffusion model by name.

    Args:
        name: `diffusion` (embedded), `diffusion:FILE` (written by `dadlab.making.diffusion`) or `diffusers:MODEL` (of
            the hub, or a folder in diffusers' format), image-to-image. With `-text` before the colon text-to-image,
            with `-class` after that under prompts that name an image's class: `diffusers-text-class:MODEL`.
        classes: names of the labels, for `-class`.

    Raises:
        ValueError: missing or unreadable weights; `-class` without names, or with others than the model's.
    """
    parts = parse_diffusion(name)
    if not classes:
        check_unlabelled(name)
    if parts.hub:
        pipeline = _pipeline(parts.place, parts.text)
        return PipelineDiffusion(pipeline, text=parts.text, classes=classes if parts.names else ()).freeze()
    weights = Path(parts.place) if parts.place else ASSETS / "diffusion_studio.safetensors"
    state, config = load_weights(weights)
    model = fill(weights, lambda: SmallDiffusion(**config), state)
    if parts.names and len(classes) != model.classes:
        raise ValueError(f"{name}: knows {model.classes} classes, the data have {len(classes)}; take it without -class")
    return EmbeddedDiffusion(model, text=parts.text, names=parts.names).freeze()


def _pipeline(place: str, text: bool) -> Any:
    if find_spec("transformers") is None:
        raise ValueError(f"diffusers:{place}: needs transformers (pip install 'dadlab[diffusion]')")
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image  # seconds to import

    kind = AutoPipelineForText2Image if text else AutoPipelineForImage2Image
    try:
        pipeline = kind.from_pretrained(place)
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"diffusers:{place}: give a model of the hub or a pipeline's folder ({reason})") from None
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None  # it would give a black image for each that it takes for indecent
    return pipeline
