/* How fast flows can be counted at all: libpcap, a hash table of 5-tuples, packets and bytes each way.
 *
 *     gcc -O2 -o pcaploop pcaploop.c -lpcap && ./pcaploop BIG.pcap
 *
 * Ethernet with up to two VLAN tags, IPv4 and IPv6, ports of TCP and UDP. No time-outs, no output
 * but totals: a bound for tools, not a tool.
 */
#include <pcap/pcap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
    uint8_t low[16], high[16];
    uint16_t low_port, high_port;
    uint32_t protocol;
};

struct flow {
    struct key key;
    uint64_t packets[2], bytes[2];
    int64_t first, last;
};

static struct flow *flows;  /* side by side, in order of their first packet */
static uint32_t *table;     /* number of the flow plus 1; 0 is free */
static size_t slots, room, count;

static void *or_stop(void *memory)
{
    if (!memory) {
        fputs("pcaploop: no memory\n", stderr);
        exit(1);
    }
    return memory;
}

static uint64_t hash(const struct key *key)
{
    uint64_t words[sizeof *key / 8], sum = 0x9E3779B97F4A7C15u;
    memcpy(words, key, sizeof *key);
    for (size_t i = 0; i < sizeof words / 8; i++) {
        sum = (sum ^ words[i]) * 0xFF51AFD7ED558CCDu;
        sum ^= sum >> 32;
    }
    return sum;
}

static size_t find(const struct key *key)
{
    size_t at = hash(key) & (slots - 1);
    while (table[at] && memcmp(&flows[table[at] - 1].key, key, sizeof *key))
        at = (at + 1) & (slots - 1);
    return at;
}

static void grow(void)
{
    slots = slots ? slots * 4 : 1 << 16;
    room = slots / 2;
    flows = or_stop(realloc(flows, room * sizeof *flows));
    free(table);
    table = or_stop(calloc(slots, sizeof *table));
    for (size_t i = 0; i < count; i++)
        table[find(&flows[i].key)] = (uint32_t)i + 1;
}

static struct flow *flow_of(const struct key *key, int64_t time)
{
    size_t at = find(key);
    if (!table[at]) {
        if (count == room) {
            grow();
            at = find(key);
        }
        flows[count] = (struct flow){.key = *key, .first = time};
        table[at] = (uint32_t)++count;
    }
    return &flows[table[at] - 1];
}

static unsigned word(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

int main(int words, char **arguments)
{
    char error[PCAP_ERRBUF_SIZE];
    pcap_t *capture = words == 2 ? pcap_open_offline(arguments[1], error) : NULL;
    if (!capture || pcap_datalink(capture) != DLT_EN10MB) {
        fprintf(stderr, "pcaploop: %s\n", words != 2 ? "name one capture" : capture ? "not Ethernet" : error);
        return 1;
    }
    grow();
    struct pcap_pkthdr *head;
    const uint8_t *data;
    uint64_t packets = 0, bytes = 0;
    while (pcap_next_ex(capture, &head, &data) == 1) {
        const uint8_t *end = data + head->caplen, *at = data + 12;
        for (int tags = 0; tags < 2 && at + 6 <= end && (word(at) == 0x8100 || word(at) == 0x88A8); tags++)
            at += 4;
        if (at + 22 > end)
            continue;
        struct key key = {0};
        unsigned type = word(at), size, wide;
        const uint8_t *source, *target, *transport;
        at += 2;
        if (type == 0x0800) {
            wide = 4, source = at + 12, target = at + 16, size = word(at + 2), key.protocol = at[9];
            transport = word(at + 6) & 0x1FFF ? end : at + (at[0] & 15) * 4;
        } else if (type == 0x86DD && at + 40 <= end) {
            wide = 16, source = at + 8, target = at + 24, size = word(at + 4) + 40, key.protocol = at[6];
            transport = at + 40;
        } else
            continue;
        unsigned source_port = 0, target_port = 0;
        if ((key.protocol == 6 || key.protocol == 17) && transport + 4 <= end)
            source_port = word(transport), target_port = word(transport + 2);
        int order = memcmp(source, target, wide);
        int swapped = order > 0 || (order == 0 && source_port > target_port);
        memcpy(key.low, swapped ? target : source, wide);
        memcpy(key.high, swapped ? source : target, wide);
        key.low_port = swapped ? target_port : source_port;
        key.high_port = swapped ? source_port : target_port;
        int64_t time = (int64_t)head->ts.tv_sec * 1000000 + head->ts.tv_usec;
        struct flow *flow = flow_of(&key, time);
        flow->packets[swapped]++;
        flow->bytes[swapped] += size;
        flow->last = time;
        packets++, bytes += size;
    }
    printf("packets=%llu flows=%zu bytes=%llu\n", (unsigned long long)packets, count, (unsigned long long)bytes);
    pcap_close(capture);
    return 0;
}
