#!/bin/sh
# Written by `dualpath fabric` for RoCE; docs/fabric.md explains every line.
# Queues of a compute NIC, by dcb of iproute2.
# Never tried on a real fabric: review it before you use it.
#
# As root on every node, for each compute NIC; what it sets is gone after a reboot:
#   sh nic-dcb.sh ens1 ens1
#   sh nic-dcb.sh mlx5_1 mlx5_1
# (ens1, mlx5_1: as in node.cnic; write the network interface, then the RDMA device.)
# Changing PFC or buffers may take the link down for a moment: drain the node first.
set -eu
IFACE="${1:?name the network interface, for example ens1f0np0}"
RDMA="${2:?name the RDMA device, for example mlx5_0}"

# The host decides, not the NIC's firmware with its peer (willing off, below).
dcb dcbx set dev "$IFACE" host ieee

# Priority of each DSCP, one by one: dcb would add all:0 to them, not replace it.
# ConnectX goes by DSCP as soon as there is one such entry.
# Control packets (48, 56) have a queue of their own: congestion notices (CNPs), by which a receiver slows
# senders down, are of no use once they wait behind TCP. The DSCP and priority with which NICs send CNPs are set
# elsewhere, on ConnectX with NVIDIA's driver package in /sys/class/net/INTERFACE/ecn/roce_np/cnp_dscp and
# cnp_802p_prio (as a rule 48 and 6). Look there: they must be one of these DSCPs, and 6.
dcb app replace dev "$IFACE" dscp-prio 0:0 1:0 2:0 3:0 4:0 5:0 6:0 7:0 8:0 9:0 10:0 11:0 12:0 13:0 14:0 15:0 16:0 17:0 18:0 19:0 20:0 21:0 22:0 23:0 24:0 25:0 26:3 27:0 28:0 29:0 30:0 31:0 32:0 33:0 34:4 35:0 36:0 37:0 38:0 39:0 40:0 41:0 42:0 43:0 44:0 45:0 46:5 47:0 48:6 49:0 50:0 51:0 52:0 53:0 54:0 55:0 56:6 57:0 58:0 59:0 60:0 61:0 62:0 63:0

# Queue of each priority, and kind and share of each queue (ETS).
# Queue 6, of control packets, is strict: it goes before all others.
# Queues that no priority takes are strict, for a queue without a share must be.
dcb ets set dev "$IFACE" willing off prio-tc 0:0 1:0 2:0 3:3 4:4 5:5 6:6 7:0 tc-tsa all:strict 0:ets 3:ets 4:ets 5:ets 6:strict tc-bw all:0 0:1 3:1 4:1 5:97

# Pausing the whole link and PFC exclude each other, so this comes before PFC.
# (Older ethtool exits with 78 when nothing was to change.)
ethtool -A "$IFACE" rx off tx off || [ "$?" -eq 78 ]

# PFC.
dcb pfc set dev "$IFACE" prio-pfc all:off 3:on 4:on 5:on

# Connections by RDMA-CM that name no class go as kv_cache, so that no stranger enters another queue.
# (cma_roce_tos is of NVIDIA's driver package. Leave /sys/class/infiniband/*/tc/1/traffic_class unset: it would
# put every queue pair of the device into one class, whatever env-*.sh say.)
if command -v cma_roce_tos >/dev/null; then cma_roce_tos -d "$RDMA" -t 106; fi
