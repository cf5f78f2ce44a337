/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A policy's ranking on kernels without bpf_oom_ops, from 6.1 on. It is run
 * when memory is nearly gone, by a process that must not wait for anything that
 * waits for memory. So:
 *
 * It goes over the processes, under RCU, as the kernel's own killer does, and
 * not over the cgroups: the iterator over those takes the lock under which
 * cgroups are made, by tasks that may be stalled in the middle of it. The
 * cgroups that matter are found all the same: who has no process cannot die.
 *
 * And it does so within one step of an iterator, which is then told to come
 * again with the same task. So the iterator never gets anywhere and its file
 * descriptor, with its memory, is used again and again. The walk itself
 * follows the kernel's list of processes.
 *
 * Needs what policy.bpf.h has by the time it includes this file.
 */
#ifndef OOMD_STOCK_BPF_H
#define OOMD_STOCK_BPF_H

/* What an iterator program returns to be shown the same object again. */
#define OOMD_AGAIN 1

/* Processes that there can be: PID_MAX_LIMIT. */
#define OOMD_PROCESSES_IN_SYSTEM (4 * 1024 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct oomd_stock_run);
} oomd_stock_run SEC(".maps");

/*
 * The leaves seen in this run: by cgroup id, where among the candidates.
 * Preallocated.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OOMD_STOCK_LEAVES_MAX);
	__type(key, u64);
	__type(value, u32);
} oomd_stock_leaves SEC(".maps");

struct bpf_map;

struct oomd_stock_walk {
	u64 task;
	u64 first; /* where the walk began, and so ends */
	u64 domain;
	u64 leaves;
};

static __always_inline struct oomd_stock_run *oomd_stock_run_now(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&oomd_stock_run, &zero);
}

/*
 * Find what the kernel tells by its address alone; once, before anything else.
 * As a symbol of the program libbpf would look for it in /proc/kallsyms, which
 * a service need not see (ProtectKernelTunables=), and take it for missing.
 * Returns an error if it is there and the kernel does not tell.
 */
static __always_inline int oomd_locate(void)
{
	static const char name[] = OOMD_STATS_INDEX;
	struct memcg_vmstats *vmstats = NULL;
	u64 address = 0;
	long error;

	if (oomd_has_memcg_kfuncs() ||
	    bpf_core_field_size(vmstats->state) / sizeof(long) >=
		    bpf_core_enum_value(enum memcg_stat_item, MEMCG_NR_STAT))
		return 0;
	error = bpf_kallsyms_lookup_name(name, sizeof(name), 0, &address);
	oomd_stats_index = address;
	return error;
}

/*
 * Bring the statistics of the domain up to date. By the way that this kernel
 * has; without any they are two seconds old at most, by when the kernel does it
 * by itself. 6.1 has no way to get at the domain here, and all cgroups are
 * flushed.
 */
static __always_inline int oomd_flush(struct bpf_iter__task *ctx)
{
	struct oomd_stock_run *run = oomd_stock_run_now();
	struct task_struct *task = ctx->task;
	struct cgroup *cgroup;

	if (!task || !run)
		return 0;
	if (bpf_ksym_exists(bpf_mem_cgroup_flush_stats)) {
		struct mem_cgroup *domain = oomd_ranking_domain(run->domain);

		if (domain) {
			bpf_mem_cgroup_flush_stats(domain);
			bpf_put_mem_cgroup(domain);
		}
	} else if (!bpf_core_field_exists(struct cgroup___before_6_16,
					  rstat_css_list)) {
		return OOMD_AGAIN;
	} else if (bpf_ksym_exists(bpf_cgroup_from_id)) {
		u64 id = run->domain;

		if (!id)
			id = BPF_CORE_READ(task, cgroups, dfl_cgrp, root,
					   cgrp.kn, id);
		cgroup = bpf_cgroup_from_id(id);
		if (cgroup) {
			cgroup_rstat_flush(cgroup);
			bpf_cgroup_release(cgroup);
		}
	} else {
		struct cgroup_root *root = NULL;
		struct css_set *cgroups = task->cgroups;

		cgroup = cgroups ? cgroups->dfl_cgrp : NULL;
		if (cgroup)
			root = cgroup->root;
		if (root)
			cgroup_rstat_flush(&root->cgrp);
	}
	return OOMD_AGAIN;
}

/*
 * The cgroup of the domain, if the memory cgroup with this css is in it, and
 * else 0. It is looked for from the root down, where units are, and not from
 * the leaf up: whoever has been given a cgroup makes what is in it as deep as
 * they like, and is not to be out of reach there. A global function, see
 * settings.bpf.h.
 */
__noinline u64 oomd_stock_domain(u64 css, u64 domain)
{
	struct cgroup *leaf =
		BPF_CORE_READ((struct cgroup_subsys_state *)css, cgroup);
	/* An array without an end: by address, for CO-RE. */
	struct cgroup **ancestors =
		(struct cgroup **)__builtin_preserve_access_index(
			&leaf->ancestors);
	int levels = BPF_CORE_READ(leaf, level);
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && level <= levels; level++) {
		struct cgroup *ancestor = NULL;

		bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
				      ancestors + level);
		if (!domain || BPF_CORE_READ(ancestor, kn, id) == domain)
			return (u64)ancestor;
	}
	return 0;
}

/*
 * Whether a memory cgroup is online and has no child that is. The kernel keeps
 * the count of both in one, so that no parent goes offline before a child.
 */
static __always_inline bool oomd_stock_is_leaf(u64 css)
{
	struct cgroup_subsys_state *pos = (struct cgroup_subsys_state *)css;

	return BPF_CORE_READ(pos, flags) & CSS_ONLINE &&
	       BPF_CORE_READ(pos, online_cnt.counter) == 1;
}

/* What the leaf uses, and what the policy thinks of it. */
static __always_inline bool oomd_stock_measure(u64 css, oomd_score_fn score,
					       struct oomd_candidate *candidate)
{
	struct oomd_leaf leaf;

	if (!oomd_has_memcg_kfuncs()) {
		leaf.memcg = oomd_memcg_of(css);
		leaf.bytes = oomd_bytes(leaf.memcg);
		candidate->bytes = leaf.bytes;
		candidate->score = score(&leaf);
		return true;
	}
	leaf.memcg = oomd_ranking_domain(candidate->cgroup_id);
	if (!leaf.memcg)
		return false;
	leaf.bytes = oomd_bytes(leaf.memcg);
	candidate->bytes = leaf.bytes;
	candidate->score = score(&leaf);
	bpf_put_mem_cgroup(leaf.memcg);
	return true;
}

/* The candidate of a leaf that is met for the first time, NULL if it is none.
 */
static __always_inline struct oomd_candidate *
oomd_stock_meet(struct oomd_stock_walk *walk, u64 css, u64 id,
		oomd_score_fn score)
{
	struct cgroup_subsys_state *pos = (struct cgroup_subsys_state *)css;
	struct oomd_candidate *candidate;
	u32 index = walk->leaves;
	u64 domain;

	if (!oomd_stock_is_leaf(css))
		return NULL;
	domain = oomd_stock_domain(css, walk->domain);
	if (!domain)
		return NULL;
	walk->leaves++;
	bpf_map_update_elem(&oomd_stock_leaves, &id, &index, BPF_ANY);
	candidate = bpf_map_lookup_elem(&oomd_candidates, &index);
	if (!candidate)
		return NULL;
	candidate->cgroup_id = id;
	candidate->processes = 0;
	candidate->reserved = 0;
	candidate->excluded = OOMD_EXCLUDED_NO_PROCESS;
	candidate->preference =
		oomd_preference((u64)BPF_CORE_READ(pos, cgroup), domain);
	/* Gone meanwhile: nobody who could die. */
	if (!oomd_stock_measure(css, score, candidate)) {
		candidate->bytes = 0;
		candidate->score = 0;
	}
	return candidate;
}

/*
 * One process. Its leaf is judged anew each time; the last verdict is the one
 * that all processes have part in.
 */
static __always_inline void oomd_stock_judge(struct oomd_stock_walk *walk,
					     struct task_struct *task,
					     oomd_score_fn score)
{
	struct oomd_candidate *candidate;
	struct oomd_tally tally = {};
	u32 *index;
	u64 css, id;

	/* init_task is where the list begins; the others have exited. */
	if (!BPF_CORE_READ(task, tgid) ||
	    BPF_CORE_READ(task, signal, live.counter) <= 0)
		return;
	css = oomd_memory_css(task);
	id = oomd_css_id((struct cgroup_subsys_state *)css);
	index = bpf_map_lookup_elem(&oomd_stock_leaves, &id);
	if (index)
		candidate = bpf_map_lookup_elem(&oomd_candidates, index);
	else
		candidate = oomd_stock_meet(walk, css, id, score);
	if (!candidate)
		return;
	tally.killable = candidate->processes;
	tally.unkillable = candidate->excluded == OOMD_EXCLUDED_UNKILLABLE;
	oomd_count(task, &tally, false);
	oomd_verdict(candidate, &tally);
}

/* One step of the walk; whether it was the last. */
static __always_inline int oomd_stock_visit(struct oomd_stock_walk *walk,
					    oomd_score_fn score)
{
	struct task_struct *task = (struct task_struct *)walk->task;
	u64 next;

	oomd_stock_judge(walk, task, score);
	next = (u64)BPF_CORE_READ(task, tasks.next);
	if (!next)
		return 1;
	walk->task = next - bpf_core_field_offset(struct task_struct, tasks);
	return walk->task == walk->first;
}

static long oomd_stock_forget(struct bpf_map *map, u64 *id, u32 *index,
			      void *unused)
{
	u64 key = *id;

	bpf_map_delete_elem(&oomd_stock_leaves, &key);
	return 0;
}

static __always_inline int
oomd_stock_rank(struct bpf_iter__task *ctx,
		int (*step)(u32 round, struct oomd_stock_walk *walk))
{
	struct oomd_stock_run *run = oomd_stock_run_now();
	struct oomd_stock_walk walk = {};
	struct task_struct *task = ctx->task;

	if (!task || !run)
		return 0;
	/* Its process, read as a number: the verifier watches over pointers. */
	walk.task = (u64)BPF_CORE_READ(task, group_leader);
	walk.first = walk.task;
	walk.domain = run->domain;
	oomd_page_size = run->page_size;
	bpf_for_each_map_elem(&oomd_stock_leaves, oomd_stock_forget, NULL, 0);
	bpf_loop(OOMD_PROCESSES_IN_SYSTEM, step, &walk, 0);
	run->leaves = walk.leaves;
	if (walk.task == walk.first)
		run->answered = run->asked;
	return OOMD_AGAIN;
}

#endif /* OOMD_STOCK_BPF_H */
