"""The embedded diffusion model, and the real path: a tiny random Stable Diffusion in diffusers' own folder format.

The latter needs transformers, which the lock leaves out: open_clip imports it wherever it is found, seconds a process.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch import nn

from dadlab import diffusion as module
from dadlab.decode import materialize
from dadlab.diffusion import STRENGTH, PipelineDiffusion, SmallDiffusion, generators, load_diffusion
from dadlab.discretizer import load_discretizer
from dadlab.examples import discretize_adversarially
from dadlab.files import save_weights
from dadlab.fingerprints import content_of, module_fingerprint
from dadlab.generate import generate
from dadlab.materials import prepare
from dadlab.methods import METHODS
from dadlab.profile import ATTACKS, make_profile
from dadlab.store import open_dataset

TINY = {"classes": 10, "image_size": 32, "widths": [16, 16]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("diffusion") / "tiny.safetensors"
    save_weights(path, SmallDiffusion(**TINY).state_dict(), TINY)
    return path


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A whole Stable Diffusion of random weights, as `save_pretrained` writes it."""
    transformers = pytest.importorskip("transformers")
    folder, torch_state = tmp_path_factory.mktemp("pipeline"), torch.get_rng_state()
    words = ["<|startoftext|>", "<|endoftext|>", *"aphotfnbjec", *(f"{c}</w>" for c in "aphotfnbjec")]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False)
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=transformers.CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "sd")  # fmt: skip
    torch.set_rng_state(torch_state)
    return folder / "sd"


@pytest.fixture(params=["diffusion:", "diffusion-text:", "diffusers:", "diffusers-text:"])
def name(request, weights) -> str:
    return f"{request.param}{weights if 'diffusion' in request.param else request.getfixturevalue('pipeline')}"


def test_a_function_of_the_image_in_range_whatever_its_batch(name, photos40):
    q, images = load_discretizer(name), photos40.images(torch.arange(3))
    found = q(images)
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(q(images[2:])[0], found[2], atol=2e-3, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not any(parameter.requires_grad for parameter in q.parameters())


def test_straight_through_has_the_identitys_gradient(name, photos40):
    q, images = load_discretizer(name), photos40.images(torch.arange(1)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(q.straight_through(images).sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))


def test_how_it_is_used_counts_in_its_fingerprint(weights):
    first, second = (module_fingerprint(load_discretizer(f"diffusion{end}:{weights}")) for end in ("", "-text"))
    assert first != second
    assert content_of(f"diffusion:{weights}") != f"diffusion:{weights}"


class Pipe:
    """What `PipelineDiffusion` asks of a pipeline: answers the mean of its noise, remembers what it was asked."""

    def __init__(self, size: int = 48):
        self.components = {"unet": nn.Linear(2, 2), "tokenizer": object()}
        self.unet = SimpleNamespace(config=SimpleNamespace(sample_size=size // 8))
        self.vae_scale_factor, self.size, self.asked = 8, size, {}

    def set_progress_bar_config(self, *, disable: bool) -> None:
        assert disable

    def __call__(self, **given):
        self.asked = given
        noise = [torch.rand(1, generator=one) for one in given["generator"]]
        return SimpleNamespace(images=torch.stack(noise).view(-1, 1, 1, 1).expand(-1, 3, self.size, self.size))


@pytest.mark.parametrize("text", [False, True])
def test_a_pipeline_is_asked_under_the_papers_prompt_at_its_own_size(photos40, text):
    pipe, images = Pipe(), photos40.images(torch.arange(3))
    q = PipelineDiffusion(pipe, text=text, steps=7).freeze()
    found = q(images)
    assert found.shape == images.shape
    assert pipe.asked["prompt"] == ["A photo of an object"] * 3
    assert pipe.asked["num_inference_steps"] == 7
    if text:
        assert (pipe.asked["height"], pipe.asked["width"]) == (48, 48)
        assert "image" not in pipe.asked
    else:
        assert pipe.asked["image"].shape == (3, 3, 48, 48)
        assert pipe.asked["strength"] == STRENGTH
    expected = torch.cat([torch.rand(1, generator=one) for one in generators(images)])
    torch.testing.assert_close(found[:, 0, 0, 0], expected)
    assert [*q.networks] == [pipe.components["unet"]]
    assert not any(parameter.requires_grad for parameter in q.parameters())


def test_prompts_name_the_class_of_each_image(photos40):
    pipe, images = Pipe(), photos40.images(torch.arange(3))
    q = PipelineDiffusion(pipe, text=True, classes=("shirt", "bag")).freeze()
    named = q.of(torch.tensor([1, 0, 1]))
    named(images)
    assert pipe.asked["prompt"] == ["A photo of a bag", "A photo of a shirt", "A photo of a bag"]
    assert named.straight_through(images).shape == images.shape
    with pytest.raises(ValueError, match="prompts name classes"):
        q(images)


def test_the_embedded_model_is_given_the_class_of_each_image(photos40, weights):
    images, labels = photos40.images(torch.arange(3)), photos40.labels[:3]
    q = load_discretizer(f"diffusion-text-class:{weights}", photos40.classes)
    torch.testing.assert_close(q.of(labels)(images), q.model.sample(images, labels))
    other = load_discretizer(f"diffusion-text:{weights}", photos40.classes)
    assert other.of(labels) is other
    assert module_fingerprint(q) != module_fingerprint(other)


def test_an_example_is_redrawn_under_its_own_class(photos40, tiny_teacher, weights):
    rows = torch.arange(4)
    images, labels = photos40.images(rows), photos40.labels[rows]
    q = load_discretizer(f"diffusion-class:{weights}", photos40.classes)
    made = discretize_adversarially(
        images, labels, tiny_teacher, q, ATTACKS["fashion"], [torch.Generator().manual_seed(0)] * 4
    )
    torch.testing.assert_close(made.reconstructed, q.of(labels)(images))
    torch.testing.assert_close(made.images, q.of(labels)(made.perturbed))


def test_classes_that_cannot_be_named_are_refused_before_work(photos40, weights, tmp_path):
    name = f"diffusion-class:{weights}"
    with pytest.raises(ValueError, match="not known; take it without -class"):
        load_discretizer(name)
    with pytest.raises(ValueError, match="knows 10 classes, the data have 2"):
        load_discretizer(name, ("shirt", "bag"))
    with pytest.raises(ValueError, match="not known; take it without -class"):
        prepare(make_profile(limit=20, discretizer=name), METHODS["dat_dad"], tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="-text and -class before the colon"):
        load_discretizer("diffusion-class-text:a.safetensors")


def test_a_published_model_without_transformers_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs transformers \(pip install 'dadlab\[diffusion\]'\)"):
        load_discretizer("diffusers:some/model")


def test_strength_decides_how_much_is_kept(photos40, monkeypatch):
    """At full strength nothing but the noise counts, and the less of it, the nearer is what was begun with."""
    torch.manual_seed(0)
    model, images = SmallDiffusion(**TINY), photos40.images(torch.arange(4))
    monkeypatch.setattr(module, "generators", lambda images: [torch.Generator().manual_seed(k) for k in range(4)])
    nobody = torch.full((4,), 10)
    torch.testing.assert_close(model.sample(images, nobody), model.sample(1 - images, nobody))
    moved = [(model.sample(images, nobody, strength=s) - images).abs().mean() for s in (0.125, 0.5, 1.0)]
    assert moved == sorted(moved)
    assert moved[0] < 0.5 * moved[2]


def test_sampling_ends_where_the_model_leads(photos40):
    """A model that knows the answer: its velocity leads from any time back to a grey image."""
    model = SmallDiffusion(**TINY)
    images, labels = photos40.images(torch.arange(4)), photos40.labels[:4]

    def grey(noisy, times, labels):  # v for x₀ = 0: ε/√(1−ᾱ)·√ᾱ with ε = noisy/√(1−ᾱ)
        share = model.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
        return (share / (1 - share)).sqrt() * noisy

    model.velocity = grey
    torch.testing.assert_close(model.sample(images, labels), torch.full_like(images, 0.5), atol=1e-3, rtol=0)


def test_text_to_image_keeps_nothing_of_the_image_but_the_key_of_its_noise(photos40, weights):
    q = load_diffusion(f"diffusion-text:{weights}")
    images = photos40.images(torch.arange(2))
    keys = [images + change for change in (0, 1e-4)]  # below half a level: the same bytes
    torch.testing.assert_close(*(q(key.clamp(0, 1)) for key in keys), atol=1e-4, rtol=0)


def test_patches_and_back(photos40):
    images = photos40.images(torch.arange(2))
    model = SmallDiffusion(**TINY)
    torch.testing.assert_close(model.pixels(model.grid(images)), images)


def test_a_store_of_pixels(photos40, tiny_teacher, weights, tmp_path):
    """A discretizer without codes: the store keeps pixels, and they come back as they were."""
    few, q = photos40.take(torch.arange(6)), load_diffusion(f"diffusion:{weights}")
    few = replace(few, labels=tiny_teacher(q(few.images(torch.arange(6)))).argmax(1))
    generate(few, tiny_teacher, q, ATTACKS["none"], tmp_path)
    samples = materialize(open_dataset(tmp_path), q, few)
    assert samples.pixels.shape[1:] == (3, 32, 32)
    assert open_dataset(tmp_path)["codes"][0] is None


def test_missing_weights_are_named():
    with pytest.raises(ValueError, match=r"absent\.safetensors"):
        load_discretizer("diffusion:absent.safetensors")


def test_no_image_is_censored(monkeypatch):
    published = SimpleNamespace(safety_checker="gives black images")
    kind = SimpleNamespace(from_pretrained=lambda place: published)
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    monkeypatch.setattr(diffusers, "AutoPipelineForImage2Image", kind)
    monkeypatch.setattr(diffusers, "AutoPipelineForText2Image", kind)
    assert module._pipeline("anything", text=False).safety_checker is None


def test_a_missing_pipeline_is_named(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"no/such/folder"):
        load_discretizer("diffusers:no/such/folder")
