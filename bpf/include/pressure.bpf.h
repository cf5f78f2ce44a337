/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is said about pressure, and for whom.
 *
 * A cgroup can say two things: when its own stall is an OOM, and, if it is a
 * slice's, when that of a unit in it is. The latter holds for every unit below,
 * in slices inside that slice too, unless something nearer says otherwise. This
 * is decided here and not by user space, because a unit's cgroup has to have
 * its trigger before its first process runs.
 *
 * What a unit is, is in the names: slices end in ".slice", and a unit's cgroup
 * is the first one below them that doesn't. What a unit makes inside its own
 * cgroup is its own business.
 */
#ifndef OOMD_PRESSURE_BPF_H
#define OOMD_PRESSURE_BPF_H

#include "kernel.h"
#include "intf.h"
#include "settings.bpf.h"
#include "path.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OOMD_SETTINGS_MAX);
	__type(key, u64);
	__type(value, struct oomd_pressure_said);
} oomd_pressure SEC(".maps");

/* Where names are read to find their length. Nobody looks at what is in it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, char[OOMD_NAME_LEN]);
} oomd_name SEC(".maps");

/* Global functions for the same reason as those in settings.bpf.h. */
__noinline u32 oomd_is_slice(u64 cgroup)
{
	const char suffix[] = ".slice";
	const char *name = BPF_CORE_READ((struct cgroup *)cgroup, kn, name);
	char end[sizeof(suffix)];
	char *scratch;
	u32 zero = 0;
	long len;

	scratch = bpf_map_lookup_elem(&oomd_name, &zero);
	if (!scratch)
		return false;
	len = bpf_probe_read_kernel_str(scratch, OOMD_NAME_LEN, name);
	if (len <= (long)sizeof(suffix))
		return false;
	if (bpf_probe_read_kernel(end, sizeof(end),
				  name + len - sizeof(suffix)))
		return false;
	for (u32 i = 0; i < sizeof(suffix); i++)
		if (end[i] != suffix[i])
			return false;
	return true;
}

/*
 * The key of the entry that decides about the pressure of `cgroup`:
 * `self` of its own, `units` of one above. OOMD_NOT_SAID if there is none.
 */
__noinline u64 oomd_pressure_key(u64 cgroup)
{
	u64 key = oomd_key(cgroup);
	struct oomd_pressure_said *said;
	int level;

	said = bpf_map_lookup_elem(&oomd_pressure, &key);
	if (said && said->said & OOMD_PRESSURE_SELF)
		return key;
	/* A slice has no pressure but its own. */
	if (!key || oomd_is_slice(cgroup))
		return OOMD_NOT_SAID;
	for (level = 0; level < OOMD_LEVELS_MAX && key; level++) {
		cgroup = oomd_parent(cgroup);
		key = oomd_key(cgroup);
		if (key && !oomd_is_slice(cgroup))
			break;
		said = bpf_map_lookup_elem(&oomd_pressure, &key);
		if (said && said->said & OOMD_PRESSURE_UNITS)
			return key;
	}
	return OOMD_NOT_SAID;
}

/*
 * When the stall of `cgroup`, which has this key, is an OOM. NULL if nobody
 * says that it is.
 */
static __always_inline const struct oomd_pressure *oomd_pressure_of(u64 cgroup,
								    u64 key)
{
	u64 source = oomd_pressure_key(cgroup);
	struct oomd_pressure_said *said;
	struct oomd_pressure *pressure;

	said = bpf_map_lookup_elem(&oomd_pressure, &source);
	if (!said)
		return NULL;
	pressure = source == key ? &said->self : &said->units;
	return pressure->action == OOMD_ACTION_NONE ? NULL : pressure;
}

#endif /* OOMD_PRESSURE_BPF_H */
