/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Events to user space. Every policy object declares these two maps; the
 * loader makes all of them share one pair.
 */
#ifndef OOMD_EVENTS_BPF_H
#define OOMD_EVENTS_BPF_H

#include "kernel.h"
#include "intf.h"

/* What the kernel sets for a kill that was asked for by sysrq-f. */
#define OOMD_ORDER_SYSRQ (-1)

/* Room for more than a hundred kills that nobody has read yet. */
#define OOMD_EVENTS_BYTES (512 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, OOMD_EVENTS_BYTES);
} oomd_events SEC(".maps");

/* Events for which there was no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} oomd_lost SEC(".maps");

static __always_inline void oomd_count_lost(void)
{
	u32 zero = 0;
	u64 *lost = bpf_map_lookup_elem(&oomd_lost, &zero);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

/*
 * NULL if the buffer is full. Policies act all the same then: a kill must not
 * wait for a reader.
 */
#define oomd_event_begin(type)                                                 \
	({                                                                     \
		type *___event =                                               \
			bpf_ringbuf_reserve(&oomd_events, sizeof(type), 0);    \
		if (!___event)                                                 \
			oomd_count_lost();                                     \
		___event;                                                      \
	})

static __always_inline void oomd_event_header(struct oomd_event_header *header,
					      u32 kind, const char *policy)
{
	header->kind = kind;
	header->reserved = 0;
	header->time_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(header->policy, policy, sizeof(header->policy));
}

#endif /* OOMD_EVENTS_BPF_H */
