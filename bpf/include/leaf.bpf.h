/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Leaves of a domain: which memory cgroups they are, how much memory killing
 * one gives back, and whether its processes may be killed.
 */
#ifndef OOMD_LEAF_BPF_H
#define OOMD_LEAF_BPF_H

#include "kernel.h"
#include "memcg.bpf.h"

/*
 * Zero, which the verifier doesn't know: what a loop counts starts with it. A
 * branch on a value that the verifier knows makes it follow that value exactly,
 * and so every number a loop may count to, one after the other, until it gives
 * up. With a start it doesn't know, two rounds look the same to it and it has
 * seen them all.
 */
static volatile u64 oomd_zero;

/* What a policy's score function is given. */
struct oomd_leaf {
	/* For what memcg.bpf.h says about a memory cgroup. */
	struct mem_cgroup *memcg;
	/* Memory in use, page cache not counted. */
	u64 bytes;
};

/* What a look at a leaf's processes found. */
struct oomd_tally {
	u32 killable;
	u32 victims;	 /* already chosen by someone, and on their way out */
	bool unkillable; /* there is one that must not die */
};

/*
 * Chains of pointers are read with BPF_CORE_READ(), not followed directly: for
 * each pointer loaded from a trusted object the verifier searches the kernel's
 * types by name from the first to the last, which makes loading a policy five
 * times as slow. A read that fails gives 0.
 */
static __always_inline u64 oomd_css_id(struct cgroup_subsys_state *css)
{
	return BPF_CORE_READ(css, cgroup, kn, id);
}

/*
 * Tell leaves apart while walking a domain in post-order, children before
 * parents. A css is skipped as if it were not there unless it is online: a
 * busy service that makes and removes cgroups drags dying children along and
 * is a leaf all the same. In post-order the online css visited last before N is
 * a child of N if and only if N has an online child, so remembering that
 * one's parent is enough, and costs the same for every shape of tree.
 */
static __always_inline bool oomd_next_is_leaf(u64 *last_parent,
					      struct cgroup_subsys_state *pos)
{
	bool leaf;

	if (!(pos->flags & CSS_ONLINE))
		return false;
	leaf = *last_parent != oomd_css_id(pos);
	*last_parent = BPF_CORE_READ(pos, parent, cgroup, kn, id);
	return leaf;
}

/*
 * Memory use without page cache. Cache goes away by itself under pressure, so
 * it must not make a victim; shared memory is accounted as file pages but has
 * nowhere to go without swap, so it counts. The numbers are read one after the
 * other while the cgroup runs on, hence the clamp.
 */
static __always_inline u64 oomd_bytes(struct mem_cgroup *memcg)
{
	u64 usage = oomd_usage(memcg);
	u64 file = oomd_page_state(
		memcg, bpf_core_enum_value(enum node_stat_item, NR_FILE_PAGES));
	u64 shmem = oomd_page_state(
		memcg, bpf_core_enum_value(enum node_stat_item, NR_SHMEM));
	u64 cache = file > shmem ? file - shmem : 0;

	return usage > cache ? usage - cache : 0;
}

/*
 * A process that nobody may kill makes its whole leaf untouchable. These are
 * the rules of the kernel's own killer: oom_unkillable_task() and
 * oom_badness() in mm/oom_kill.c.
 */
static __always_inline bool oomd_task_unkillable(struct task_struct *task)
{
	return BPF_CORE_READ(task, tgid) == 1 ||
	       BPF_CORE_READ(task, flags) & PF_KTHREAD ||
	       BPF_CORE_READ(task, signal, oom_score_adj) == OOM_SCORE_ADJ_MIN;
}

/*
 * Pages that end with the process. The group leader's mm is taken: a leader
 * that has exited before its threads shows as zero. The mm is not held, but a
 * read of one that goes away is safe and at worst gives a wrong number.
 */
static __always_inline u64 oomd_task_pages(struct task_struct *task)
{
	s64 anon, shmem;

	if (bpf_core_field_exists(struct mm_struct___before_6_2,
				  rss_stat.count)) {
		struct mm_struct___before_6_2 *mm =
			(void *)BPF_CORE_READ(task, mm);

		anon = BPF_CORE_READ(mm, rss_stat.count[MM_ANONPAGES].counter);
		shmem = BPF_CORE_READ(mm,
				      rss_stat.count[MM_SHMEMPAGES].counter);
	} else {
		anon = BPF_CORE_READ(task, mm, rss_stat[MM_ANONPAGES].count);
		shmem = BPF_CORE_READ(task, mm, rss_stat[MM_SHMEMPAGES].count);
	}
	/* A counter that is not summed up can be below zero. */
	return (anon > 0 ? anon : 0) + (shmem > 0 ? shmem : 0);
}

/*
 * Whether the process has been chosen already. The kfunc is for struct_ops
 * programs only; the ranking, run by user space, reads what is behind it.
 */
static __always_inline bool oomd_task_is_victim(struct task_struct *task,
						bool in_handler)
{
	if (in_handler)
		return bpf_task_is_oom_victim(task);
	return BPF_CORE_READ(task, signal, oom_mm) != NULL;
}

/* What one process means for its leaf. */
static __always_inline void
oomd_count(struct task_struct *task, struct oomd_tally *tally, bool in_handler)
{
	if (oomd_task_unkillable(task))
		tally->unkillable = true;
	else if (oomd_task_is_victim(task, in_handler))
		tally->victims++;
	else
		tally->killable++;
}

/*
 * If the iterator cannot be set up (it allocates), no process is seen. That
 * reads as "nothing to kill here", the safe side.
 */
static __always_inline void
oomd_tally(struct mem_cgroup *memcg, struct oomd_tally *tally, bool in_handler)
{
	struct task_struct *task;

	tally->killable = oomd_zero;
	tally->victims = oomd_zero;
	tally->unkillable = oomd_zero;
	bpf_for_each(css_task, task, &memcg->css, CSS_TASK_ITER_PROCS)
		oomd_count(task, tally, in_handler);
}

#endif /* OOMD_LEAF_BPF_H */
