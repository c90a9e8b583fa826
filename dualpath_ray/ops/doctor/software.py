"""Libraries, transports and Ray: what is here, and what is missing for what."""

import os
import socket
from importlib.util import find_spec

from dualpath_ray.base.nixl_agent import NixlMissingError, make_agent
from dualpath_ray.engine.device import num_cuda_devices
from dualpath_ray.ops.doctor.check import Check, Level
from dualpath_ray.ops.versions import versions
from dualpath_ray.transport.load import built_in_transports

_CONNECT_S = 5


def transport_checks(wanted: str) -> list[Check]:
    """Args: wanted: the one that the configuration names."""
    nixl, gpu = missing_nixl(), None if num_cuda_devices() else "there is no GPU"
    missing = {"nixl": nixl, "rdt": nixl, "rdt_cuda_ipc": gpu}
    checks = []
    for name in built_in_transports():
        reason = missing.get(name)
        if reason is None:
            checks.append(Check(f"transport {name}", "available"))
        elif name == wanted:
            checks.append(Check(f"transport {name}", f"not available: {reason}", Level.ERROR, "use transport: auto"))
        else:  # where there is no GPU, nobody misses what needs one
            level = Level.OK if reason is gpu else Level.WARNING
            checks.append(Check(f"transport {name}", f"not available: {reason}", level))
    return checks


def missing_nixl() -> str | None:
    """None when an agent of NIXL comes up here, else why not."""
    try:
        make_agent("doctor", "UCX")
    except NixlMissingError as error:
        return str(error)
    return None


def gpu_software_checks(num_gpus: int, wants_cuda: bool) -> list[Check]:
    """Torch, and CuPy where there is a GPU to use it on.

    Args: num_gpus: that PCIe shows; wants_cuda: whether the configuration's engines run on them.
    """
    import torch  # takes a second

    name = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        first = torch.cuda.get_device_name(0)
        checks = [Check("torch", f"{name}, {torch.cuda.device_count()} CUDA devices, the first {first}")]
        return [*checks, _cupy_check(), _flashinfer_check()]
    if wants_cuda:
        remedy = "use engine.device: cpu, or install a driver and a torch for CUDA"
        return [Check("torch", f"{name} finds no CUDA device, but engine.device is cuda", Level.ERROR, remedy)]
    if num_gpus:
        remedy = "install a driver and a torch for CUDA"
        return [Check("torch", f"{name} finds no CUDA device, but PCIe shows {num_gpus}", Level.WARNING, remedy)]
    return [Check("torch", f"{name}, no CUDA device: engines run on the CPU")]


def _flashinfer_check() -> Check:
    here = find_spec("flashinfer") is not None
    return Check("FlashInfer", "installed: prefills use it where it is faster" if here else "not installed, not needed")


def _cupy_check() -> Check:
    if find_spec("cupy") is None:
        remedy = "install dualpath-ray[gpu-cu12] or [gpu-cu13]"
        return Check("CuPy", "not installed: small blocks cannot be copied by kernels", Level.WARNING, remedy)
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # of the driver, of a library that does not fit it, or of the import
        return Check("CuPy", f"does not work ({error})", Level.WARNING, "install the build for this CUDA")
    return Check("CuPy", f"{cupy.__version__}, {count} devices")


def ray_check(address: str | None) -> Check:
    """Args: address: host:port of a cluster; None takes RAY_ADDRESS."""
    version = versions().get("ray")
    if version is None:
        return Check("Ray", "not installed", Level.ERROR, "install it: pip install 'ray[default]'")
    wanted = address or os.environ.get("RAY_ADDRESS", "")
    host, colon, port = wanted.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return Check("Ray", f"{version}; no cluster is named, so commands start a private one")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        remedy = "start it, name a running one, or leave the address out"
        return Check("Ray", f"{version}; nothing answers at {wanted} ({error.strerror or error})", Level.ERROR, remedy)
    return Check("Ray", f"{version}; a cluster answers at {wanted}")
