"""Keeps the checksums of the shipped data, in the format of ``sha256sum``."""

import hashlib
from pathlib import Path


def record_checksum(path: Path) -> str:
    """Write the SHA-256 of a file into ``SHA256SUMS`` beside it; return it."""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = path.with_name("SHA256SUMS")
    lines = sums.read_text(encoding="ascii").splitlines() if sums.exists() else []
    others = [line for line in lines if line.split()[1] != path.name]
    kept = sorted([*others, f"{checksum}  {path.name}"], key=lambda line: line.split()[1])
    sums.write_text("\n".join(kept) + "\n", encoding="ascii")
    return checksum
