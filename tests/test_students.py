import pytest
import torch

from dadlab.files import save_weights
from dadlab.students import STUDENTS, Student, load_student, save_student


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_maps_images_to_logits(name, size):
    assert Student(name, 7, size)(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_any_timm_model_is_a_student():
    assert Student("resnet10t", 4, 32).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 4)


def test_students_grow_in_the_papers_order():
    count = {name: sum(p.numel() for p in Student(name, 10).parameters()) for name in STUDENTS}
    assert count["resnet_s"] < count["resnet_m"]
    assert count["vit_s"] < count["vit_m"]
    assert max(count.values()) < 3_000_000


def test_normalisation_belongs_to_the_model():
    student = Student("resnet_s", 3).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(student(images), student.net((images - 0.5) / 0.25))


def test_other_sizes_are_resized_by_the_model():
    assert Student("vit_s", 3, 32)(torch.rand(2, 3, 50, 50)).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet_s", "vit_s"])
def test_saved_student_comes_back_exactly(tmp_path, name):
    torch.manual_seed(0)
    student = Student(name, 5, 32).eval()
    save_student(tmp_path / "s.safetensors", student)
    found = load_student(tmp_path / "s.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert (found.name, found.classes, found.training) == (name, 5, False)
    assert torch.equal(found(images), student(images))


@pytest.mark.parametrize(("name", "hint"), [("resnet_x", "resnet_s"), ("vit_l", "vit_s"), ("qqq", "resnet_s")])
def test_unknown_student_names_those_there_are(name, hint):
    with pytest.raises(ValueError, match=rf"unknown student '{name}'.*{hint}"):
        Student(name, 10)


def test_file_of_something_else_is_named(tmp_path):
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"embed_dim": 3})
    with pytest.raises(ValueError, match=r"other\.safetensors: holds no student; .*student\.safetensors"):
        load_student(tmp_path / "other.safetensors")
