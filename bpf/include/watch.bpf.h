/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Cgroups that are watched for pressure. The pressure program keeps the map; a
 * policy finds in it why an OOM was declared.
 */
#ifndef OOMD_WATCH_BPF_H
#define OOMD_WATCH_BPF_H

#include "kernel.h"
#include "intf.h"

/* Not preallocated: entries come with cgroups, not when memory is short. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OOMD_SETTINGS_MAX);
	__type(key, u64);
	__type(value, struct oomd_watch);
} oomd_watches SEC(".maps");

/*
 * The stall for which the OOM of this domain was declared. It is declared and
 * handled by the same task, so there is one at a time.
 */
static __always_inline void oomd_stall_of(u64 domain, struct oomd_stall *stall)
{
	struct oomd_watch *watch = bpf_map_lookup_elem(&oomd_watches, &domain);

	if (watch)
		*stall = watch->stall;
}

#endif /* OOMD_WATCH_BPF_H */
