/* The loops that wait for memory, compiled: what netgen.capture.formats.lockstep, netgen.capture.layers.fast_path, netgen.capture.flows.keys
 * and netgen.capture.names.tls do in NumPy. Each gives the same numbers as its twin there, which reads where this is not
 * built; tests hold the two equal. Nothing is allocated here, and nothing is read outside the buffer that is given. */

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

/* A number of these sources, given when they are compiled: netgen.capture.native.compiled refuses a library of others. */
#ifndef SOURCES
#define SOURCES 0
#endif

#define AHEAD 24 /* packets that are asked of memory before they are looked at */

static u32 be16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }
static u32 be32(const u8 *p) { return be16(p) << 16 | be16(p + 2); }
static u64 be64(const u8 *p) { return (u64)be32(p) << 32 | be32(p + 4); }
static u32 le32(const u8 *p) { return (u32)p[3] << 24 | (u32)p[2] << 16 | (u32)p[1] << 8 | p[0]; }
static u32 word(const u8 *p, int big) { return big ? be32(p) : le32(p); }

u32 netgen_sources(void) { return SOURCES; }

/* -- records ------------------------------------------------------------------------------------------------------ */

/* A chain of records: each says where the next begins. */
typedef struct {
    const u8 *data;
    i64 size, record, limit;
    int big;
} Chain;

/* Where the record at `at` ends; -1: it cannot be, or is not whole. */
static i64 end_of(const Chain *chain, i64 at) {
    if (at > chain->size - chain->record)
        return -1;
    i64 captured = word(chain->data + at + 8, chain->big), end = at + chain->record + captured;
    return captured > chain->limit || end > chain->size ? -1 : end;
}

/* Whether time, lengths and fraction of the record at `at` are likely ones. */
static int likely(const Chain *chain, i64 at, u32 units, u32 low, u32 span) {
    const u8 *head = chain->data + at;
    u32 captured = word(head + 8, chain->big), length = word(head + 12, chain->big);
    return word(head, chain->big) - low <= span && word(head + 4, chain->big) < units && captured &&
           captured <= length && length <= chain->limit;
}

/* The first place within `reach` bytes from each of `places` from which on `proof` records are likely ones, or -1.
 * Times are from `low` to `low` + `span`; a chain may end where the file does. */
void netgen_guess_record_starts(const u8 *data, i64 size, const i64 *places, i64 count, i64 reach, i64 record, i64 limit, i64 big,
                  i64 units, i64 low, i64 span, i64 proof, i64 *found) {
    const Chain chain = {data, size, record, limit, big != 0};
    for (i64 place = 0; place < count; place++) {
        i64 stop = places[place] + reach < size - 3 ? places[place] + reach : size - 3;
        found[place] = -1;
        for (i64 start = places[place]; start < stop && found[place] < 0; start++) {
            if (word(data + start, chain.big) - (u32)low > (u32)span)
                continue;
            i64 at = start, left = proof;
            for (; left && at <= size - record && likely(&chain, at, (u32)units, (u32)low, (u32)span); left--)
                at += record + (i64)word(data + at + 8, chain.big);
            if (!left || at == size)
                found[place] = start;
        }
    }
}

/* Starts of all whole records from `heads[0]` on that begin before `stop`; stops early at one that cannot be.
 * All chains from `heads`, ascending, of which only the first is sure, are followed side by side, so that each waits
 * for memory while the others do; one is believed if the one before it ends on its head, as lockstep.py has it.
 * `starts` has room for (stop - heads[0]) / record + chains. Returns how many; `after` is where the last one ends. */
i64 netgen_scan_records(const u8 *data, i64 size, const i64 *heads, i64 chains, i64 stop, i64 record, i64 limit, i64 big,
                i64 *starts, i64 *after) {
    enum { ABREAST = 16 };
    const Chain chain = {data, size, record, limit, big != 0};
    i64 count = 0, last = heads[0];
    for (i64 first = 0; first < chains; first += ABREAST) {
        i64 at[ABREAST], until[ABREAST], done[ABREAST], going[ABREAST];
        i64 *out[ABREAST];
        i64 here = chains - first < ABREAST ? chains - first : ABREAST, left = here;
        for (i64 each = 0; each < here; each++) {
            i64 number = first + each;
            at[each] = heads[number];
            until[each] = number + 1 < chains ? heads[number + 1] : stop;
            out[each] = starts + (heads[number] - heads[0]) / record + number; /* in front of what is written later */
            done[each] = 0;
            going[each] = each;
        }
        while (left) {
            for (i64 place = 0; place < left;) {
                i64 each = going[place], end = at[each] < until[each] ? end_of(&chain, at[each]) : -1;
                if (end < 0) {
                    going[place] = going[--left];
                    continue;
                }
                __builtin_prefetch(data + end + 8);
                out[each][done[each]++] = at[each];
                at[each] = end;
                place++;
            }
        }
        for (i64 each = 0; each < here; each++) {
            if (last != heads[first + each]) { /* a wrong guess, or damage: the rest one by one */
                for (i64 end; last < stop && (end = end_of(&chain, last)) >= 0; last = end)
                    starts[count++] = last;
                *after = last;
                return count;
            }
            memmove(starts + count, out[each], (size_t)done[each] * sizeof *starts);
            count += done[each];
            last = at[each];
        }
    }
    *after = last;
    return count;
}

/* Columns of records: where each packet begins, what of it was captured and was on the wire, its time. */
void netgen_read_records(const u8 *data, i64 size, const i64 *starts, i64 count, i64 record, i64 unit, i64 big, i64 *offset,
                    i64 *captured, i64 *length, i64 *time_ns) {
    for (i64 row = 0; row < count; row++) {
        if (row + AHEAD < count)
            __builtin_prefetch(data + starts[row + AHEAD]);
        const u8 *head = data + starts[row];
        i64 begin = starts[row] + record, there = word(head + 8, big != 0);
        offset[row] = begin;
        captured[row] = begin > size ? 0 : there < size - begin ? there : size - begin;
        length[row] = word(head + 12, big != 0);
        time_ns[row] = (i64)word(head, big != 0) * 1000000000 + (i64)word(head + 4, big != 0) * unit;
    }
}

/* -- headers ------------------------------------------------------------------------------------------------------ */

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, TCP_HEADER = 20, UDP_HEADER = 8, TCP = 6, UDP = 17 };

/* Columns in the order of netgen.capture.native.layouts.HEADER_FIELDS. */
typedef struct {
    i64 *size;
    u8 *version, *protocol, *flags;
    u64 *src_high, *src_low, *dst_high, *dst_low;
    i32 *src_port, *dst_port;
    i64 *payload_at, *payload_length;
    u32 *seq;
    u8 *fragment;
    u32 *fragment_id, *fingerprint;
} Fields;

/* As netgen.capture.layers.fingerprint says it. */
static u32 fingerprint(u32 identification, const u32 *words, u32 protocol, u32 size) {
    u32 found = identification * 0x9E3779B1u + words[0] * 0x85EBCA77u + words[1] * 0xC2B2AE3Du +
                words[2] * 0x27D4EB2Fu + words[3] * 0x165667B1u + size * 0xD6E8FEB9u;
    u32 first = protocol == UDP ? words[0] & 0xFFFF : words[0] | words[1];
    found = (found ^ found >> 15) * 0x85EBCA77u;
    found ^= found >> 15;
    return (first | identification) ? found : 0;
}

/* Packets of the common form, IP without options or extensions, whole, TCP or UDP, where the IP header begins at `offset`
 * or, without `ethertype`, behind Ethernet without tags. `done` says which are; the columns of the others are left as they are. Returns how many are. */
i64 netgen_parse_headers(const u8 *data, i64 size, const i64 *offset, const i64 *captured, const i32 *ethertype, i64 count,
                         const Fields *f, u8 *done) {
    i64 good = 0, link = ethertype ? 0 : ETHERNET;
    for (i64 row = 0; row < count; row++) {
        if (row + AHEAD < count)
            __builtin_prefetch(data + offset[row + AHEAD]), __builtin_prefetch(data + offset[row + AHEAD] + 48);
        done[row] = 0;
        i64 at = offset[row] + link, end = offset[row] + captured[row];
        if (at > end)
            continue;
        const u8 *ip = data + at;
        u32 type = ethertype ? (u32)ethertype[row] : be16(ip - 2), protocol, identification = 0;
        i64 header, length;
        if (type == 0x0800) {
            header = IPV4;
            if (at > size - header - TCP_HEADER || ip[0] != 0x45 || be16(ip + 6) & 0x3FFF)
                continue;
            length = be16(ip + 2);
            protocol = ip[9];
            identification = be16(ip + 4);
        } else if (type == 0x86DD) {
            header = IPV6;
            if (at > size - header - TCP_HEADER || ip[0] >> 4 != 6)
                continue;
            length = be16(ip + 4) + header;
            protocol = ip[6];
        } else
            continue;
        i64 there = end - at < length ? end - at : length; /* what follows is padding */
        int tcp = protocol == TCP;
        if (!(tcp || protocol == UDP) || there < header + (tcp ? TCP_HEADER : UDP_HEADER))
            continue;
        const u8 *transport = ip + header;
        u32 words[4];
        for (int place = 0; place < 4; place++)
            words[place] = there >= header + 8 + 4 * place ? be32(transport + 4 + 4 * place) : 0;
        i64 before = header + (tcp ? (transport[12] >> 4) * 4 : UDP_HEADER);
        f->size[row] = length;
        f->version[row] = header == IPV4 ? 4 : 6;
        f->protocol[row] = (u8)protocol;
        f->flags[row] = tcp ? transport[13] : 0;
        if (header == IPV4) {
            f->src_high[row] = f->dst_high[row] = 0;
            f->src_low[row] = be32(ip + 12);
            f->dst_low[row] = be32(ip + 16);
        } else {
            f->src_high[row] = be64(ip + 8);
            f->src_low[row] = be64(ip + 16);
            f->dst_high[row] = be64(ip + 24);
            f->dst_low[row] = be64(ip + 32);
        }
        f->src_port[row] = (i32)be16(transport);
        f->dst_port[row] = (i32)be16(transport + 2);
        f->payload_at[row] = at + before;
        f->payload_length[row] = there > before ? there - before : 0;
        f->seq[row] = tcp ? words[0] : 0;
        f->fragment[row] = 0;
        f->fragment_id[row] = 0;
        f->fingerprint[row] = fingerprint(identification, words, protocol, (u32)length);
        done[row] = 1;
        good++;
    }
    return good;
}

/* Move rows that are kept together, in each of `columns` arrays with elements of `size` bytes; returns how many. */
i64 netgen_compact_columns(u8 *const *column, const i64 *size, i64 columns, const u8 *keep, i64 count) {
    i64 kept = 0;
    for (i64 first = 0, last; first < count; first = last) {
        for (last = first; last < count && keep[last] == keep[first]; last++)
            ;
        if (!keep[first])
            continue;
        for (i64 each = 0; each < columns && kept != first; each++)
            memmove(column[each] + kept * size[each], column[each] + first * size[each],
                    (size_t)((last - first) * size[each]));
        kept += last - first;
    }
    return kept;
}

/* -- what flows are told apart by --------------------------------------------------------------------------------- */

/* Ends of the IPv4 keys among packets as numbers, `a` the smaller, and the word beside them, one key behind the other;
 * whether such a packet goes from `a` to `b`. Returns how many they are. */
i64 netgen_ipv4_keys(const u64 *src, const i32 *src_port, const u64 *dst, const i32 *dst_port, const i32 *vlan,
                const u8 *protocol, const u8 *version, i64 count, u64 *key, u8 *forward) {
    const u64 *first = key;
    for (i64 row = 0; row < count; row++) {
        if (version[row] != 4)
            continue;
        u64 one = (src[row] << 17) + (u32)(src_port[row] + 1), two = (dst[row] << 17) + (u32)(dst_port[row] + 1);
        forward[row] = one <= two;
        key[0] = one <= two ? one : two;
        key[1] = one <= two ? two : one;
        key[2] = (u64)(u32)(vlan[row] + 1) << 8 | protocol[row];
        key += 3;
    }
    return (key - first) / 3;
}

/* -- names -------------------------------------------------------------------------------------------------------- */

/* Rows of TCP whose payload begins as a ClientHello does, be it cut after the first byte; returns how many. */
i64 netgen_find_client_hellos(const u8 *data, const u8 *protocol, const i64 *payload_at, const i64 *payload_length, i64 count,
                  i64 *rows) {
    i64 found = 0;
    for (i64 row = 0; row < count; row++) {
        i64 length = protocol[row] == TCP ? payload_length[row] : 0;
        if (length <= 0)
            continue;
        const u8 *payload = data + payload_at[row];
        if (payload[0] == 22 && (length <= 1 || payload[1] == 3) && (length <= 5 || payload[5] == 1))
            rows[found++] = row;
    }
    return found;
}

/* Where the server name in a ClientHello is, `*name`, from the first record of a payload, and how many bytes it has;
 * 0: there is none; -1: this record alone does not tell. */
static i64 server_name(const u8 *payload, i64 length, i64 *name) {
    enum { RECORD = 5, SESSION_ID = 38, CLIENT_HELLO = 1, HOST_NAME = 0, SERVER_NAME = 0 };
    if (length <= RECORD)
        return -1;
    const u8 *hello = payload + RECORD;
    i64 there = length - RECORD, size = be16(payload + 3), at = SESSION_ID;
    there = there < size ? there : size;
    if (at >= there || hello[0] != CLIENT_HELLO || hello[4] != 3)
        return -1;
    i64 end = 4 + ((i64)hello[1] << 16 | be16(hello + 2));
    at += 1 + hello[at];
    if (at + 2 > there)
        return -1;
    at += 2 + be16(hello + at); /* cipher suites */
    if (at >= there)
        return -1;
    at += 1 + hello[at]; /* compression methods */
    if (at >= end)
        return 0;
    if (at + 2 > there)
        return -1;
    i64 last = at + 2 + be16(hello + at);
    last = last < end ? last : end;
    for (at += 2; at + 4 <= last;) {
        if (at + 4 > there)
            return -1;
        u32 kind = be16(hello + at);
        i64 body = be16(hello + at + 2);
        at += 4;
        if (kind == SERVER_NAME) {
            if (at + body > there)
                return -1;
            if (body < 5 || hello[at + 2] != HOST_NAME || 5 + (i64)be16(hello + at + 3) > body)
                return 0;
            *name = RECORD + at + 5;
            return be16(hello + at + 3);
        }
        at += body;
    }
    return 0;
}

/* The same for some rows, `limit` bytes of a payload at most; `at` is where the name is in `data`. */
i64 netgen_find_server_names(const u8 *data, const i64 *payload_at, const i64 *payload_length, const i64 *rows, i64 count,
                        i64 limit, i64 *at, i64 *size) {
    for (i64 each = 0; each < count; each++) {
        i64 row = rows[each], length = payload_length[row] < limit ? payload_length[row] : limit;
        at[each] = 0;
        size[each] = server_name(data + payload_at[row], length, at + each);
        at[each] += payload_at[row];
    }
    return count;
}
