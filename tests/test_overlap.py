from types import SimpleNamespace

import torch

from dadlab.batch import Batch
from dadlab.overlap import ToDevice, Told


def batch_of(tensor: torch.Tensor) -> Batch:
    return Batch(*[tensor] * 7)


def test_a_cpu_is_handed_the_batch_as_it_is():
    images = torch.rand(2, 3, 4, 4)
    assert ToDevice(torch.device("cpu"))(batch_of(images)).images is images


class Gpu:
    """Writes down what a GPU would be asked to do."""

    def __init__(self, monkeypatch):
        self.asked, self.current = [], "computing"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copying")
        monkeypatch.setattr(torch.cuda, "stream", self.using)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: self.copy(tensor, non_blocking))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: self.asked.append("used"))

    def using(self, stream):
        self.entering = stream
        return self

    def __enter__(self):
        self.current = self.entering

    def __exit__(self, *_):
        self.current = "computing"

    def wait_stream(self, stream):
        self.asked.append(f"{self.current} waits for {stream}")

    def copy(self, tensor, non_blocking):
        assert non_blocking
        self.asked.append(f"copy while {self.current}")
        return tensor.clone()


def test_a_gpu_copies_beside_its_work_and_waits_before_it_uses_the_copy(monkeypatch):
    gpu = Gpu(monkeypatch)
    images = torch.rand(2, 3, 4, 4)
    moved = ToDevice(torch.device("cuda"))(batch_of(images))
    tensors = 8
    expected = ["copy while copying"] * tensors + ["computing waits for copying"] + ["used"] * tensors
    assert gpu.asked == expected
    assert moved.images.equal(images)


class Several:
    """Accelerate's view of the first of two processes; what the other was told comes from a list."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self, others):
        self.others = iter(others)

    def reduce(self, tensor, reduction):
        assert reduction == "sum"
        return tensor + next(self.others)


def test_one_process_answers_at_once():
    told = Told(SimpleNamespace(num_processes=1))
    assert [told(False), told(True)] == [False, True]


def test_several_processes_answer_together_a_step_late():
    told = Told(Several(others=[0.0, 1.0, 0.0]))
    assert [told(False), told(False), told(False)] == [False, False, True]


def test_it_does_not_matter_which_process_was_told():
    told = Told(Several(others=[0.0, 0.0]))
    assert [told(True), told(False)] == [False, True]
