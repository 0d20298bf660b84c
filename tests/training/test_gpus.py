"""Peaks of GPUs by the names that drivers give them.

python -m pytest tests/training/test_gpus.py -v
"""

import pytest

from training.gpus import PEAK_TFLOPS, device_peak_flops


def test_peaks_by_device_name():
    names = {
        "NVIDIA A100-SXM4-80GB": 312, "NVIDIA A100 80GB PCIe": 312, "NVIDIA H100 80GB HBM3": 989.4, "NVIDIA H100 PCIe": 756.5,
        "NVIDIA L40S": 362, "NVIDIA L4": 121, "NVIDIA A10": 125, "NVIDIA RTX A6000": 154.8, "NVIDIA RTX 6000 Ada Generation": 364.2,
        "NVIDIA GeForce RTX 4090": 165.2, "AMD Instinct MI300X": 1307.4,
    }  # fmt: skip
    assert {name: device_peak_flops(name) for name in names} == {name: pytest.approx(peak * 1e12) for name, peak in names.items()}
    assert all(device_peak_flops(name) == pytest.approx(peak * 1e12) for name, peak in PEAK_TFLOPS.items())
    others = ["NVIDIA A10G", "Tesla T4", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 3090 Ti", ""]
    others.append("NVIDIA A100-SXM4-40GB MIG 1g.5gb")
    assert [device_peak_flops(name) for name in others] == [None] * len(others)
