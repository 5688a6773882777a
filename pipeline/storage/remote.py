"""Remote files: `s3://`, `gs://`, `hdfs://` and whatever else pyarrow or fsspec reaches, beside plain paths.

A video is fetched to a temporary file for the decoders, and removed when it is done. A remote run folder is a local one that is copied
there as it grows (`Mirror`), in an order that lets the copy be resumed at any moment.

Keys and endpoints come from where these libraries look for them (for S3: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID ...).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from types import TracebackType

import pyarrow as pa
from pyarrow import fs

from pipeline.errors import FetchError, FocalfaceError, SettingsError, one_line
from pipeline.storage.names import skip_reason

PUSH_EVERY_S = 5.0
"""Seconds between two copies of what a run has committed; more saves requests, and loses more work when the machine is lost."""

PIECE_BYTES = 8 << 20
"""Bytes read and written at a time; more makes fewer requests and takes more memory."""

COMMITS = "videos"
"""The table whose files commit those of the others: written after them, removed before them."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*?\[]")
_TEMPORARY = "_"  # names that begin so are temporary files of a run


def is_url(path: str) -> bool:
    """Whether a path is a URL.

    >>> is_url("s3://films/a.mp4"), is_url("clips/a.mp4")
    (True, False)
    """
    return _URL.match(path) is not None


def absolute(path: str) -> str:
    """The absolute path, which every process of this machine understands; a URL unchanged."""
    return path if is_url(path) else os.path.abspath(path)


def plain(path: str) -> str:
    """The path of a `file://` URL; anything else unchanged."""
    return path.removeprefix("file://") if path.startswith("file:///") else path


@cache
def _filesystem(base: str) -> fs.FileSystem:
    """The file system of `scheme://authority`."""
    scheme = base.partition("://")[0].lower()
    try:
        if scheme == "s3" and (endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")):
            http, _, host = endpoint.rpartition("://")
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            return fs.S3FileSystem(endpoint_override=host.rstrip("/"), scheme=http or "https", region=region)
        if scheme in {"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"}:
            return fs.FileSystem.from_uri(base)[0]
        import fsspec

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise SettingsError(f"cannot open {base}: {one_line(error)}") from error


def _open(url: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path in it. What follows `scheme://` is taken literally: no character of a key has a special meaning."""
    scheme, _, path = url.partition("://")
    authority, _, rest = path.partition("/")
    system = _filesystem(f"{scheme}://{authority}")
    return system, rest if scheme.lower() in {"hdfs", "viewfs"} else path.rstrip("/")


def _mark(info: fs.FileInfo) -> str:
    return f"{info.size}-{info.mtime_ns}"


def find(url: str, wanted: Callable[[str], bool]) -> tuple[dict[str, str], Counter[str]]:
    """Find the files that a URL stands for: itself, those of a folder at any depth, or those that match a pattern.

    Args:
        url: `scheme://place/...`; `*`, `**`, `?` and `[...]` make a pattern of what is not a file or folder itself.
        wanted: whether a search of a folder takes a file of this name.

    Returns:
        URL to a mark that changes with the file (size and time of change), in order of name; and the number of wanted files that were
        skipped, by reason (`pipeline.storage.names.skip_reason`).

    Raises:
        SettingsError: there is nothing, or the place cannot be reached.
    """
    system, path = _open(url)
    prefix = url[: len(url) - len(path)] if url.endswith(path) else url[: url.index("://") + 3]
    try:
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            return {prefix + path: _mark(info)}, Counter()
        if info.type == fs.FileType.Directory:
            entries, skipped = _searched(_files(system, path), path, wanted)
            return {prefix + entry.path: _mark(entry) for entry in entries}, skipped
        if magic := _MAGIC.search(path):
            from fsspec.utils import glob_translate

            matches = re.compile(glob_translate(path)).match
            base = path[: magic.start()].rpartition("/")[0]
            matching = [entry for entry in _files(system, base) if matches(entry.path)]
            entries, skipped = _searched(matching, base, lambda _: True)
            if entries:
                return {prefix + entry.path: _mark(entry) for entry in entries}, skipped
            raise SettingsError(f"no file matches {url}")
    except OSError as error:
        raise SettingsError(f"cannot look into {url}: {one_line(error)}") from error
    raise SettingsError(f"there is no file or folder {url}")


def _searched(entries: list[fs.FileInfo], base: str, wanted: Callable[[str], bool]) -> tuple[list[fs.FileInfo], Counter[str]]:
    """The wanted ones among files below `base`, and how many were skipped for which reason."""
    kept, skipped = [], Counter[str]()
    for entry in entries:
        if not wanted(entry.base_name):
            continue
        names = entry.path[len(base) :].strip("/").split("/")
        reason = next(filter(None, map(skip_reason, names, ["", *names])), None)
        if reason:
            skipped[reason] += 1
        else:
            kept.append(entry)
    return kept, skipped


def _files(system: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    entries = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
    return sorted((entry for entry in entries if entry.type == fs.FileType.File), key=lambda entry: entry.path)


@contextmanager
def fetched(path: str) -> Iterator[str]:
    """Make a remote file available on this machine's disk for the duration of the block.

    Its name here does not come from its name there. A plain path is itself, nothing is copied.

    Raises:
        FetchError: when it cannot be fetched.
    """
    if not is_url(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="focalface-") as folder:
        file = os.path.join(folder, "video")
        try:
            system, there = _open(path)
            with system.open_input_stream(there) as source, open(file, "wb") as target:
                shutil.copyfileobj(source, target, PIECE_BYTES)
        except (OSError, FocalfaceError) as error:
            raise FetchError(f"cannot be fetched ({one_line(error)})", path) from error
        yield file


class Mirror:
    """A remote run folder, as a local folder that is copied there. A plain path is used as it is.

    >>> with Mirror("s3://results/holiday") as mirror:  # doctest: +SKIP
    ...     run(["s3://films"], mirror.path, settings, kept=mirror.push)

    Attributes:
        path: the local folder, temporary where the place is a URL; its name is about the place's.
        place: as it was given.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = plain(os.fspath(place))
        self._system: fs.FileSystem | None = None
        self._root = ""
        self.path = Path(self.place)
        self._above = ""
        self._there: dict[str, tuple[int, int]] = {}  # name in the folder -> size and modification time of the local file
        self._pushed = time.monotonic()
        if is_url(self.place):
            self._system, self._root = _open(self.place)

    def __enter__(self) -> Mirror:
        if self._system is not None:
            self._above = tempfile.mkdtemp(prefix="focalface-")
            self.path = Path(self._above) / (re.sub(r"[^\w-]", "", self._root.rpartition("/")[2]) or "run")
            self.path.mkdir()
            try:
                self._pull()
            except BaseException:
                shutil.rmtree(self._above, ignore_errors=True)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._system is None:
            return
        try:
            self.push(now=True)
        finally:
            shutil.rmtree(self._above, ignore_errors=True)
        if isinstance(error, FocalfaceError):  # name the place that the user knows
            raise type(error)(str(error).replace(str(self.path), self.place)) from error

    def _pull(self) -> None:
        assert self._system is not None
        try:
            for entry in _files(self._system, self._root):
                name = entry.path.lstrip("/")[len(self._root.strip("/")) + 1 :]  # some file systems begin paths with a slash
                if not _belongs(name, depth=2):
                    continue
                target = self.path / name
                target.parent.mkdir(exist_ok=True)
                with self._system.open_input_stream(entry.path) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, PIECE_BYTES)
                self._there[name] = _state(target)
        except OSError as error:
            raise SettingsError(f"cannot read {self.place}: {one_line(error)}") from error

    def push(self, now: bool = False) -> None:
        """Bring the copy up to date, unless that was done a moment ago.

        A commit is removed before any file that it stands for changes or is removed, and written when all of them are there. Each file
        is there whole or not at all.

        Raises:
            SettingsError: when the place cannot be written to.
        """
        if self._system is None or not (now or time.monotonic() - self._pushed >= PUSH_EVERY_S):
            return
        here = {
            name: _state(file)
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and _belongs(name := file.relative_to(self.path).as_posix())
        }
        changed = [name for name, state in here.items() if self._there.get(name) != state]
        gone = [name for name in self._there if name not in here]
        try:
            for name in changed:
                if _commits(name) and name in self._there:
                    self._remove(name)
            for name in sorted(changed, key=_commits):
                self._write(name)
                self._there[name] = here[name]
            for name in sorted(gone, key=_commits, reverse=True):  # after the new ones: the videos may only have been merged
                self._remove(name)
        except OSError as error:
            raise SettingsError(f"cannot write to {self.place}: {one_line(error)}") from error
        self._pushed = time.monotonic()

    def _remove(self, name: str) -> None:
        assert self._system is not None
        self._system.delete_file(f"{self._root}/{name}")
        del self._there[name]

    def _write(self, name: str) -> None:
        assert self._system is not None
        target = f"{self._root}/{name}"
        if self._system.type_name in {"s3", "gcs"}:  # an object appears only when it is whole
            self._copy(name, target)
            return
        self._system.create_dir(target.rpartition("/")[0], recursive=True)
        part = f"{self._root}/{_TEMPORARY}part"
        self._copy(name, part)
        if self._system.get_file_info(target).type != fs.FileType.NotFound:  # not every file system replaces a file
            self._system.delete_file(target)
        self._system.move(part, target)

    def _copy(self, name: str, target: str) -> None:
        assert self._system is not None
        # The whole file is read first: if reading failed later, closing the stream would create an object from a part of it.
        content = (self.path / name).read_bytes()
        with self._system.open_output_stream(target) as stream:
            stream.write(content)


def _belongs(name: str, depth: int = 3) -> bool:
    """Whether a name belongs to a run folder, down to some depth, and is not temporary: tables have two parts, what was made of them
    (`trends/figures/...`) up to three."""
    parts = PurePosixPath(name).parts
    return 0 < len(parts) <= depth and not any(part.startswith((_TEMPORARY, ".", "/")) for part in parts)


def _commits(name: str) -> bool:
    return name.startswith(f"{COMMITS}/")


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
