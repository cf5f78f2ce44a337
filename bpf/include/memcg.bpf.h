/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known about a memory cgroup: by the kernel's own functions where it
 * has them (since 7.0, and in the test kernel), else from where it keeps the
 * numbers. One object file serves both; which branch is left, the verifier
 * knows when it loads it.
 *
 * The functions take a memcg that was acquired if the kernel has such
 * functions, and else any address of one.
 */
#ifndef OOMD_MEMCG_BPF_H
#define OOMD_MEMCG_BPF_H

#include "kernel.h"

/*
 * Bytes in a page, said by user space. The kernel's functions know it by
 * themselves.
 */
static u64 oomd_page_size;

/* The address of OOMD_STATS_INDEX, 0 where there is none. */
static u64 oomd_stats_index;

static __always_inline bool oomd_has_memcg_kfuncs(void)
{
	return bpf_ksym_exists(bpf_get_mem_cgroup);
}

static __always_inline struct mem_cgroup *oomd_memcg_of(u64 css)
{
	return container_of((struct cgroup_subsys_state *)css,
			    struct mem_cgroup, css);
}

/*
 * The css of the memory cgroup to which a process belongs: that of its cgroup,
 * or of the nearest one above that has the memory controller.
 */
static __always_inline u64 oomd_memory_css(struct task_struct *task)
{
	struct css_set *cgroups = BPF_CORE_READ(task, cgroups);
	u64 *subsys = (u64 *)__builtin_preserve_access_index(&cgroups->subsys);
	u64 memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	u64 css = 0;

	bpf_probe_read_kernel(&css, sizeof(css), subsys + memory);
	return css;
}

/* Memory in use, in bytes. */
static __always_inline u64 oomd_usage(struct mem_cgroup *memcg)
{
	s64 pages;

	if (oomd_has_memcg_kfuncs())
		return bpf_mem_cgroup_usage(memcg);
	pages = BPF_CORE_READ(memcg, memory.usage.counter);
	return pages > 0 ? pages * oomd_page_size : 0;
}

/*
 * What the kernel keeps of an item that it counts in pages. A number that is
 * not summed up can be below zero.
 */
static __always_inline u64 oomd_page_state_kept(struct mem_cgroup *memcg,
						u64 item)
{
	struct memcg_vmstats *vmstats = BPF_CORE_READ(memcg, vmstats);
	s64 *states = (s64 *)__builtin_preserve_access_index(&vmstats->state);
	u64 index = item;
	s64 pages = 0;

	if (oomd_stats_index) {
		u8 place = 0xff;

		bpf_probe_read_kernel(&place, sizeof(place),
				      (void *)(oomd_stats_index + item));
		if (place == 0xff)
			return 0;
		index = place;
	}
	bpf_probe_read_kernel(&pages, sizeof(pages), states + index);
	return pages > 0 ? pages * oomd_page_size : 0;
}

/*
 * A statistic that is counted in pages, such as NR_FILE_PAGES, in bytes; 0 if
 * the kernel doesn't count it. `item` is what bpf_core_enum_value() says.
 */
static __always_inline u64 oomd_page_state(struct mem_cgroup *memcg, int item)
{
	u64 bytes;

	if (!oomd_has_memcg_kfuncs())
		return oomd_page_state_kept(memcg, item);
	bytes = bpf_mem_cgroup_page_state(memcg, item);
	return bytes == (u64)-1 ? 0 : bytes;
}

#endif /* OOMD_MEMCG_BPF_H */
