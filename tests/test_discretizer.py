import math

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY_VQGAN
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dadlab import discretizer as module
from dadlab.discretizer import VQGAN, Identity, codebook_use, load_discretizer, nearest_code
from dadlab.files import save_weights


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def codebook() -> torch.Tensor:
    return torch.randn(32, 4, generator=torch.Generator().manual_seed(1))


def naive(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return (latents.permute(0, 2, 3, 1)[..., None, :] - codebook).square().sum(-1).argmin(-1)


def test_images_that_would_come_back_in_another_size_are_refused(tiny_vqgan):
    assert tiny_vqgan(torch.rand(1, 3, 30, 32)).shape == (1, 3, 30, 32)
    with pytest.raises(ValueError, match=r"images of 31 × 32 pixels: this discretizer wants sides .* multiples of 2"):
        tiny_vqgan(torch.rand(1, 3, 31, 32))


@pytest.mark.parametrize("at_once", [1, 32, 100, 2**21])
def test_nearest_code_equals_the_full_search(latents, codebook, at_once, monkeypatch):
    monkeypatch.setattr(module, "_DISTANCES_ON_CPU", at_once)
    assert torch.equal(nearest_code(latents, codebook), naive(latents, codebook))


def test_the_search_is_single_precision_under_half_precision_models(latents, codebook, tiny_vqgan, photos40):
    """Half of it confuses neighbours; and NumPy knows no bfloat16."""
    crowded = 1 + 0.01 * codebook
    near = crowded[torch.arange(90) % 32].view(3, 5, 6, 4).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_code(near, crowded), torch.arange(90).view(3, 5, 6) % 32)
        assert tiny_vqgan(photos40.images(torch.arange(2))).isfinite().all()


@pytest.mark.parametrize(("at_once", "largest"), [(1, 32), (100, 96), (320, 320)])
def test_distance_matrix_is_never_whole(latents, codebook, at_once, largest, monkeypatch):
    sizes, addmm = [], torch.addmm

    def watched(*args, **kwargs):
        result = addmm(*args, **kwargs)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(module, "_DISTANCES_ON_CPU", at_once)
    monkeypatch.setattr(torch, "addmm", watched)
    nearest_code(latents, codebook)
    assert max(sizes) == largest
    assert sum(sizes) == 3 * 5 * 6 * 32


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.elements = max(self.elements, *(part.numel() for part in tree_leaves(made) if torch.is_tensor(part)), 0)
        return made


@pytest.mark.parametrize("entries", [1024, 16384, 2**16])
def test_memory_of_the_search_depends_on_neither_batch_nor_codebook(entries):
    """At the true shapes, 28 × 28 codes an image: 256 images would be 3.3 billion distances with 16384 entries."""
    largest = set()
    for batch in (256, 512, 1024):
        latents, codebook = (torch.empty(shape, device="meta") for shape in ((batch, 4, 28, 28), (entries, 4)))
        with Largest() as seen:
            assert nearest_code(latents, codebook).shape == (batch, 28, 28)
        largest.add(seen.elements)
    assert largest == {2**27}


def test_nearest_code_by_hand():
    codebook = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 100.0]])
    latents = torch.tensor([[1.4, 0.0], [1.6, 0.0], [0.0, 51.0]]).T.reshape(1, 2, 1, 3)
    assert nearest_code(latents, codebook).tolist() == [[[0, 1, 2]]]


def test_codebook_entries_are_their_own_codes(tiny_vqgan):
    entries = tiny_vqgan.quantize.embedding.weight
    assert nearest_code(entries.T.reshape(1, 4, 4, 4), entries).flatten().tolist() == list(range(16))


def test_forward_is_decode_of_encode(tiny_vqgan, photos40):
    images = photos40.images(torch.arange(4))
    codes = tiny_vqgan.encode(images)
    assert (codes.shape, codes.dtype) == ((4, 16, 16), torch.int64)
    assert 0 <= codes.min() <= codes.max() < 16
    assert torch.equal(tiny_vqgan.decode(codes), tiny_vqgan(images))


def test_images_stay_in_range(tiny_vqgan):
    drawn = tiny_vqgan.decode(torch.randint(16, (4, 16, 16), generator=torch.Generator().manual_seed(0)))
    assert drawn.shape == (4, 3, 32, 32)
    assert 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_codes_of_any_integer_type_decode_alike(tiny_vqgan, kind):
    codes = torch.arange(256).view(1, 16, 16) % 16
    assert torch.equal(tiny_vqgan.decode(codes.to(kind)), tiny_vqgan.decode(codes))


def test_straight_through_has_the_values_of_forward_and_a_gradient(tiny_vqgan, photos40):
    images = photos40.images(torch.arange(2)).requires_grad_()
    through = tiny_vqgan.straight_through(images)
    torch.testing.assert_close(through, tiny_vqgan(images), atol=1e-5, rtol=0)
    through.square().sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_embedded_images_are_codebook_entries_with_a_gradient(tiny_vqgan, photos40):
    images = photos40.images(torch.arange(2)).requires_grad_()
    entries = tiny_vqgan.embed(images)
    expected = tiny_vqgan.quantize.embedding.weight[tiny_vqgan.encode(images)].permute(0, 3, 1, 2)
    torch.testing.assert_close(entries, expected)
    entries.square().sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


def test_codebook_and_commitment_loss_by_hand(tiny_vqgan, photos40):
    images = photos40.images(torch.arange(2))
    _, loss, codes = tiny_vqgan.reconstruct(images)
    latents = tiny_vqgan.latents(images)
    gap = F.mse_loss(tiny_vqgan.quantize.embedding.weight[codes].permute(0, 3, 1, 2), latents)
    torch.testing.assert_close(loss, 1.25 * gap)


def test_identity_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert Identity()(images) is images
    assert Identity().straight_through(images) is images


@pytest.mark.parametrize(
    ("codes", "size", "use", "perplexity"),
    [
        ([0, 0, 0, 0], 4, 0.25, 1.0),
        ([0, 1, 2, 3], 4, 1.0, 4.0),
        ([0, 0, 1, 1], 8, 0.25, 2.0),
        ([0, 0, 0, 1], 2, 1.0, math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
    ],
)
def test_codebook_use_by_hand(codes, size, use, perplexity):
    assert codebook_use(torch.tensor(codes).view(2, 2), size) == pytest.approx((use, perplexity))


def test_file_loads_frozen(files, tiny_vqgan, photos40):
    found = load_discretizer(str(files["vqgan"]))
    assert isinstance(found, VQGAN)
    assert not found.train().training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    images = photos40.images(torch.arange(2))
    assert (found.encode(images) == tiny_vqgan.encode(images)).float().mean() > 0.95  # the file is half precision


@pytest.mark.parametrize("name", ["studio", "broad"])
def test_named_discretizers(name):
    assert isinstance(load_discretizer("identity"), Identity)
    assert load_discretizer(name)(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("name", ["studo", "vqgan.onnx"])
def test_unknown_discretizer_names_those_there_are(name):
    with pytest.raises(ValueError, match=rf"'{name}'.*'studio', 'broad', 'identity'.*\.safetensors"):
        load_discretizer(name)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.safetensors: weights not found"):
        load_discretizer(str(tmp_path / "none.safetensors"))


def test_teacher_in_the_discretizers_place_is_named(files):
    with pytest.raises(ValueError, match=r"teacher\.safetensors"):
        load_discretizer(str(files["teacher"]))


def test_weights_that_do_not_fit_their_configuration_are_named(tmp_path, files):
    save_weights(tmp_path / "torn.safetensors", {"a": torch.zeros(1)}, TINY_VQGAN)
    with pytest.raises(ValueError, match=r"torn\.safetensors"):
        load_discretizer(str(tmp_path / "torn.safetensors"))
