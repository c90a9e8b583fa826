#!/bin/sh
# Written by `dualpath fabric` for RoCE; docs/fabric.md explains every line.
# Queues of a compute NIC, by mlnx_qos of NVIDIA's driver package.
# Never tried on a real fabric: review it before you use it.
#
# As root on every node, for each compute NIC; what it sets is gone after a reboot:
#   sh nic-mlnx_qos.sh ens1 ens1
#   sh nic-mlnx_qos.sh mlx5_1 mlx5_1
# (ens1, mlx5_1: as in node.cnic; write the network interface, then the RDMA device.)
# Changing PFC or buffers may take the link down for a moment: drain the node first.
set -eu
IFACE="${1:?name the network interface, for example ens1f0np0}"
RDMA="${2:?name the RDMA device, for example mlx5_0}"

# The host decides, not the NIC's firmware with its peer.
mlnx_qos -i "$IFACE" --dcbx os

# The NIC goes by the DSCP of a packet, not by a VLAN's priority.
mlnx_qos -i "$IFACE" --trust dscp

# Priority of each DSCP: first those of no class, which by default come in blocks of eight.
# Control packets (48, 56) have a queue of their own: congestion notices (CNPs), by which a receiver slows
# senders down, are of no use once they wait behind TCP. The DSCP and priority with which NICs send CNPs are set
# elsewhere, on ConnectX with NVIDIA's driver package in /sys/class/net/INTERFACE/ecn/roce_np/cnp_dscp and
# cnp_802p_prio (as a rule 48 and 6). Look there: they must be one of these DSCPs, and 6.
for dscp in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 27 28 29 30 31 32 33 35 36 37 38 39 40 41 42 43 44 45 47 49 50 51 52 53 54 55 57 58 59 60 61 62 63; do mlnx_qos -i "$IFACE" --dscp2prio "set,$dscp,0"; done
mlnx_qos -i "$IFACE" --dscp2prio set,46,5
mlnx_qos -i "$IFACE" --dscp2prio set,34,4
mlnx_qos -i "$IFACE" --dscp2prio set,26,3
mlnx_qos -i "$IFACE" --dscp2prio set,48,6
mlnx_qos -i "$IFACE" --dscp2prio set,56,6

# Queue of each priority, and kind and share of each queue (ETS), from 0 to 7.
# Queue 6, of control packets, is strict: it goes before all others.
# Queues that no priority takes are strict, for a queue without a share must be.
mlnx_qos -i "$IFACE" --prio_tc 0,0,0,3,4,5,6,0 --tsa ets,strict,strict,ets,ets,ets,strict,strict --tcbw 1,0,0,1,1,97,0,0

# Pausing the whole link and PFC exclude each other, so this comes before PFC.
# (Older ethtool exits with 78 when nothing was to change.)
ethtool -A "$IFACE" rx off tx off || [ "$?" -eq 78 ]

# PFC of priorities 0 to 7.
mlnx_qos -i "$IFACE" --pfc 0,0,0,1,1,1,0,0

# Connections by RDMA-CM that name no class go as kv_cache, so that no stranger enters another queue.
# (cma_roce_tos is of NVIDIA's driver package. Leave /sys/class/infiniband/*/tc/1/traffic_class unset: it would
# put every queue pair of the device into one class, whatever env-*.sh say.)
if command -v cma_roce_tos >/dev/null; then cma_roce_tos -d "$RDMA" -t 106; fi
