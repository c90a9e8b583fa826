# Written by `dualpath fabric` for RoCE; docs/fabric.md explains every line.
# Environment that makes NCCL send as model_execution.
# Never tried on a real fabric: review it before you use it.
#
# Source it before the process starts, or put its variables into Ray's runtime_env: . ./env-model-execution.sh

# DSCP 46 x 4 + 2 (congestion may be marked): priority and queue 5.
export NCCL_IB_TC=186
# Its small control messages take the same one, unless NCCL_IB_FIFO_TC names another.

# The compute NICs.
# As in node.cnic; write the RDMA device and port, e.g. mlx5_0:1, for ens1, mlx5_1.
export NCCL_IB_HCA="=ens1,mlx5_1"
