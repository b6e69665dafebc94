"""A trial's weights on disk: safetensors, whole or not there at all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch


def save(
    tensors: Mapping[str, torch.Tensor], path: Path, header: Mapping[str, str] | None = None
) -> str:
    """Write the tensors to ``path``, atomically; return the file's SHA-256.

    Safetensors, because reading one runs no code, which a pickle does (CVE-2025-32434).

    Args:
        tensors: What to write.
        path: The file; its folder is made.
        header: Texts to write beside the tensors.
    """
    # Clones, because tied weights are one tensor under several names, which safetensors refuses.
    contents = safetensors.torch.save(
        {name: t.cpu().contiguous().clone() for name, t in tensors.items()},
        metadata=None if header is None else dict(header),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return hashlib.sha256(contents).hexdigest()
