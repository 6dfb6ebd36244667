import pytest
import torch
from conftest import TINY_VQGAN

from dadlab.captions import CLASSES
from dadlab.dataset import Dataset
from dadlab.discretizer import FrozenVQGAN
from dadlab.examples import discretize_adversarially, sample_generators
from dadlab.profile import Attack
from dadlab.teacher import load_teacher
from dadlab.tokens import TokenTeacher, TokenViT, save_token_teacher

TOKENS = {
    "vit": {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 10},
    "code_dim": 4,
    "code_size": 2,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
}


@pytest.fixture(scope="module")
def teacher(tiny_vqgan: FrozenVQGAN) -> TokenTeacher:
    torch.manual_seed(0)
    return TokenTeacher(tiny_vqgan, TokenViT(**TOKENS), 32)


class Recorder(torch.nn.Module):
    """A backbone that answers with the mean entry and keeps what it was given."""

    def forward(self, images, entries):
        self.given = images, entries
        return entries.mean((2, 3))


def test_backbone_is_given_the_image_and_the_entries_of_its_codes(tiny_vqgan, photos40):
    images, backbone = photos40.images(torch.arange(3)), Recorder()
    TokenTeacher(tiny_vqgan, backbone, 32)(images)
    assert torch.equal(backbone.given[0], images)
    expected = tiny_vqgan.quantize.embedding.weight[tiny_vqgan.encode(images)].permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone.given[1], expected)


def test_gradient_reaches_the_image_through_the_codes_alone(tiny_vqgan, photos40):
    images = photos40.images(torch.arange(2)).requires_grad_()
    TokenTeacher(tiny_vqgan, Recorder(), 32)(images).square().sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("changed", ["pixels", "codes"])
def test_logits_depend_on_pixels_and_on_codes(teacher, changed):
    generator = torch.Generator().manual_seed(0)
    images, entries = torch.rand(1, 3, 32, 32, generator=generator), torch.randn(1, 4, 16, 16, generator=generator)
    before = teacher.backbone(images, entries)
    other = (1 - images, entries) if changed == "pixels" else (images, -entries)
    assert not torch.allclose(teacher.backbone(*other), before)


def test_each_patch_sees_the_codes_of_its_own_place(teacher):
    fused = teacher.backbone.vit.patch_embed
    images, entries = torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 16, 16)
    moved = entries.clone()
    moved[..., 4:8, 8:12] = 1.0  # second row of patches, third column
    changed = (fused((images, moved)) - fused((images, entries))).abs().sum(-1)
    assert changed.shape == (1, 16)
    assert torch.nonzero(changed[0]).flatten().tolist() == [1 * 4 + 2]


def test_other_sizes_are_resized_before_both(teacher):
    assert teacher(torch.rand(2, 3, 40, 40)).shape == (2, 10)


def test_teacher_is_frozen(teacher):
    assert not any(module.training for module in teacher.train().modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_file_is_self_contained(teacher, tmp_path):
    path = tmp_path / "tokens.safetensors"
    save_token_teacher(path, teacher, {"tokens": TOKENS, "vqgan": TINY_VQGAN})
    found, images = load_teacher(str(path)), torch.rand(2, 3, 32, 32)
    assert isinstance(found, TokenTeacher)
    assert torch.equal(found(images), teacher(images))
    with pytest.raises(ValueError, match=r"tokens\.safetensors: teacher knows 10 classes, the data has 3"):
        load_teacher(str(path), CLASSES[:3])


def test_torn_file_is_named(teacher, tmp_path):
    path = tmp_path / "tokens.safetensors"
    save_token_teacher(path, teacher, {"tokens": {**TOKENS, "code_dim": 8}, "vqgan": TINY_VQGAN})
    with pytest.raises(ValueError, match=r"tokens\.safetensors: .*patch_embed.project.weight"):
        load_teacher(str(path))


def test_codes_must_tile_the_patches():
    with pytest.raises(ValueError, match="patch size 8 must be a multiple of the codes' 3 pixels"):
        TokenViT(**{**TOKENS, "code_size": 3})


def test_it_is_attacked_like_any_teacher(teacher, tiny_vqgan, photos40: Dataset):
    rows = torch.arange(4)
    images, labels = photos40.images(rows), photos40.labels[rows]
    made = discretize_adversarially(
        images, labels, teacher, tiny_vqgan, Attack(epsilon=4.0, step_size=4.0), sample_generators(rows, 0)
    )
    distance = (made.perturbed - made.reconstructed).flatten(1).norm(dim=1)
    assert (distance > 0.1).all()
    assert made.logits.shape == (4, 10)
