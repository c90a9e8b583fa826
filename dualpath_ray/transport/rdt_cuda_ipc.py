"""Ray Direct Transport between traffic managers that share a GPU, over CUDA IPC. For who asks for it by name.

The node that a copy comes from gathers its ranges into a tensor on the GPU, which the other one maps: a handle goes between
them, whatever the size. As pools are in DRAM, a byte crosses PCIe twice.
"""

import ray
import torch

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.transport.rdt import RdtTransport


class CudaIpcTransport(RdtTransport):
    """The traffic managers' actors must have a share of one GPU, from Ray."""

    name = "rdt_cuda_ipc"
    channel = "cuda_ipc"

    def _register(self) -> None:
        """Raises: ConfigError naming ``transport`` when there is no GPU."""
        if not torch.cuda.is_available() or not ray.get_gpu_ids():
            raise ConfigError(
                f"transport: {self._node} cannot use {self.name}, whose bytes cross a GPU: it has none; set engine.device: cuda, "
                "or use transport: auto"
            )

    def _sent(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        gathered = torch.cat(views).to("cuda")
        torch.cuda.synchronize()
        return [gathered]

    def _receive(self, ref: "ray.ObjectRef[list[torch.Tensor]]", views: list[torch.Tensor]) -> None:
        (gathered,) = ray.get(ref)
        for view, part in zip(views, gathered.split([len(view) for view in views]), strict=True):
            view.copy_(part)
