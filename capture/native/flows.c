/* Packets to flows, one packet after the other: the rules of docs/flows.md as netgen.capture.flows.assemble has them for whole
 * columns. See packets.c for what both files promise. */

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

enum { FIN_OR_RST = 0x05, SYN_AND_ACK = 0x12 };
enum { CLOSED = 1, FORWARD = 2, BACK = 4 };                  /* what was seen of a flow */
enum { BY_FIRST, BY_ANSWER, BY_SYN, TO_ITSELF };             /* who says which end is its initiator */
enum { KEY = 48, A_HIGH = 0, B_HIGH = 16, A_PORT = 32, B_PORT = 36 }; /* netgen.capture.flows.keys.KEY */

/* Packets of a part in the file's order, `count` of them; rows of SYNs and their numbers; the keys. */
typedef struct {
    const i32 *key;
    const i64 *clock, *time_ns, *number;
    const u32 *size, *mark;
    const u8 *forward, *flags;
    const i64 *syn;
    const u32 *syn_seq;
    const u8 *keys;
    const i64 *slot; /* of each key, in what is open */
} Packets;

/* What is open, by slot: see netgen.capture.flows.assemble.Assembler._forget. */
typedef struct {
    i64 *flow, *clock;
    u8 *seen;
    i64 *seq_forward, *seq_back;
    u32 *mark, *size;
    i64 *time_ns;
} Opened;

/* All flows, by number. */
typedef struct {
    u8 *key;
    i64 *start_ns, *end_ns, *packets, *bytes;
    u8 *up, *by;
    i64 *begun, *capture, *number;
} Flows;

/* What the clock of netgen.capture.flows.clock shows at each packet. `state` has the latest time stamp, the block of packets, the
 * latest stamp in it, and what the clock shows; `block` is how many packets are looked at together, `never` no time. */
i64 netgen_advance_clock(const i64 *time_ns, const i64 *number, i64 count, i64 block, i64 never, i64 slack_ns, i64 stride_ns,
                 i64 *state, i64 *shown) {
    i64 latest = state[0], here = state[1], in_block = state[2], now = state[3];
    for (i64 row = 0; row < count; row++) {
        i64 stamp = time_ns[row] ? time_ns[row] : never, of = (number[row] - 1) / block;
        if (of != here) {
            if (in_block > never && latest - in_block > slack_ns)
                latest = in_block;
            in_block = never;
            here = of;
        }
        if (stamp > latest) {
            i64 step = latest > never ? stamp - latest : 0;
            now += step < stride_ns ? step : stride_ns;
            latest = stamp;
        }
        if (stamp > in_block)
            in_block = stamp;
        shown[row] = now;
    }
    state[0] = latest, state[1] = here, state[2] = in_block, state[3] = now;
    return now;
}

/* What is open of a key while a part is gone through; `flow` and the numbers of SYNs count from 1, 0 is none. */
typedef struct {
    i64 flow, clock, since, seq[2], time_ns;
    i64 start, end, packets, bytes; /* of what came in this part */
    u32 mark, size;
    u8 seen, up, by, there;
} Open;

i64 netgen_open_flow_size(void) { return sizeof(Open); }

static void take(Open *open, const Opened *opened, const Flows *flows, i64 slot) {
    open->flow = opened->flow[slot];
    open->clock = opened->clock[slot];
    open->seen = opened->seen[slot];
    open->seq[0] = opened->seq_back[slot];
    open->seq[1] = opened->seq_forward[slot];
    open->mark = opened->mark[slot];
    open->size = opened->size[slot];
    open->time_ns = opened->time_ns[slot];
    open->packets = 0;
    open->there = 1;
    if (open->flow) {
        open->since = flows->begun[open->flow - 1];
        open->up = flows->up[open->flow - 1];
        open->by = flows->by[open->flow - 1];
    }
}

/* Add what came in this part to the totals of its flow. */
static void settle(const Open *open, const Flows *flows) {
    if (!open->packets)
        return;
    i64 flow = open->flow - 1;
    if (open->start < flows->start_ns[flow])
        flows->start_ns[flow] = open->start;
    if (open->end > flows->end_ns[flow])
        flows->end_ns[flow] = open->end;
    flows->packets[flow] += open->packets;
    flows->bytes[flow] += open->bytes;
    flows->up[flow] = open->up;
    flows->by[flow] = open->by;
}

static void put(const Open *open, const Opened *opened, i64 slot) {
    opened->flow[slot] = open->flow;
    opened->clock[slot] = open->clock;
    opened->seen[slot] = open->seen;
    opened->seq_back[slot] = open->seq[0];
    opened->seq_forward[slot] = open->seq[1];
    opened->mark[slot] = open->mark;
    opened->size[slot] = open->size;
    opened->time_ns[slot] = open->time_ns;
}

/* Take packets into flows: the number of each packet's flow, and how many packets came twice.
 * `active_ns` is -1 where flows may last. `open` has room for every key, zeroed before the first row.
 * `state` has the next row, the next SYN, how many flows there are, of which `flows` has room for `room`, and the packets
 * that came twice. Returns whether all is done: if not, there is no room for the next flow, and it is to be called again. */
i64 netgen_assemble_flows(const Packets *p, i64 count, i64 syns, i64 keys, const Opened *opened, const Flows *flows, i64 room,
                    i64 capture, i64 idle_ns, i64 active_ns, i64 repeat_ns, Open *open, i64 *flow, i64 *state) {
    i64 next = state[1], rows = state[2];
    for (i64 row = state[0]; row < count; row++) {
        if (rows == room) {
            state[0] = row, state[1] = next, state[2] = rows;
            return 0;
        }
        i32 key = p->key[row];
        Open *o = open + key;
        if (!o->there)
            take(o, opened, flows, p->slot[key]);
        int forward = p->forward[row] != 0, syn = next < syns && p->syn[next] == row;
        i64 clock = p->clock[row], time_ns = p->time_ns[row], seq = syn ? (i64)p->syn_seq[next++] + 1 : 0;
        u8 way = forward ? FORWARD : BACK;
        int new = !o->flow || clock - o->clock > idle_ns;
        if (o->flow) {
            i64 apart = time_ns - o->time_ns;
            state[3] += o->mark && o->mark == p->mark[row] && o->size == p->size[row] &&
                        (apart < 0 ? -apart : apart) <= repeat_ns;
            new |= active_ns >= 0 && clock - o->since > active_ns;
            /* a connection that begins: another SYN after the end of one, or after packets in its direction */
            new |= syn && o->seq[forward] != seq && o->seen &(CLOSED | way);
        }
        if (new) {
            settle(o, flows);
            const u8 *ends = p->keys + (i64)key * KEY;
            memcpy(flows->key + rows * KEY, ends, KEY);
            flows->start_ns[rows] = flows->end_ns[rows] = time_ns;
            flows->begun[rows] = o->since = clock;
            flows->capture[rows] = capture;
            flows->number[rows] = p->number[row];
            o->flow = ++rows;
            o->packets = o->seq[0] = o->seq[1] = 0;
            o->seen = 0;
            o->up = (u8)forward;
            o->by = memcmp(ends + A_HIGH, ends + B_HIGH, B_HIGH - A_HIGH) || memcmp(ends + A_PORT, ends + B_PORT, 4)
                        ? BY_FIRST
                        : TO_ITSELF;
        }
        if (!o->packets) {
            o->start = o->end = time_ns;
            o->bytes = 0;
        }
        o->start = time_ns < o->start ? time_ns : o->start;
        o->end = time_ns > o->end ? time_ns : o->end;
        o->packets++;
        o->bytes += p->size[row];
        if ((p->flags[row] & SYN_AND_ACK) == SYN_AND_ACK && o->by < BY_ANSWER)
            o->by = BY_ANSWER, o->up = !forward;
        if (syn) {
            o->seq[forward] = seq;
            if (o->by < BY_SYN)
                o->by = BY_SYN, o->up = (u8)forward;
        }
        o->seen |= way | (p->flags[row] & FIN_OR_RST ? CLOSED : 0);
        o->clock = clock;
        o->mark = p->mark[row];
        o->size = p->size[row];
        o->time_ns = time_ns;
        flow[row] = o->flow - 1;
    }
    for (i64 key = 0; key < keys; key++)
        if (open[key].there) {
            settle(open + key, flows);
            put(open + key, opened, p->slot[key]);
        }
    state[2] = rows;
    return 1;
}

/* The numbers of keys of six words in the table of netgen.capture.flows.key_index, -1 for one that is not there. */
i64 netgen_find_keys(const u64 *words, const u64 *mixed, i64 count, const i32 *table, i64 bits, const u64 *key,
                const u64 *hash, i64 *number) {
    enum { WORDS = KEY / 8 };
    for (i64 row = 0; row < count; row++) {
        u64 mask = ((u64)1 << bits) - 1, at = mixed[row] >> (64 - bits);
        i64 there;
        while ((there = (i64)table[at] - 1) >= 0 &&
               (hash[there] != mixed[row] || memcmp(key + WORDS * there, words + WORDS * row, KEY)))
            at = (at + 1) & mask;
        number[row] = there;
    }
    return count;
}

/* A packet as netgen.capture.flows.spill puts it by. */
typedef struct {
    i64 time_ns;
    u32 flow, size;
} Row;

/* Packets in order of flow, and in their own within: sorted from the lowest digit on, from one of two arrays to the other.
 * `lowest` is the lowest flow, and `passes` digits of the others, less that, are not all 0. Returns which array it is. */
i64 netgen_sort_by_flow(const i64 *flow, const i64 *time_ns, const u32 *size, const u8 *forward, i64 count, i64 lowest,
                   i64 passes, Row *one, Row *other) {
    enum { BITS = 11, DIGITS = 1 << BITS };
    for (i64 row = 0; row < count; row++)
        one[row] = (Row){time_ns[row], (u32)flow[row], size[row] | (forward[row] ? (u32)1 << 31 : 0)};
    for (i64 pass = 0; pass < passes; pass++) {
        i64 place[DIGITS] = {0}, before = 0;
        u32 low = (u32)lowest, shift = (u32)(pass * BITS);
        for (i64 row = 0; row < count; row++)
            place[(one[row].flow - low) >> shift & (DIGITS - 1)]++;
        for (i64 digit = 0; digit < DIGITS; digit++) {
            i64 here = place[digit];
            place[digit] = before;
            before += here;
        }
        for (i64 row = 0; row < count; row++)
            other[place[(one[row].flow - low) >> shift & (DIGITS - 1)]++] = one[row];
        Row *swap = one;
        one = other;
        other = swap;
    }
    return passes & 1;
}
