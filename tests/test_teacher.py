import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dadlab.cache import teacher_fingerprint
from dadlab.captions import CONTEXT_LENGTH, tokenizer
from dadlab.files import save_weights
from dadlab.fingerprints import module_fingerprint
from dadlab.students import Student, save_student
from dadlab.teacher import ClipTeacher, StudentTeacher, build_clip, load_teacher, zero_shot_head
from dadlab.wrappers import Frozen, Preprocess

CLASSES, TEMPLATES = ("owl", "garden gnome", "bag"), ("a photo of a {}", "a sketch of a {}")


def tiny_config(image_size: int = 16) -> dict:
    return {
        "embed_dim": 8,
        "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": image_size},
        "text_cfg": {"context_length": CONTEXT_LENGTH, "width": 16, "heads": 2, "layers": 1,
                     "vocab_size": tokenizer().vocab_size},
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.25],
    }  # fmt: skip


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    config = tiny_config()
    save_weights(path, build_clip(config).state_dict(), config)
    return str(path)


@pytest.fixture(scope="module")
def teacher(clip_file) -> Frozen:
    return load_teacher(clip_file, CLASSES, TEMPLATES)


def test_logits_are_scaled_cosines_to_averaged_prompts(teacher):
    images, encode, clip = torch.rand(4, 3, 16, 16), tokenizer(), teacher.clip
    pixels = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    image = F.normalize(clip.encode_image(pixels), dim=-1)
    text = [torch.stack([F.normalize(clip.encode_text(encode([t.format(c)]))[0], dim=0) for t in TEMPLATES]).mean(0)
            for c in CLASSES]  # fmt: skip
    expected = clip.logit_scale.exp() * image @ F.normalize(torch.stack(text), dim=-1).T
    torch.testing.assert_close(teacher(images), expected)


def test_head_has_unit_rows_in_class_order(teacher):
    head = teacher.text_features
    assert head.shape == (3, 8)
    torch.testing.assert_close(head.norm(dim=1), torch.ones(3))
    swapped = zero_shot_head(teacher.clip, tokenizer(), CLASSES[::-1], TEMPLATES)
    torch.testing.assert_close(swapped.flip(0), head)


def test_features_have_unit_length(teacher):
    torch.testing.assert_close(teacher.features(torch.rand(4, 3, 16, 16)).norm(dim=1), torch.ones(4))


def test_teacher_owns_its_resizing(teacher):
    assert teacher(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_a_teachers_fingerprint_is_that_of_what_its_head_is_made_from(teacher):
    """The last bits of the head depend on the machine; stores and caches go from one to another."""

    def stamps(classes: tuple[str, ...], templates: tuple[str, ...], factor: float = 1.0) -> set[str]:
        other = ClipTeacher(teacher.clip, tokenizer(), teacher.preprocess, classes, templates)
        other.text_features.mul_(factor)
        return {teacher_fingerprint(other), module_fingerprint(other)}

    known = stamps(CLASSES, TEMPLATES)
    assert stamps(CLASSES, TEMPLATES, 1 + 1e-6) == known
    assert not stamps(CLASSES[::-1], TEMPLATES) & known
    assert not stamps(CLASSES, TEMPLATES[:1]) & known


@pytest.mark.parametrize("kind", ["clip", "student"])
def test_teacher_is_frozen(kind, teacher, tiny_teacher):
    frozen = teacher if kind == "clip" else tiny_teacher
    assert frozen.train() is frozen
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("kind", ["clip", "student"])
def test_gradient_reaches_the_images(kind, teacher, tiny_teacher):
    frozen = teacher if kind == "clip" else tiny_teacher
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    frozen(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("tower", ["resnet"])
def test_embedded_towers_load_by_name(tower):
    found = load_teacher(tower)
    assert isinstance(found, ClipTeacher)
    assert found(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_student_file_is_a_teacher(files, tiny_student):
    found = load_teacher(str(files["teacher"]))
    images = torch.rand(2, 3, 32, 32)
    assert isinstance(found, StudentTeacher)
    assert torch.equal(found(images), tiny_student(images))


def test_student_of_other_classes_is_refused(files):
    with pytest.raises(ValueError, match=r"teacher\.safetensors: teacher knows 10 classes, the data has 3"):
        load_teacher(str(files["teacher"]), CLASSES)


def test_a_student_of_the_same_classes_in_another_order_is_refused(tmp_path):
    path, names = tmp_path / "teacher.safetensors", ("pencil", "pen", "chalk")
    save_student(path, Student("resnet_s", 3, names=names))
    load_teacher(str(path), names)
    load_teacher(str(path), ("a pencil", "a pen", "a chalk"))  # said in other words, they may be the same
    with pytest.raises(ValueError, match="the teacher's class 1 is 'pen', the data's is 'chalk': bring the data's"):
        load_teacher(str(path), ("pencil", "chalk", "pen"))


@pytest.mark.parametrize("name", ["resnt", "vit-b", "teacher.pt"])
def test_unknown_teacher_names_those_there_are(name):
    with pytest.raises(ValueError, match=rf"'{name}'.*resnet, vit.*\.safetensors"):
        load_teacher(name)


def test_missing_teacher_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.safetensors: weights not found"):
        load_teacher(str(tmp_path / "none.safetensors"))


def test_discretizer_in_the_teachers_place_is_named(files):
    with pytest.raises(ValueError, match=r"vqgan\.safetensors"):
        load_teacher(str(files["vqgan"]))


def test_published_weights_are_told_how_to_be_given(tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=f"given as open_clip:MODEL/{path} or timm:MODEL/{path}"):
        load_teacher(str(path))


def test_weights_that_do_not_fit_their_configuration_are_named(tmp_path, tiny_student):
    path = tmp_path / "torn.safetensors"
    save_student(path, tiny_student)
    save_weights(path, {"a": torch.zeros(1)}, {"student": "resnet_s", "classes": 10, "image_size": 32})
    with pytest.raises(ValueError, match=r"torn\.safetensors"):
        load_teacher(str(path))


@pytest.mark.parametrize("size", [8, 16, 40])
def test_preprocess_resizes_then_normalises_a_constant_exactly(size):
    found = Preprocess(16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))(torch.full((1, 3, size, size), 0.75))
    torch.testing.assert_close(found, torch.ones(1, 3, 16, 16))


def test_shrinking_is_antialiased():
    checkers = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(1, 3, 32, 32)
    inner = Preprocess(16, (0.0,) * 3, (1.0,) * 3)(checkers)[..., 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5))
