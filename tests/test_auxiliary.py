import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from dadlab.auxiliary import SplitNorm, add_auxiliary, remove_auxiliary, routed
from dadlab.students import Student


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student("resnet_s", 3, 8)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def split(student: nn.Module) -> list[SplitNorm]:
    return [module for module in student.modules() if isinstance(module, SplitNorm)]


def test_without_a_route_nothing_changes(student, images):
    expected = student.eval()(images)
    assert torch.equal(add_auxiliary(student).eval()(images), expected)
    assert len(split(student)) == 9


def test_the_first_images_take_the_one_way_and_the_others_the_other(student, images):
    norm = SplitNorm(BatchNormAct2d(3))
    norm.auxiliary.weight.data.mul_(2)
    with routed(norm, 2):
        found = norm(images)
    torch.testing.assert_close(found, torch.cat([norm.main(images[:2]), norm.auxiliary(images[2:])]))
    assert norm.route == "main"


@pytest.mark.parametrize(("route", "untouched"), [("main", "auxiliary"), ("auxiliary", "main"), (0, "main")])
def test_statistics_come_from_one_kind_of_images(student, images, route, untouched):
    add_auxiliary(student).train()
    with routed(student, route):
        student(images)
    for norm in split(student):
        assert torch.equal(getattr(norm, untouched).running_mean, torch.zeros(norm.main.num_features))
        other = norm.main if untouched == "auxiliary" else norm.auxiliary
        assert not torch.equal(other.running_mean, torch.zeros(norm.main.num_features))


def test_removal_leaves_the_student_that_was(student, images):
    names = list(student.state_dict())
    add_auxiliary(student).train()
    with routed(student, "auxiliary"):
        student(images)
    remove_auxiliary(student)
    assert list(student.state_dict()) == names
    assert torch.equal(student.net.stem.bn.running_mean, torch.zeros(32))
