"""The hardware of one node, as data: what `simulate` and `plan` count with.

Packaged files: hopper, ampere, blackwell. A file of one's own has the same keys.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import bytes_per_s, parse_bytes_per_s, parse_flops
from dualpath_ray.base.yaml_file import keys_are, problems, read_mapping
from dualpath_ray.config.cluster import Bps, Bytes, ClusterConfig
from dualpath_ray.config.section import Section

BytesPerS = Annotated[PositiveInt, BeforeValidator(parse_bytes_per_s)]
Flops = Annotated[PositiveInt, BeforeValidator(parse_flops)]

_FILES = Path(__file__).parent / "hardware_files"
_OVERRIDING = ("gpus", "cnic_bps", "snic_bps")  # keys of a cluster's node that stand for the hardware's own


class DenseFlops(Section):
    """FLOPs per second of one GPU's matrix units, without sparsity, by the type that they multiply."""

    bf16: Flops = Field(description="FLOPs per second in BF16.")
    fp8: Flops | None = Field(None, description="FLOPs per second in FP8. Unset: the GPU has no FP8.")
    fp4: Flops | None = Field(None, description="FLOPs per second in FP4. Unset: the GPU has no FP4.")

    @property
    def best(self) -> int:
        """FLOPs per second in the fastest type."""
        return max(self.bf16, self.fp8 or 0, self.fp4 or 0)


class HardwareConfig(Section):
    """One node: its GPUs, each with a compute NIC, one storage NIC and its DRAM."""

    name: str = Field(description="Name of this hardware, for tables.")
    gpus: PositiveInt = Field(description="GPUs of a node (g); each has a compute NIC of its own.")
    hbm_bytes: Bytes = Field(description="Memory of one GPU.")
    hbm_bytes_per_s: BytesPerS = Field(description="Bandwidth of one GPU's memory.")
    flops: DenseFlops = Field(description="Dense FLOPs per second of one GPU, by type.")
    cnic_bps: Bps = Field(description="Rate of each compute NIC per direction (B).")
    snic_bps: Bps = Field(description="Rate of the node's storage NIC per direction (s x B).")
    dram_bytes_per_s: BytesPerS = Field(description="DRAM bandwidth of a node, reads and writes together (M).")
    nvlink_bytes_per_s: BytesPerS | None = Field(None, description="NVLink of one GPU per direction. Unset: none.")

    @model_validator(mode="after")
    def _storage_below_compute(self) -> Self:
        if self.snic_bps >= self.gpus * self.cnic_bps:
            raise ValueError("snic_bps must stay below gpus * cnic_bps (section 4.2 needs s < g)")
        return self


def packaged_hardware() -> list[str]:
    """Names that ``load_hardware`` knows without a file."""
    return sorted(path.stem for path in _FILES.glob("*.yaml"))


def load_hardware(name_or_path: str) -> HardwareConfig:
    """Packaged hardware by name, or a file of one's own.

    Raises: ConfigError in one sentence that names the file and the key.
    """
    path = Path(name_or_path)
    known = packaged_hardware()
    if name_or_path in known:
        path = _FILES / f"{name_or_path}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"hardware: there is no {name_or_path!r}; write {', '.join(known)}, or the path of a YAML file"
        )
    data = read_mapping(path, f"name a YAML file, or {', '.join(known)}", "gpus: 8")
    return _checked(data, str(path))


def hardware_of(config: ClusterConfig, source: str) -> HardwareConfig:
    """A node of this cluster: its ``hardware``, with the values that the cluster's ``node`` gives in their place.

    Args:   source: names the cluster's file in errors.
    Raises: ConfigError when the cluster names no hardware, or the two do not fit together.
    """
    if config.hardware is None:
        raise ConfigError(
            f"{source}: hardware: this key is required here; write {', '.join(packaged_hardware())}, or a YAML file"
        )
    try:
        hardware = load_hardware(config.hardware)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    given = {key: getattr(config.node, key) for key in _OVERRIDING if key in config.node.model_fields_set}
    node = {key: value for key, value in given.items() if value is not None}
    return _checked({**hardware.model_dump(), **node}, f"{source}: node and hardware {config.hardware}")


def io_per_compute_ratio(old: HardwareConfig, new: HardwareConfig) -> float:
    """How many times more NIC bytes per FLOP ``old`` has than ``new`` (section 2: 14.4 from Ampere to Blackwell).

    One GPU with its compute NIC, each generation in its fastest dense type: BF16 on Ampere, FP4 on Blackwell.
    """
    return _nic_bytes_per_flop(old) / _nic_bytes_per_flop(new)


def _nic_bytes_per_flop(hardware: HardwareConfig) -> float:
    return bytes_per_s(hardware.cnic_bps) / hardware.flops.best


def _checked(data: dict[str, object], source: str) -> HardwareConfig:
    try:
        return HardwareConfig.model_validate(data)
    except ValidationError as error:
        found = problems(error, "hardware", keys_are(HardwareConfig.model_fields))
        raise ConfigError(f"{source}: {found}") from error
