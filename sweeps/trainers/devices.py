"""Where trainers train: a device for each of them."""

import os

from sweeps.config.errors import ConfigError
from sweeps.trainers.messages import Load


def list_devices(order: Load) -> list[str]:
    """Return a device for each trainer.

    Raises:
        ConfigError: If a device is asked for that is not here, or a precision that it has not.
    """
    import torch

    gpus = torch.cuda.device_count() if order.device != "cpu" else 0
    if order.device == "cuda" and not gpus:
        raise ConfigError(["device: no CUDA device here; take device = 'cpu' or 'auto'"])
    if order.precision == "tf32" and not gpus:
        raise ConfigError(["precision: tf32 needs a CUDA device; take float32"])
    if gpus:
        return [f"cuda:{i % gpus}" for i in range(order.num_trainers or gpus)]
    has_affinity = hasattr(os, "sched_getaffinity")  # a container may allow fewer; not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return ["cpu"] * (order.num_trainers or cores or 1)
