/* Values told apart, and columns of a table as bytes: see packets.c for what these files promise. */

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint64_t u64;
typedef int64_t i64;

/* Which of the distinct values each is, of `words` numbers each, and the rows where these first occur.
 * `table` has a power of two places, at least twice as many as there are rows; `factors` are two odd numbers of the
 * process. Returns how many there are. */
i64 netgen_group_rows(const u64 *value, i64 words, i64 count, const u64 *factors, i32 *table, i64 places, i32 *number,
                  i64 *first) {
    int shift = 64;
    i64 groups = 0;
    for (i64 each = places; each > 1; each >>= 1)
        shift--;
    memset(table, 0xFF, (size_t)places * sizeof *table);
    for (i64 row = 0; row < count; row++) {
        const u64 *here = value + words * row;
        u64 mixed = 0;
        for (i64 place = 0; place < words; place++)
            mixed = ((mixed ^ mixed >> 32) + here[place]) * factors[0];
        mixed = (mixed ^ mixed >> 32) * factors[1];
        for (u64 at = mixed >> shift;; at = (at + 1) & (u64)(places - 1)) {
            i32 there = table[at];
            if (there < 0) {
                table[at] = number[row] = (i32)groups;
                first[groups++] = row;
                break;
            }
            if (!memcmp(value + words * first[there], here, (size_t)words * sizeof *here)) {
                number[row] = there;
                break;
            }
        }
    }
    return groups;
}

/* Numbers as runs of Parquet's hybrid encoding, nearly all of them 0: where the others are, ascending, and what they
 * are, in `width` bytes each. `out` has room for 5 + 1 + 2 * width bytes for each; returns how many were written. */
i64 netgen_encode_runs(const i64 *cell, const i64 *value, i64 count, i64 width, u8 *out) {
    u8 *to = out;
    i64 before = -1;
    for (i64 each = 0; each < count; each++) {
        u64 zeros = (u64)(cell[each] - before - 1) << 1; /* the lowest bit is for numbers that are packed */
        if (zeros) {
            for (; zeros > 0x7F; zeros >>= 7)
                *to++ = (u8)(zeros | 0x80);
            *to++ = (u8)zeros;
            for (i64 byte = 0; byte < width; byte++)
                *to++ = 0;
        }
        *to++ = 1 << 1;
        for (i64 byte = 0; byte < width; byte++)
            *to++ = (u8)(value[each] >> 8 * byte);
        before = cell[each];
    }
    return to - out;
}

static u8 *decimal(u8 *to, u32 byte) {
    if (byte > 99)
        *to++ = (u8)('0' + byte / 100);
    if (byte > 9)
        *to++ = (u8)('0' + byte / 10 % 10);
    *to++ = (u8)('0' + byte % 10);
    return to;
}

/* IPv4 addresses as text, one behind the other, and the bytes of each; `text` has room for 15 each.
 * Returns how many bytes were written. */
i64 netgen_ipv4_texts(const u64 *address, i64 count, u8 *text, i64 *length) {
    u8 *to = text;
    for (i64 row = 0; row < count; row++) {
        const u8 *begin = to;
        for (int shift = 24; shift >= 0; shift -= 8) {
            to = decimal(to, (u32)(address[row] >> shift) & 0xFF);
            if (shift)
                *to++ = '.';
        }
        length[row] = to - begin;
    }
    return to - text;
}

/* Cells of one direction, with their bytes and packets. */
typedef struct {
    i64 *cell, *bytes, *packets;
} Cells;

/* Count packets into the cells of their flows: row times `length` plus the bin, one cell for those of it that follow each
 * other. Packets behind the last bin count in `cut` of their row. `found` says how many cells up and down there are;
 * returns whether both are in order, with no cell twice. */
i64 netgen_count_bins(const i64 *flow, const i64 *offset_ns, const u32 *size, const u8 *up, i64 count, i64 bin_ns, i64 length,
                i64 *cut, const Cells *cells, i64 *found) {
    i64 ordered = 1;
    found[0] = found[1] = 0;
    for (i64 row = 0; row < count; row++) {
        i64 bin = offset_ns[row] / bin_ns;
        if (bin >= length) {
            cut[flow[row]]++;
            continue;
        }
        int way = !up[row];
        const Cells *of = cells + way;
        i64 cell = flow[row] * length + bin, last = found[way] - 1;
        if (last >= 0 && of->cell[last] == cell) {
            of->bytes[last] += size[row];
            of->packets[last]++;
            continue;
        }
        ordered &= last < 0 || of->cell[last] < cell;
        of->cell[++last] = cell;
        of->bytes[last] = size[row];
        of->packets[last] = 1;
        found[way] = last + 1;
    }
    return ordered;
}
