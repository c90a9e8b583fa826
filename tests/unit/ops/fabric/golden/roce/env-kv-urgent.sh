# Written by `dualpath fabric` for RoCE; docs/fabric.md explains every line.
# Environment that makes UCX, and NIXL over it, send as kv_urgent.
# Never tried on a real fabric: review it before you use it.
#
# Source it before the process starts, or put its variables into Ray's runtime_env: . ./env-kv-urgent.sh

# DSCP 34 x 4 + 2 (congestion may be marked): priority and queue 4.
export UCX_IB_TRAFFIC_CLASS=138

# The compute NICs.
export UCX_NET_DEVICES="mlx5_0:1,mlx5_1:1"

# NIXL has no lane of its own: UCX reads these while a backend is made. Two classes in one process are two agents,
# each with an option of its backend UCX in place of the variable, which would win where it is set:
#   agent.create_backend("UCX", {"engine_config": "IB_TRAFFIC_CLASS=138"})
# dualpath_ray's own agents need neither where fabric.kind is set: they take the lanes from the configuration.
