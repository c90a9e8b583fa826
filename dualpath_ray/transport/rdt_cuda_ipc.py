"""Ray Direct Transport between traffic managers that share a GPU, over CUDA IPC. For who asks for it by name.

The node that a copy comes from gathers its ranges into a tensor on the GPU, which the other one maps: a handle goes between
them, whatever the size. As pools are in DRAM, a byte crosses PCIe twice.
"""

import ray
import torch

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.rdt import RdtTransport


class CudaIpcTransport(RdtTransport):
    """The traffic managers' actors must have a share of one GPU, from Ray."""

    name = "rdt_cuda_ipc"
    channel = "cuda_ipc"

    def describe(self) -> bytes:
        """Raises: ConfigError naming ``transport`` when there is no GPU."""
        return Place.of(self._node, self._segment, {"gpu": self._gpu()}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        """Raises: ConfigError naming both ends when they have no GPU in common, as well."""
        mine, theirs = self._gpu(), Place.unpack(description).more["gpu"]
        if mine != theirs:
            raise ConfigError(
                f"transport: {self.name} needs one GPU for all nodes, but {self._node} is on {mine} and {peer} on {theirs}; put "
                "them on one with engine.gpus, or use transport: auto"
            )
        super().connect(peer, description)

    def _gpu(self) -> str:
        """Which GPU, of which Ray node."""
        gpus = ray.get_gpu_ids()
        if not torch.cuda.is_available() or not gpus:
            raise ConfigError(
                f"transport: {self._node} cannot use {self.name}, whose bytes cross a GPU: it has none; set engine.device: cuda, "
                "or use transport: auto"
            )
        return f"GPU {gpus[0]} of Ray node {ray.get_runtime_context().get_node_id()[:8]}"

    def _register(self) -> None:
        """Nothing: the pool is in DRAM, and what is sent is on the GPU."""

    def _sent(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        gathered = torch.empty(sum(len(view) for view in views), dtype=torch.uint8, device="cuda")
        for part, view in zip(gathered.split([len(view) for view in views]), views, strict=True):
            part.copy_(view)
        return [gathered]

    def _receive(self, ref: "ray.ObjectRef[list[torch.Tensor]]", views: list[torch.Tensor]) -> None:
        (gathered,) = ray.get(ref)
        for view, part in zip(views, gathered.split([len(view) for view in views]), strict=True):
            view.copy_(part)
