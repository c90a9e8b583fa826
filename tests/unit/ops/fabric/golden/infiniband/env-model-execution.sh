# Written by `dualpath fabric` for InfiniBand; docs/fabric.md explains every line.
# Environment that makes NCCL send as model_execution.
# Never tried on a real fabric: review it before you use it.
#
# Source it before the process starts, or put its variables into Ray's runtime_env: . ./env-model-execution.sh

# Service level: lane 0. Unset, it is 0, whoever's lane that is.
export NCCL_IB_SL=0

# The compute NICs.
export NCCL_IB_HCA="=mlx5_0:1,mlx5_1:1"
