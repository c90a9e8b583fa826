"""A path policy of one's own: ``scheduler.read_path: dualpath_ray.examples.always_de:always_de``."""

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.read_side import ReadSideInputs


def always_de(inputs: ReadSideInputs) -> tuple[ReadPath, str]:
    """Read everything on the decode side."""
    return ReadPath.DE, f"always the decode side ({inputs.decode.node_id})"
