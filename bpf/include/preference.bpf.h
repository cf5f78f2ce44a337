/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The preference that counts for a leaf. It is said in the settings and by
 * extended attributes of the cgroup; the nearest cgroup that says something
 * decides.
 */
#ifndef OOMD_PREFERENCE_BPF_H
#define OOMD_PREFERENCE_BPF_H

#include "kernel.h"
#include "intf.h"
#include "settings.bpf.h"
#include "xattr.bpf.h"

/*
 * What one cgroup says of itself, OOMD_NOT_SAID if nothing. `owner` is that of
 * the domain.
 *
 * Attributes of root's cgroups are what systemd made of the unit's own files,
 * which come before all configuration. Those of a user's cgroups are the
 * user's word, which comes after it. And as with systemd-oomd that counts only
 * where nothing but the user's own memory is at stake: otherwise anybody could
 * make others die in their stead.
 */
__noinline u64 oomd_preference_at(u64 cgroup, u32 owner)
{
	u64 key = oomd_key(cgroup);
	struct oomd_settings *settings;
	u32 user, preference;

	user = oomd_owner(cgroup);
	preference = OOMD_PREFERENCE_NONE;
	if (!user || user == owner)
		preference = oomd_xattr_preference(cgroup);
	if (!user && preference != OOMD_PREFERENCE_NONE)
		return preference;
	settings = bpf_map_lookup_elem(&oomd_settings, &key);
	if (settings && settings->said & OOMD_SAID_PREFERENCE)
		return settings->preference;
	/* An attribute that is false is no attribute: there is none for "none".
	 */
	return preference == OOMD_PREFERENCE_NONE ? OOMD_NOT_SAID : preference;
}

/*
 * The preference of `leaf` in `domain`. What the domain says of itself is for
 * those who choose among it and others; inside it everybody would be meant,
 * which is nobody. Unless there is nothing inside: then it is the one cgroup
 * that can say anything.
 */
__noinline u32 oomd_preference(u64 leaf, u64 domain)
{
	u32 owner = oomd_owner(domain);
	u64 cgroup = leaf;
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && cgroup; level++) {
		u64 preference = oomd_preference_at(cgroup, owner);

		if (preference != OOMD_NOT_SAID)
			return preference;
		cgroup = cgroup == domain ? 0 : oomd_parent(cgroup);
		if (cgroup == domain)
			break;
	}
	return OOMD_PREFERENCE_NONE;
}

#endif /* OOMD_PREFERENCE_BPF_H */
