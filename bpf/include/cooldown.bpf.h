/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long a domain waits for a victim that does not get away. A victim gives
 * its memory back when it has exited, so while it is exiting, killing another
 * one would cost a life for nothing. But a victim can be stuck, and then the
 * domain must not wait for it forever: after the cooldown, somebody else has to
 * die.
 *
 * A cooldown never makes a handler return 0: that would hand the OOM to the
 * kernel's killer, which takes somebody else at once.
 */
#ifndef OOMD_COOLDOWN_BPF_H
#define OOMD_COOLDOWN_BPF_H

#include "kernel.h"
#include "intf.h"
#include "settings.bpf.h"

#define OOMD_COOLDOWN_DEFAULT_NS (10 * 1000 * 1000 * 1000ULL)

/*
 * Shared by all policy objects, as another one may be attached meanwhile. It is
 * written while memory is short, hence preallocated, which an LRU map always
 * is; and the domain that ran out longest ago makes room for a new one. A
 * domain that was forgotten begins to wait anew.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, OOMD_DOMAINS_MAX);
	__type(key, u64);
	__type(value, struct oomd_domain);
} oomd_domains SEC(".maps");

static __always_inline void oomd_cooldown_begin(u64 domain, u64 leaf)
{
	struct oomd_domain state = {
		.since_ns = bpf_ktime_get_ns(),
		.leaf = leaf,
	};

	/* If there is no room, an exiting victim begins it when it is met. */
	bpf_map_update_elem(&oomd_domains, &domain, &state, BPF_ANY);
}

/*
 * Whether an exiting process of `leaf`, which started at `start`, is still to
 * be waited for in the domain with this key. The time runs from the domain's
 * last kill. A victim of somebody else's that is met later than that has had no
 * time yet: its own runs from then on. It is somebody else's if it is in
 * another leaf, or did not exist yet at that kill.
 */
__noinline u32 oomd_cooldown_lasts(u64 domain, u64 cooldown_ns, u64 leaf,
				   u64 start)
{
	struct oomd_domain *known = bpf_map_lookup_elem(&oomd_domains, &domain);

	if (!cooldown_ns)
		return false;
	if (known) {
		if (bpf_ktime_get_ns() - known->since_ns < cooldown_ns)
			return true;
		if (known->leaf == leaf && start < known->since_ns)
			return false;
	}
	oomd_cooldown_begin(domain, leaf);
	return true;
}

static __always_inline u64 oomd_cooldown(u64 cgroup)
{
	u64 said = oomd_said(cgroup, 0, OOMD_SAID_COOLDOWN);

	return said == OOMD_NOT_SAID ? OOMD_COOLDOWN_DEFAULT_NS : said;
}

#endif /* OOMD_COOLDOWN_BPF_H */
