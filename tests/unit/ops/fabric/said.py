"""What tools print. smpquery's is from a simulated subnet (ibsim) whose opensm had the written files; the others' is
written from the documentation and the sources of the tools: none was printed by real hardware."""

SL2VL = """\
# SL2VL table: Lid 1
#                 SL: | 0| 1| 2| 3| 4| 5| 6| 7| 8| 9|10|11|12|13|14|15|
ports: in  0, out  0: | 0| 1| 2| 3| 0| 1| 2| 3| 0| 1| 2| 3| 0| 1| 2| 3|
"""

VLARB = """\
# VLArbitration tables: Lid 1 port 1 LowCap 8 HighCap 8
# Low priority VL Arbitration Table:
VL    : |0x0 |0x1 |0x2 |0x3 |0x0 |0x0 |0x0 |0x0 |
WEIGHT: |0xC0|0xC0|0x40|0xC0|0x0 |0x0 |0x0 |0x0 |
# High priority VL Arbitration Table:
VL    : |0x0 |0x1 |0x2 |0x3 |0x0 |0x0 |0x0 |0x0 |
WEIGHT: |0xC0|0xC0|0x0 |0xC0|0x0 |0x0 |0x0 |0x0 |
"""

PORTINFO = """\
# Port info: Lid 1 port 1
Lid:.............................1
LinkState:.......................Active
VLCap:...........................VL0-7
VLHighLimit:.....................240
VLArbHighCap:....................8
VLArbLowCap:.....................8
OperVLs:.........................VL0-7
"""

SL2VL_BEFORE = """\
# SL2VL table: Lid 1
#                 SL: | 0| 1| 2| 3| 4| 5| 6| 7| 8| 9|10|11|12|13|14|15|
ports: in  0, out  0: | 0| 1| 2| 3| 4| 5| 6| 7| 8| 9|10|11|12|13|14| 7|
"""

VLARB_BEFORE = """\
# VLArbitration tables: Lid 1 port 1 LowCap 8 HighCap 8
# Low priority VL Arbitration Table:
VL    : |0x0 |0x1 |0x2 |0x3 |0x4 |0x5 |0x6 |0x7 |
WEIGHT: |0x0 |0x4 |0x4 |0x4 |0x4 |0x4 |0x4 |0x4 |
# High priority VL Arbitration Table:
VL    : |0x0 |0x1 |0x2 |0x3 |0x4 |0x5 |0x6 |0x7 |
WEIGHT: |0x4 |0x0 |0x0 |0x0 |0x0 |0x0 |0x0 |0x0 |
"""

_OTHERS = [f"{dscp:02}" for dscp in range(64) if dscp not in (26, 34, 46, 48, 56)]
_EIGHT_A_LINE = "\n".join(f"\tprio:0 dscp:{','.join(_OTHERS[at : at + 8])}," for at in range(0, len(_OTHERS), 8))

MLNX_QOS = f"""\
DCBX mode: OS controlled
Priority trust state: dscp
dscp2prio mapping:
{_EIGHT_A_LINE}
\tprio:3 dscp:26,
\tprio:4 dscp:34,
\tprio:5 dscp:46,
\tprio:6 dscp:48,56,
default priority:
Receive buffer size (bytes): 130944,130944,0,0,0,0,0,0,max_buffer_size=262016
Cable len: 7
PFC configuration:
\tpriority    0   1   2   3   4   5   6   7
\tenabled     0   0   0   1   1   1   0   0
\tbuffer      0   0   0   1   1   1   0   0
tc: 0 ratelimit: unlimited, tsa: ets, bw: 1%
\t priority:  0
\t priority:  1
\t priority:  2
\t priority:  7
tc: 3 ratelimit: unlimited, tsa: ets, bw: 1%
\t priority:  3
tc: 4 ratelimit: unlimited, tsa: ets, bw: 1%
\t priority:  4
tc: 5 ratelimit: unlimited, tsa: ets, bw: 97%
\t priority:  5
tc: 6 ratelimit: unlimited, tsa: strict
\t priority:  6
"""

MLNX_QOS_BEFORE = """\
DCBX mode: OS controlled
Priority trust state: pcp
default priority:
Cable len: 7
PFC configuration:
\tpriority    0   1   2   3   4   5   6   7
\tenabled     0   0   0   0   0   0   0   0
\tbuffer      0   0   0   0   0   0   0   0
tc: 0 ratelimit: unlimited, tsa: vendor
\t priority:  1
tc: 1 ratelimit: unlimited, tsa: vendor
\t priority:  0
tc: 2 ratelimit: unlimited, tsa: vendor
\t priority:  2
tc: 3 ratelimit: unlimited, tsa: vendor
\t priority:  3
tc: 4 ratelimit: unlimited, tsa: vendor
\t priority:  4
tc: 5 ratelimit: unlimited, tsa: vendor
\t priority:  5
tc: 6 ratelimit: unlimited, tsa: vendor
\t priority:  6
tc: 7 ratelimit: unlimited, tsa: vendor
\t priority:  7
"""

DCB_ETS = """\
willing off ets-cap 8 cbs off
tc-bw 0:1 1:0 2:0 3:1 4:1 5:97 6:0 7:0
pg-bw 0:0 1:0 2:0 3:0 4:0 5:0 6:0 7:0
tc-tsa 0:ets 1:strict 2:strict 3:ets 4:ets 5:ets 6:strict 7:strict
prio-tc 0:0 1:0 2:0 3:3 4:4 5:5 6:6 7:0
reco-tc-bw 0:0 1:0 2:0 3:0 4:0 5:0 6:0 7:0
reco-tc-tsa 0:strict 1:strict 2:strict 3:strict 4:strict 5:strict 6:strict 7:strict
reco-prio-tc 0:0 1:0 2:0 3:0 4:0 5:0 6:0 7:0
"""

DCB_PFC = """\
pfc-cap 8 macsec-bypass off delay 0
prio-pfc 0:off 1:off 2:off 3:on 4:on 5:on 6:off 7:off
"""

_PRIORITIES = [{26: 3, 34: 4, 46: 5, 48: 6, 56: 6}.get(dscp, 0) for dscp in range(64)]
DCB_APP = f"dscp-prio {' '.join(f'{dscp}:{priority}' for dscp, priority in enumerate(_PRIORITIES))}\n"

PAUSE_OFF = """\
Pause parameters for ens1:
Autonegotiate:\toff
RX:\t\toff
TX:\t\toff

"""
