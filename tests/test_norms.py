import torch
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
