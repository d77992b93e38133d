"""Label files in the forms of IDS data sets."""

import copy
from typing import Any

NS = 1_000_000_000
T = 1_499_244_120  # 2017-07-05T08:42:00 UTC
A, B = "172.16.0.1", "192.168.10.50"
FLOW = (A, 52_108, B, 80, 6)

CIC_2017 = (
    "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration,"
    " Total Fwd Packets, Fwd Header Length, Fwd Header Length, Label\n"
)
CIC_2018 = "Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Tot Bwd Pkts,Label\n"
CTU_13 = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
BOT_IOT = "pkSeqID,stime,flgs,proto,saddr,sport,daddr,dport,pkts,ltime,dur,attack,category,subcategory\n"
TON_IOT = "ts,src_ip,src_port,dst_ip,dst_port,proto,service,duration,conn_state,label,type\n"
NETFLOW = "IPV4_SRC_ADDR,L4_SRC_PORT,IPV4_DST_ADDR,L4_DST_PORT,PROTOCOL,FLOW_DURATION_MILLISECONDS,Label,Attack\n"
NETFLOW_3 = "FLOW_START_MILLISECONDS,FLOW_END_MILLISECONDS," + NETFLOW
CIDDS = "Date first seen,Duration,Proto,Src IP Addr,Src Pt,Dst IP Addr,Dst Pt,class,attackType\n"


def unsw(src: Any, sport: Any, dst: Any, dport: Any, proto: Any, start: Any, end: Any, category: Any, flag: Any) -> Any:
    """Make a row of UNSW-NB15's large files: 49 columns, and no header line."""
    cells = ["0"] * 49
    cells[:5] = src, sport, dst, dport, proto
    cells[28:30] = start, end
    cells[47:] = category, flag
    return ",".join(cells) + "\n"


def at(table: Any, seconds: Any = T, duration: Any = 0.0, flow: Any = FLOW) -> Any:
    return class_of(table, *flow, round(seconds * NS), round(duration * NS))


def class_of(table: Any, *flow: Any) -> Any:
    """Return the class of a single flow, which the table's warnings do not count."""
    return copy.deepcopy(table).classes_of(*([value] for value in flow))[0]


DATA_SETS = {
    "CIC-IDS2017, seconds": (
        CIC_2017 + f"{A}-{B}-52108-80-6,{A},52108,{B},80,6,05/07/2017 08:42:00,1000000,3,60,60,DoS Hulk\n",
        {"zone": "America/Halifax"},
        T + 3 * 3600,
        "DoS Hulk",
    ),
    "CIC-IDS2017, minutes and the afternoon": (
        CIC_2017 + f"{A}-{B}-52108-80-6,{A},52108,{B},80,6,5/7/2017 2:42,1000000,3,60,60,DoS Hulk\n"
        f"{A}-{B}-52108-81-6,{A},52108,{B},81,6,5/7/2017 12:42,1000000,3,60,60,BENIGN\n",
        {"zone": "-03:00"},
        T + 9 * 3600 + 30,
        "DoS Hulk",
    ),
    "CIC-IDS2017, corrected": (
        "id,Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Label,Attempted Category\n"
        f"1,{A}-{B}-52108-80-6,{A},52108,{B},80,6,2017-07-05 08:42:00.250000,1000000,DoS Hulk - Attempted,0\n",
        {},
        T + 1.2,
        "DoS Hulk - Attempted",
    ),
    "CSE-CIC-IDS2018 without addresses": (
        CIC_2018 + "80,6,05/07/2017 08:42:00,1000000,3,4,DDoS attacks-LOIC-HTTP\n" + CIC_2018 + "80,6,05/07/2017 "
        "01:00:00,1000000,3,4,Benign\n",
        {},
        T,
        "DDoS attacks-LOIC-HTTP",
    ),
    "CSE-CIC-IDS2018 with addresses": (
        CIC_2018.replace("Dst Port", "Flow ID,Src IP,Src Port,Dst IP,Dst Port")
        + f"{B}-{A}-80-52108-6,{B},80,{A},52108,6,05/07/2017 08:42:00,1000000,3,4,Bot\n",
        {},
        T,
        "Bot",
    ),
    "UNSW-NB15": (
        "\ufeff"
        + unsw(A, "52108", B, "80", "tcp", str(T), str(T + 2), " Fuzzers ", "1")
        + unsw(A, "52108", B, "81", "tcp", str(T), str(T + 2), "", "0"),
        {},
        T + 2.5,
        "Fuzzers",
    ),
    "UNSW-NB15, named, benign": (
        "srcip,sport,dstip,dsport,proto,Stime,Ltime,attack_cat,Label\n"
        f"{A},52108,{B},80,tcp,{T},{T + 2},,0\n{A},52108,{B},81,tcp,{T},{T + 2},Worms,1\n",
        {},
        T,
        "Normal",
    ),
    "CTU-13": (
        CTU_13 + "2017/07/05 10:41:59.047277,1.026539,tcp,"
        f"{A},52108,   ->,{B},80,S_RA,0,0,4,276,156,flow=From-Botnet-V42-TCP-Attempt\n"
        f"2017/07/05 10:41:59.047277,0.1,arp,{A},,  who,{B},,CON,,,2,120,60,flow=Background\n"
        "2017/07/05 10:41:59.047277,0.1,llc,02:00:00:00:00:01,,   ->,02:00:00:00:00:02,,INT,,,2,120,60,flow=X\n"
        f"2017/07/05 10:41:59.047277,0.1,icmp,{A},0x0303,   ->,{B},0x20205321,URP,0,,1,120,60,flow=Background-ICMP\n",
        {"zone": "Europe/Prague"},
        T,
        "flow=From-Botnet-V42-TCP-Attempt",
    ),
    "Bot-IoT": (
        BOT_IOT + f"1,{T}.0,e,arp,192.168.100.1,,192.168.100.3,,4,{T}.5,0.5,0,Normal,Normal\n"
        f"2,{T}.000001,e,tcp,{A},52108,{B},80,4,{T + 1}.5,1.499999,1,DDoS,HTTP\n",
        {},
        T + 1.5,
        "DDoS",
    ),
    "Bot-IoT, another column": (
        BOT_IOT + f"2,{T}.000001,e,tcp,{A},52108,{B},80,4,{T + 1}.5,1.499999,1,DDoS,HTTP\n",
        {"column": "Sub-Category"},
        T + 1.5,
        "HTTP",
    ),
    "ToN-IoT": (TON_IOT + f"{T},{A},52108,{B},80,tcp,-,2.5,OTH,1,backdoor\n", {}, T + 3.4, "backdoor"),
    "NetFlow": (NETFLOW + f"{A},52108,{B},80,6,1500,1,scanning\n", {}, 0, "scanning"),
    "NetFlow 3": (NETFLOW_3 + f"{T}250,{T + 1}250,{A},52108,{B},80,6,1000,0,Benign\n", {}, T + 1.2505, "Benign"),
    "CIDDS": (
        CIDDS + f"2017-07-05 10:42:00.100,0.042,TCP  ,    {A},52108,{B},80.0,attacker,dos\n",
        {"zone": "Europe/Berlin"},
        T + 0.12,
        "attacker",
    ),
}
