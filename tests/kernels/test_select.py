"""The choice of a backend: by name, never silently another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recsys_mf.arrays.cores import available_threads, processors
from recsys_mf.errors import ConfigError, DeviceError
from recsys_mf.kernels import predictor, select
from recsys_mf.kernels.cpu.rows import CpuRows


def test_cpu_kernels_take_the_threads_asked_for_and_all_by_default() -> None:
    for asked, taken in ((1, 1), (None, available_threads())):
        backend = select("cpu", asked)
        assert isinstance(backend.rows, CpuRows)
        assert backend.device.threads == taken


def test_auto_reports_what_it_chose() -> None:
    assert select("auto").device.name == ("cuda" if torch.cuda.is_available() else "cpu")


def test_unknown_device_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"^unknown device \(saw cudda\); did you mean 'cuda'\? \(valid: auto, cpu, cuda\)$"
    ):
        select("cudda")


@pytest.mark.parametrize("threads", [0, -1, 10**6, 1.5])
def test_number_of_threads_out_of_range_is_refused(threads: Any) -> None:
    message = rf"^number of threads out of range \(saw {threads}\); give 1 to {processors()}$"
    with pytest.raises(ConfigError, match=message):
        select("cpu", threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
def test_cuda_is_refused_on_a_machine_without_it() -> None:
    with pytest.raises(DeviceError, match=r"^CUDA is not available here; use the device 'cpu' or 'auto'$"):
        select("cuda")


def test_a_backend_is_taken_as_the_device() -> None:
    backend = select("cpu", 1)
    assert select(backend) is backend
    assert isinstance(predictor(backend), type(backend.make_prediction()))
