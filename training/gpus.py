"""Peaks of the GPUs in gpus.yaml, found by the name that a driver gives them."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from pathlib import Path

import yaml

PEAK_TFLOPS = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_text(encoding="utf-8"))
OTHER_DEVICES = {"MIG", "Laptop", "Ti", "D", "SUPER", "Max"}  # words of names that mean another chip, or a part of one


def device_peak_flops(device_name):
    """Dense bf16 peak in FLOP/s of a GPU by its name, as torch.cuda.get_device_name gives it or short ("A100"); None if unknown."""
    words = set(re.split(r"[\s-]+", device_name))
    known = [name for name in PEAK_TFLOPS if words >= set(name.split())]
    if not known or words & OTHER_DEVICES:
        return None
    return 1e12 * PEAK_TFLOPS[max(known, key=lambda name: len(name.split()))]
