/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is said about cgroups, and how it is inherited: a cgroup says it
 * itself, or the nearest one above that does says it for it.
 *
 * Every policy object declares this map; the loader makes all of them share
 * one. User space fills it.
 *
 * The lookups here and in preference.bpf.h are global functions: the verifier
 * looks at such a function once and not at every call, and a walk in a walk
 * costs it no more than the two of them. Their arguments have to be numbers
 * then. So a cgroup is passed by its address, which is read from and never
 * followed; a read that fails gives 0, which ends a walk like the root's
 * missing parent, and the defaults apply. An OOM is never left undecided
 * because somebody's settings could not be read.
 */
#ifndef OOMD_SETTINGS_BPF_H
#define OOMD_SETTINGS_BPF_H

#include "kernel.h"
#include "intf.h"

/* Not preallocated: few cgroups have settings of their own, and nothing is
 * inserted while memory is short.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OOMD_SETTINGS_MAX);
	__type(key, u64);
	__type(value, struct oomd_settings);
} oomd_settings SEC(".maps");

/*
 * Levels that a walk upwards takes. What is said further up does not reach a
 * cgroup that deep: the defaults apply to it. systemd's trees have some ten.
 */
#define OOMD_LEVELS_MAX 64

/* Nobody says anything. */
#define OOMD_NOT_SAID ((u64) - 1)

static __always_inline u64 oomd_parent(u64 cgroup)
{
	return (u64)BPF_CORE_READ((struct cgroup *)cgroup, self.parent, cgroup);
}

/* The cgroup's key in the maps: its id, or 0 for the root. */
static __always_inline u64 oomd_key(u64 cgroup)
{
	if (!oomd_parent(cgroup))
		return 0;
	return BPF_CORE_READ((struct cgroup *)cgroup, kn, id);
}

/*
 * What is said about `cgroup`, by it or by the nearest one above up to the one
 * with the key `last`; `what` is one of enum oomd_said. OOMD_NOT_SAID if
 * nobody says it.
 */
__noinline u64 oomd_said(u64 cgroup, u64 last, u32 what)
{
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && cgroup; level++) {
		u64 key = oomd_key(cgroup);
		struct oomd_settings *settings =
			bpf_map_lookup_elem(&oomd_settings, &key);

		if (settings && settings->said & what) {
			if (what == OOMD_SAID_KILL)
				return settings->kill;
			if (what == OOMD_SAID_POLICY)
				return settings->policy;
			return settings->cooldown_ns;
		}
		if (key == last)
			break;
		cgroup = oomd_parent(cgroup);
	}
	return OOMD_NOT_SAID;
}

/* How a cgroup dies when it is the victim. */
static __always_inline u32 oomd_kill_said(u64 victim)
{
	return oomd_said(victim, 0, OOMD_SAID_KILL) == OOMD_KILL_PROCESS
		       ? OOMD_KILL_PROCESS
		       : OOMD_KILL_CGROUP;
}

/*
 * Whether what ran out of memory is to be left to the kernel's killer. The
 * kernel asks every attachment from the domain upwards, so each of them has to
 * see for itself whether there is such a mark between the domain and it.
 */
static __always_inline bool oomd_left_to_kernel(u64 domain, u64 attachment)
{
	return oomd_said(domain, attachment, OOMD_SAID_POLICY) ==
	       OOMD_POLICY_KERNEL;
}

#endif /* OOMD_SETTINGS_BPF_H */
