"""Names of IP protocols, as label files and flow exporters spell them."""

from __future__ import annotations

#: IANA's short names in order of their numbers, 0 to 143; a blank in a name is written as a hyphen.
_IANA = (
    "hopopt icmp igmp ggp ipv4 st tcp cbt egp igp bbn-rcc-mon nvp-ii pup argus emcon xnet chaos udp mux dcn-meas hmp "
    "prm xns-idp trunk-1 trunk-2 leaf-1 leaf-2 rdp irtp iso-tp4 netblt mfe-nsp merit-inp dccp 3pc idpr xtp ddp "
    "idpr-cmtp tp++ il ipv6 sdrp ipv6-route ipv6-frag idrp rsvp gre dsr bna esp ah i-nlsp swipe narp mobile tlsp skip "
    "ipv6-icmp ipv6-nonxt ipv6-opts any-host cftp any-network sat-expak kryptolan rvd ippc any-fs sat-mon visa ipcv "
    "cpnx cphb wsn pvp br-sat-mon sun-nd wb-mon wb-expak iso-ip vmtp secure-vmtp vines iptm nsfnet-igp dgp tcf eigrp "
    "ospfigp sprite-rpc larp mtp ax.25 ipip micp scc-sp etherip encap any-encryption gmtp ifmp pnni pim aris scps qnx "
    "a/n ipcomp snp compaq-peer ipx-in-ip vrrp pgm any-0-hop l2tp ddx iatp stp srp uti smp sm ptp isis-over-ipv4 fire "
    "crtp crudp sscopmce iplt sps pipe sctp fc rsvp-e2e-ignore mobility-header udplite mpls-in-ip manet hip shim6 "
    "wesp rohc ethernet"
)

#: Any protocol other than TCP and UDP: CICFlowMeter's 0, Argus' "unas" (a number not assigned).
OTHER = 256

#: Not an IP protocol, for example ARP: no flow has it.
NOT_IP = 257

#: Protocol numbers whose packets have ports.
PORTED = frozenset((6, 17, 33, 132, 136))

#: Lower-case name -> number.
NUMBERS = {name: number for number, name in enumerate(_IANA.split())}
NUMBERS |= {
    # other spellings, most of them those of Argus, with which UNSW-NB15, CTU-13 and Bot-IoT were made
    **{"ipip": 4, "ipnip": 4, "ip-in-ip": 4, "st2": 5, "bbn-rcc": 10, "nvp": 11, "dcn": 19, "sep": 33, "mhrp": 48},
    **{"icmp6": 58, "icmpv6": 58, "ipv6-no": 59, "ttp": 84, "ospf": 89},
    **{"aes-sp3-d": 96, "pri-enc": 99, "ipx-n-ip": 111, "zero": 114, "isis": 124, "sccopmce": 128, "udp-lite": 136},
    # carried in UDP; Argus has names for them
    **dict.fromkeys(("rtp", "rtcp", "udt"), 17),
    **dict.fromkeys(("hopopt", "ip", "ib", "unas", "unassigned"), OTHER),
    **dict.fromkeys(("arp", "rarp", "llc", "ipx", "ipx/spx", "ether", "lldp", "eapol", "man", "loop"), NOT_IP),
}
