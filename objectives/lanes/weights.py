"""A trial's weights on disk: safetensors, whole or not there at all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch


def save(
    tensors: Mapping[str, torch.Tensor], path: Path, about: Mapping[str, str] | None = None
) -> str:
    """Write the tensors to ``path``, atomically and durably; return the file's SHA-256.

    ``about`` becomes the file's metadata. Safetensors, because reading one runs no code, which a
    pickle does (CVE-2025-32434).
    """
    # Clones, because tied weights are one tensor under several names, which safetensors refuses.
    contents = safetensors.torch.save(
        {name: t.cpu().contiguous().clone() for name, t in tensors.items()},
        metadata=None if about is None else dict(about),
    )
    write(contents, path, is_durable=True)
    return hashlib.sha256(contents).hexdigest()


def write(contents: bytes, path: Path, *, is_durable: bool = False) -> None:
    """Write a file that is whole or not there at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(contents)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
