import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dadlab.norms import synchronize
from dadlab.students import Student


def test_on_gpus_a_part_without_images_is_normalized_in_single_precision():
    """Torch's synchronized norm shares zeros of its input's precision, where other processes share float32 sums."""
    student = synchronize(Student("resnet_s", 3), torch.device("cuda")).eval()
    (norm, *others) = [module for module in student.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert others
    width = norm.num_features
    assert norm(torch.zeros(0, width, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
    assert norm.bfloat16()(torch.zeros(2, width, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_on_cpus_one_process_normalizes_as_torch_does():
    """Outputs, gradients, and running statistics with their unbiased variance; in eval mode these are used."""
    torch.manual_seed(0)
    ours, theirs = (norm for norm in [nn.BatchNorm2d(5)] for norm in (copy.deepcopy(norm), norm))
    synchronize(ours, torch.device("cpu"))
    images = torch.randn(3, 5, 4, 4) * 3 + 1
    weights = torch.randn_like(images)
    gradients = []
    for norm in (ours, theirs):
        with torch.no_grad():
            norm.weight.copy_(torch.arange(1.0, 6))
        given = images.clone().requires_grad_()
        found = norm(given)
        (found * weights).sum().backward()
        gradients.append([found, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    assert ours.num_batches_tracked == 1
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
