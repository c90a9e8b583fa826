"""Numbers printed in the paper (arXiv 2602.21548), as its retelling gives them. Nothing here is measured by us."""

TABLE_2 = {  # MaxLen -> (turns, append, gen, total, mean context), means in tokens
    "table2-32k": (60, 608, 148, 28639, 17183),
    "table2-48k": (106, 474, 172, 42607, 25120),
    "table2-64k": (157, 429, 176, 55958, 32721),
}
JCT_2P4D_S = 3167.0  # 2K agents offline
JCT_48P96D_S = 3201.0  # 48K agents offline
ONLINE_2P4D_APS, ONLINE_2P4D = 0.4, {"ttft_s": 1.739, "ttst_s": 0.228, "tpot_s": 0.039}
ONLINE_44P88D_APS, ONLINE_44P88D = 8.8, {"ttft_s": 1.847, "ttst_s": 0.194, "tpot_s": 0.036}
SPEEDUP_660B, SPEEDUP_27B = 1.87, 1.78  # offline over Basic, "up to"
APPEND_SPEEDUPS = (1.82, 1.99)  # lowest and highest over append scales
PD_MEAN, PD_MAX = 1.64, 2.46  # speedups over Basic of DS 27B's P/D ratios
SUSTAINED_660B, SUSTAINED_27B, SUSTAINED_MEAN = 2.25, 1.67, 1.96  # arrival rate over Basic's
ABLATION = {"prefill_only": -0.1721, "round_robin": -0.3819, "scheduled": -0.4562}  # JCT against Basic
SNIC_BALANCE = {"round_robin": 1.53, "scheduled": 1.18}  # max / mean
ATTENTION_BALANCE = 1.06  # max / mean of attention time over engines, first 5 % of the run
IO_PER_COMPUTE = 14.4  # Ampere over Blackwell
