"""Reads a data file's bytes, text, arrays or Arrow table, and writes npz files.

A mistake is one line of text. Does not know what a column is.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.api import DataError

#: Where the data that ship with the project lie.
FOLDER = Path(__file__).parent


def find_ending(path: Path, endings: Sequence[str]) -> tuple[str, bool]:
    """Return the ending that says a file's format, and whether the file is gzipped.

    Raises:
        DataError: If the ending is none of ``endings``, each with its dot, or if it is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a file ending in {', '.join(endings)}")
    found = [suffix.lower() for suffix in path.suffixes]
    is_gzipped = bool(found) and found[-1] == ".gz"
    ending = "".join(found[:-1][-1:] if is_gzipped else found[-1:])
    if ending not in endings:
        raise DataError(
            f"{path}: unknown ending {ending!r}; expected {', '.join(endings)}, or one of them "
            "followed by .gz"
        )
    return ending, is_gzipped


def read_bytes(path: Path, *, is_gzipped: bool) -> bytes:
    """Return a file's contents, unpacked.

    Raises:
        DataError: If it cannot be read, or is not whole.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected the path of a data file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a file") from None
    if not is_gzipped:
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: broken gzip ({one_line(error)}); expected a whole file made by gzip"
        ) from None


def decode(path: Path, content: bytes) -> str:
    """Return the text with every line end as a line feed, as editors count lines."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", errors="ignore")
        line = before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; expected "
            "text saved as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def one_line(error: Exception) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def count_of(number: int, what: str) -> str:
    """Return a number with its noun: 1 column, 2 columns."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def read_parquet(path: Path, content: bytes) -> Any:
    """Return the ``pyarrow.Table`` in a file's contents.

    Raises:
        DataError: If the contents are not a whole Parquet file.
    """
    # Imported here: no other format needs it, and it costs half a second at first use.
    import pyarrow
    import pyarrow.parquet

    try:
        # Not read_table: it imports pandas and starts a thread, and a process that ended soon
        # after, as on a mistake in the file, aborted in 7 of 160 runs on a busy machine.
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        return file.read(use_threads=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: broken Parquet ({one_line(error)[:200]}); expected a whole Parquet file"
        ) from None


def read_npz(path: Path, content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in a file's contents, in the order of the file.

    Raises:
        DataError: If the contents are not an npz file, or an array holds Python objects.
    """
    try:
        # Never a pickle: reading one runs code.
        archive = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: broken npz ({one_line(error)[:200]}); expected a file made by numpy.savez"
        ) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: a single array; expected named arrays, made by numpy.savez")
    arrays = {}
    for name in archive.files:
        try:
            arrays[name] = archive[name]
        except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path}: array {name!r} cannot be read ({one_line(error)[:200]}); expected "
                "numbers or text, of one length in each row"
            ) from None
    return arrays


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as a compressed npz file; the same arrays, the same bytes."""
    # Not np.savez_compressed: it promises nothing about the time stamps in the archive.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(member, buffer.getvalue(), compresslevel=9)
