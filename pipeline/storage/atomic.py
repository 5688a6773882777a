"""Files and folders that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], scratch: Path | None = None, durable: bool = False) -> Iterator[Path]:
    """Write a file or a folder under a temporary name that becomes `path` at the end of the block.

    A reader, and a process that is killed, see the old content or the new one, never a part. After an error the temporary file is
    removed and `path` is untouched.

    Args:
        path: final place of the file, or of a folder that does not exist yet.
        scratch: folder for the temporary file, on the same file system; by default beside `path`, under a hidden name.
        durable: flush a file to the disk before it is renamed, so that it survives a power cut.

    Yields:
        The temporary path; nothing is there yet.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     print((Path(folder) / "a.txt").read_text(), os.listdir(folder))
    whole ['a.txt']
    """
    path = Path(path)
    temporary = (scratch or path.parent) / f".{path.name}.part"
    _remove(temporary)
    try:
        yield temporary
        if durable and temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
