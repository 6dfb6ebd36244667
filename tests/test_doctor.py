"""The doctor names what is missing and how to mend it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from dadlab import doctor
from dadlab.doctor import GOOD, NEEDED, WANTED, examine, main, report


def found(what: str, runs_dir: Path) -> doctor.Finding:
    (finding,) = [finding for finding in examine(runs_dir) if finding.what == what]
    return finding


def test_whatever_is_not_well_has_a_remedy(tmp_path: Path) -> None:
    findings = examine(tmp_path)
    assert {"Python", "GPU", "memory", "disk", "teacher_resnet", "vqgan_studio", "ipywidgets", "OpenCV"} <= {
        finding.what for finding in findings
    }
    assert all(finding.remedy for finding in findings if finding.state != GOOD)
    assert all(finding.found for finding in findings)


def test_little_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    assert found("memory", tmp_path).state == NEEDED


@pytest.mark.parametrize(("gpus", "megabytes", "state"), [(8, 64, WANTED), (8, 64 * 1024, GOOD), (0, 64, GOOD)])
def test_a_containers_little_shared_memory_is_told_where_gpus_wait_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, megabytes: int, state: str
) -> None:
    monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(doctor.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(total=megabytes * 2**20))
    (finding,) = doctor._shared_memory()
    assert finding.state == state
    assert ("--shm-size 64g" in finding.remedy) == (state == WANTED)


@pytest.mark.parametrize(
    ("capability", "compiler", "state", "remedy"),
    [
        ((7, 0), "/usr/bin/cc", NEEDED, "no kernels for compute capability 7.0, its oldest is 7.5"),
        ((9, 0), None, WANTED, "install gcc"),
        ((12, 0), "/usr/bin/cc", GOOD, ""),
    ],
)
def test_a_gpu_that_torch_or_its_compiler_cannot_use_is_told(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], compiler: str | None, state: str, remedy: str
) -> None:
    memory = SimpleNamespace(total_memory=80 * 2**30)
    told = {"is_available": True, "device_count": 1, "get_device_name": "a card", "get_device_capability": capability}
    told |= {"get_arch_list": ["sm_75", "sm_90", "sm_120", "compute_120"], "get_device_properties": memory}
    for name, value in told.items():
        monkeypatch.setattr(doctor.torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: compiler)
    (finding,) = doctor._gpu()
    assert (finding.what, finding.state) == ("GPU", state)
    assert remedy in finding.remedy


@pytest.mark.parametrize(("most", "state"), [(1024, GOOD), (256, WANTED), (doctor.resource.RLIM_INFINITY, GOOD)])
def test_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch, most: int, state: str) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda kind: (most, most))
    (finding,) = doctor._open_files()
    assert finding.state == state
    assert ("`ulimit -n 1024`" in finding.remedy) == (state == WANTED)


def test_a_full_disk_is_told_even_where_the_folder_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=0, total=0))
    assert found("disk", tmp_path / "not" / "yet").state == NEEDED


def test_embedded_weights_that_are_lost_are_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ASSETS", tmp_path)
    for name in ("teacher_vit", "vqgan_studio"):
        finding = found(name, tmp_path)
        assert (finding.state, finding.remedy) == (NEEDED, "`git checkout dadlab/assets`")


def test_an_old_widget_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "7.8.1")
    finding = found("ipywidgets", tmp_path)
    assert (finding.state, finding.found) == (NEEDED, "7.8.1")
    assert "version 8 is wanted" in finding.remedy


def test_a_check_that_fails_is_a_finding_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such counter")

    monkeypatch.setattr(doctor.psutil, "virtual_memory", broken)
    findings = examine(tmp_path)
    (finding,) = [finding for finding in findings if "no such counter" in finding.found]
    assert finding.state == NEEDED
    assert len(findings) > 10


def test_the_command_prints_what_is_missing_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    assert main(["--runs-dir", str(tmp_path)]) == 1
    first, remedy, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["missing", "memory"]
    assert "close other kernels" in remedy


def test_the_table_is_sorted_by_need(tmp_path: Path) -> None:
    order = {NEEDED: 0, WANTED: 1, GOOD: 2}
    states = [order[state] for state in report(examine(tmp_path))["state"]]
    assert states == sorted(states)
