# Written by `dualpath fabric` for InfiniBand; docs/fabric.md explains every line.
# Environment that makes UCX, and NIXL over it, send as kv_urgent.
# Never tried on a real fabric: review it before you use it.
#
# Source it before the process starts, or put its variables into Ray's runtime_env: . ./env-kv-urgent.sh

# Service level: lane 1. Unset, UCX chooses one, as a rule 0, whoever's lane that is.
export UCX_IB_SL=1

# UCX_NET_DEVICES: node.cnic is auto, so no device is named; name the compute NICs where there are others.

# NIXL has no lane of its own: UCX reads these while a backend is made. Two classes in one process are two agents,
# each with an option of its backend UCX in place of the variable, which would win where it is set:
#   agent.create_backend("UCX", {"engine_config": "IB_SL=1"})
# dualpath_ray's own agents need neither where fabric.kind is set: they take the lanes from the configuration.
