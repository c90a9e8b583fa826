#!/bin/sh
# Written by `dualpath fabric` for RoCE; docs/fabric.md explains every line.
# Queues of a compute NIC, by dcb of iproute2.
# Never tried on a real fabric: review it before you use it.
#
# As root on every node, for each compute NIC; what it sets is gone after a reboot:
#   sh nic-dcb.sh ens1 mlx5_0
#   sh nic-dcb.sh ens2 mlx5_1
set -eu
IFACE="${1:?name the network interface, for example ens1f0np0}"
RDMA="${2:?name the RDMA device, for example mlx5_0}"

# The host decides, not the NIC's firmware or its peer.
dcb dcbx set dev "$IFACE" host ieee
dcb ets set dev "$IFACE" willing off

# Priority of each DSCP: first all, then those in use. ConnectX trusts DSCPs once there is one.
dcb app replace dev "$IFACE" dscp-prio all:0 46:5 34:4 26:3

# Queue of each priority; shares of queues (ETS).
dcb ets set dev "$IFACE" prio-tc 0:0 1:0 2:0 3:3 4:4 5:5 6:0 7:0 tc-tsa all:strict 0:ets 3:ets 4:ets 5:ets tc-bw all:0 0:1 3:1 4:1 5:97

# PFC.
dcb pfc set dev "$IFACE" prio-pfc all:off 3:on 4:on 5:on

# Pausing the whole link and PFC exclude each other.
ethtool -A "$IFACE" rx off tx off

# Connections by RDMA-CM that name no class go as kv_cache, so that no stranger enters another queue.
# (cma_roce_tos is of NVIDIA's driver package. Leave /sys/class/infiniband/*/tc/1/traffic_class unset: it would
# put every queue pair of the device into one class, whatever env-*.sh say.)
if command -v cma_roce_tos >/dev/null; then cma_roce_tos -d "$RDMA" -t 106; fi
