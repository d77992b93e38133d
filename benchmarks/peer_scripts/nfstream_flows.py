"""Count the flows of a capture with nfstream; a second argument turns off its deep packet inspection."""

import sys

from nfstream import NFStreamer

if __name__ == "__main__":
    options = {"n_dissections": 0} if len(sys.argv) > 2 else {}
    packets = flows = 0
    for flow in NFStreamer(source=sys.argv[1], **options):
        packets += flow.bidirectional_packets
        flows += 1
    print(f"packets={packets} flows={flows}")
