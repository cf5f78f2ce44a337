/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a policy is written with. A policy is a score function and one line:
 *
 *	#include "policy.bpf.h"
 *
 *	static __always_inline u64 score(const struct oomd_leaf *leaf)
 *	{
 *		return leaf->bytes;
 *	}
 *
 *	OOMD_POLICY(biggest_leaf, "biggest-leaf", score);
 *
 * The leaf with the highest score dies; a score of zero is never chosen, and
 * of equal scores the leaf whose cgroup has the lower id is taken. The function
 * runs under RCU (it must not sleep) and may ask what memcg.bpf.h says about
 * leaf->memcg; the numbers are as fresh as the flush before the walk.
 *
 * OOMD_POLICY() makes programs of it, so that what a simulation shows is what
 * an OOM does, and that both is the same on every kernel:
 *
 *	handle_out_of_memory	the kernel's OOM handler (bpf_oom_ops)
 *	handle_cgroup_offline	forgets the settings of a cgroup that is gone
 *	rank			the same choice without a kill, for user space
 *	flush, rank_stock	that for kernels without the interface, see
 *				stock.bpf.h
 */
#ifndef OOMD_POLICY_BPF_H
#define OOMD_POLICY_BPF_H

#include "kernel.h"
#include "intf.h"
#include "events.bpf.h"
#include "leaf.bpf.h"
#include "settings.bpf.h"
#include "preference.bpf.h"
#include "cooldown.bpf.h"
#include "parameter.bpf.h"
#include "watch.bpf.h"
#include "path.bpf.h"

typedef u64 (*oomd_score_fn)(const struct oomd_leaf *leaf);

/* Written by the ranking program, one run at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OOMD_CANDIDATES_MAX);
	__type(key, u32);
	__type(value, struct oomd_candidate);
} oomd_candidates SEC(".maps");

/* The wording of the kernel's own killer, which log watchers look for. */
static const char oomd_message_system[] = "Out of memory";
static const char oomd_message_memcg[] = "Memory cgroup out of memory";

/* A walk's result. Cgroup ids are never 0. */
struct oomd_choice {
	u64 victim;
	u64 score;
	u64 bytes;
	u64 exiting; /* a leaf with a victim that has not gone yet */
	u32 candidates;
	u32 preference; /* of the victim */
};

/*
 * The verdict on one leaf, the same for a kill and for a ranking. The rest of
 * the candidate is known already.
 */
static __always_inline void oomd_verdict(struct oomd_candidate *candidate,
					 const struct oomd_tally *tally)
{
	candidate->processes = tally->killable;
	if (tally->unkillable)
		candidate->excluded = OOMD_EXCLUDED_UNKILLABLE;
	else if (!tally->killable)
		candidate->excluded = OOMD_EXCLUDED_NO_PROCESS;
	else if (candidate->preference == OOMD_PREFERENCE_OMIT)
		candidate->excluded = OOMD_EXCLUDED_OMITTED;
	else if (!candidate->score)
		candidate->excluded = OOMD_EXCLUDED_SCORE_ZERO;
	else
		candidate->excluded = OOMD_EXCLUDED_NOT;
}

/*
 * Judge one leaf. `pos` is protected by RCU only; what is acquired here is put
 * here, so that no reference lives across a step of the walk. `domain` is the
 * address of the domain's cgroup.
 */
static __always_inline bool oomd_judge(struct cgroup_subsys_state *pos,
				       u64 domain, oomd_score_fn score,
				       bool in_handler,
				       struct oomd_candidate *candidate,
				       struct oomd_tally *tally)
{
	struct oomd_leaf leaf;

	leaf.memcg = bpf_get_mem_cgroup(pos);
	if (!leaf.memcg)
		return false;
	leaf.bytes = oomd_bytes(leaf.memcg);
	candidate->cgroup_id = oomd_css_id(pos);
	candidate->bytes = leaf.bytes;
	candidate->score = score(&leaf);
	oomd_tally(leaf.memcg, tally, in_handler);
	bpf_put_mem_cgroup(leaf.memcg);

	candidate->preference =
		oomd_preference((u64)BPF_CORE_READ(pos, cgroup), domain);
	candidate->reserved = 0;
	oomd_verdict(candidate, tally);
	return true;
}

/*
 * Whether a candidate goes before the one chosen so far: whoever need not be
 * avoided does, then the score counts, then the id, which no other has: so the
 * order in which leaves are visited counts for nothing. Candidate's order in
 * candidate.rs is the same.
 */
static __always_inline bool oomd_better(const struct oomd_candidate *candidate,
					const struct oomd_choice *choice)
{
	if (candidate->preference != choice->preference)
		return candidate->preference < choice->preference;
	if (candidate->score != choice->score)
		return candidate->score > choice->score;
	return candidate->cgroup_id < choice->victim;
}

static __always_inline void oomd_choose(struct mem_cgroup *domain,
					oomd_score_fn score,
					struct oomd_choice *choice)
{
	u64 domain_cgroup = (u64)BPF_CORE_READ(domain, css.cgroup);
	struct cgroup_subsys_state *pos;
	u64 last_parent = oomd_zero;

	choice->victim = oomd_zero;
	choice->score = oomd_zero;
	choice->bytes = oomd_zero;
	choice->exiting = oomd_zero;
	choice->candidates = oomd_zero;
	/* Nobody yet: anybody with a score is better, avoided or not. */
	choice->preference = OOMD_PREFERENCE_AVOID + oomd_zero;
	bpf_rcu_read_lock();
	bpf_for_each(css, pos, &domain->css, BPF_CGROUP_ITER_DESCENDANTS_POST) {
		struct oomd_candidate candidate;
		struct oomd_tally tally;

		if (!oomd_next_is_leaf(&last_parent, pos))
			continue;
		if (!oomd_judge(pos, domain_cgroup, score, true, &candidate,
				&tally))
			continue;
		if (tally.victims)
			choice->exiting = candidate.cgroup_id;
		if (candidate.excluded != OOMD_EXCLUDED_NOT)
			continue;
		choice->candidates++;
		if (oomd_better(&candidate, choice)) {
			choice->victim = candidate.cgroup_id;
			choice->score = candidate.score;
			choice->bytes = candidate.bytes;
			choice->preference = candidate.preference;
		}
	}
	bpf_rcu_read_unlock();
}

/*
 * A memory cgroup of the domain by its id. A second walk, because a reference
 * taken in the first one would have to be carried from step to step, which the
 * verifier does not follow; and not bpf_cgroup_from_id(), which sees only the
 * cgroup namespace of whoever happened to allocate.
 */
static __always_inline struct mem_cgroup *oomd_find(struct mem_cgroup *domain,
						    u64 id)
{
	struct cgroup_subsys_state *pos;
	struct mem_cgroup *found = NULL;

	bpf_rcu_read_lock();
	bpf_for_each(css, pos, &domain->css, BPF_CGROUP_ITER_DESCENDANTS_POST) {
		if (oomd_css_id(pos) == id) {
			found = bpf_get_mem_cgroup(pos);
			break;
		}
	}
	bpf_rcu_read_unlock();
	return found;
}

static __always_inline bool oomd_kill_task(struct oom_control *oc,
					   struct task_struct *task)
{
	if (oc->memcg)
		return !bpf_oom_kill_process(oc, task, oomd_message_memcg);
	return !bpf_oom_kill_process(oc, task, oomd_message_system);
}

/*
 * Kill a victim that is exiting once more: that marks progress and costs
 * nobody's life. Returns when it was started; 0 if the kernel refuses, which it
 * does for a victim that has nothing left to give.
 */
static __always_inline u64 oomd_kill_again(struct oom_control *oc,
					   struct mem_cgroup *domain,
					   u64 exiting)
{
	struct task_struct *task;
	struct mem_cgroup *memcg;
	u64 start = 0;

	memcg = oomd_find(domain, exiting);
	if (!memcg)
		return 0;
	bpf_for_each(css_task, task, &memcg->css, CSS_TASK_ITER_PROCS) {
		if (bpf_task_is_oom_victim(task) && oomd_kill_task(oc, task)) {
			start = task->start_time;
			break;
		}
	}
	bpf_put_mem_cgroup(memcg);
	return start;
}

/* The process with the most resident memory, 0 if there is none. */
static __always_inline int oomd_largest(struct mem_cgroup *victim)
{
	struct task_struct *task;
	u64 largest_pages = oomd_zero;
	int largest = oomd_zero;

	bpf_for_each(css_task, task, &victim->css, CSS_TASK_ITER_PROCS) {
		u64 pages;

		if (bpf_task_is_oom_victim(task))
			continue;
		pages = oomd_task_pages(task);
		if (!largest || pages > largest_pages) {
			largest = task->tgid;
			largest_pages = pages;
		}
	}
	return largest;
}

/*
 * Describe who is to die: every process, or only the process `only`. Before any
 * kill, because a first kill may take others with it (memory.oom.group, a
 * shared mm), and they should be in the record too.
 */
static __always_inline void oomd_describe(struct mem_cgroup *victim, int only,
					  struct oomd_kill_event *event)
{
	struct task_struct *task;

	bpf_for_each(css_task, task, &victim->css, CSS_TASK_ITER_PROCS) {
		u32 n;

		if (only && task->tgid != only)
			continue;
		if (bpf_task_is_oom_victim(task))
			continue;
		event->processes_total++;
		/*
		 * The count lives in the event, not in a variable: the
		 * verifier would follow a variable used as an index through
		 * every value, one round after the other.
		 */
		n = event->processes_len;
		if (n >= OOMD_PROCESSES_MAX)
			continue;
		event->processes[n].pid = task->tgid;
		event->processes[n].reserved = 0;
		event->processes[n].pages = oomd_task_pages(task);
		bpf_probe_read_kernel_str(event->processes[n].comm,
					  OOMD_COMM_LEN, task->comm);
		event->processes_len = n + 1;
	}
}

/*
 * Kill every process of the victim, or only the process `only`. Returns how
 * many were. A process that leaves meanwhile is refused by the kernel, which is
 * fine; one that becomes a victim with another is not killed again.
 */
static __always_inline u32 oomd_kill(struct oom_control *oc,
				     struct mem_cgroup *victim, int only)
{
	struct task_struct *task;
	u32 killed = oomd_zero;

	bpf_for_each(css_task, task, &victim->css, CSS_TASK_ITER_PROCS) {
		if (only && task->tgid != only)
			continue;
		if (bpf_task_is_oom_victim(task))
			continue;
		if (oomd_kill_task(oc, task))
			killed++;
	}
	return killed;
}

static __always_inline u32 oomd_act(struct oom_control *oc,
				    struct mem_cgroup *victim, u32 kill,
				    struct oomd_kill_event *event)
{
	u32 killed;
	int only = 0;

	if (kill == OOMD_KILL_PROCESS) {
		only = oomd_largest(victim);
		if (!only)
			return 0;
	}
	if (event)
		oomd_describe(victim, only, event);
	killed = oomd_kill(oc, victim, only);
	/*
	 * Once more for a child that was being born while its parent died: a
	 * fork past its last look at pending signals adds the child behind the
	 * iterator.
	 */
	if (killed && !only)
		killed += oomd_kill(oc, victim, 0);
	return killed;
}

/* Say who declared the OOM. */
static __always_inline void oomd_why(struct oom_control *oc, u64 domain,
				     struct oomd_kill_event *event)
{
	__builtin_memset(&event->stall, 0, sizeof(event->stall));
	event->reason = OOMD_REASON_ALLOCATION;
	if (oc->order == OOMD_ORDER_SYSRQ)
		event->reason = OOMD_REASON_SYSRQ;
	if (!oc->bpf_constraint)
		return;
	event->reason = OOMD_REASON_PRESSURE;
	oomd_stall_of(domain, &event->stall);
}

static __always_inline int oomd_handle(struct bpf_oom_ctx *octx,
				       struct oom_control *oc,
				       oomd_score_fn score, const char *policy)
{
	u64 attachment = octx->cgroup_id;
	u64 began = bpf_ktime_get_ns();
	struct mem_cgroup *memcg = oc->memcg;
	struct oomd_kill_event *event;
	struct mem_cgroup *domain, *victim;
	struct oomd_choice choice;
	u64 domain_cgroup, domain_key, victim_cgroup;
	u64 exiting = 0;
	u32 killed = 0;
	u32 kill;

	if (memcg)
		domain = bpf_get_mem_cgroup(&memcg->css);
	else
		domain = bpf_get_root_mem_cgroup();
	if (!domain)
		return 0;

	domain_cgroup = (u64)BPF_CORE_READ(domain, css.cgroup);
	domain_key = oomd_key(domain_cgroup);
	if (oomd_left_to_kernel(domain_cgroup, attachment))
		goto out;

	bpf_mem_cgroup_flush_stats(domain);
	oomd_choose(domain, score, &choice);

	/* Wait for a victim instead of killing a second time. */
	if (choice.exiting)
		exiting = oomd_kill_again(oc, domain, choice.exiting);
	if (exiting &&
	    oomd_cooldown_lasts(domain_key, oomd_cooldown(domain_cgroup),
				choice.exiting, exiting))
		goto out;

	/*
	 * No candidate: the kernel's killer decides, unless there is a victim
	 * that can still be waited for.
	 */
	if (!choice.victim)
		goto out;
	victim = oomd_find(domain, choice.victim);
	if (!victim)
		goto out;
	victim_cgroup = (u64)BPF_CORE_READ(victim, css.cgroup);
	kill = oomd_kill_said(victim_cgroup);

	event = oomd_event_begin(struct oomd_kill_event);
	if (event) {
		oomd_event_header(&event->header, OOMD_EVENT_KILL, policy);
		event->domain = domain_key;
		event->attachment = attachment;
		event->victim = choice.victim;
		event->usage_before = bpf_mem_cgroup_usage(domain);
		event->victim_score = choice.score;
		event->victim_bytes = choice.bytes;
		event->candidates = choice.candidates;
		event->preference = choice.preference;
		event->kill = kill;
		event->reserved = 0;
		oomd_why(oc, domain_key, event);
		oomd_path_of(domain_cgroup, &event->domain_path);
		oomd_path_of(victim_cgroup, &event->victim_path);
		event->processes_total = 0;
		event->processes_len = 0;
	}
	killed = oomd_act(oc, victim, kill, event);
	bpf_put_mem_cgroup(victim);
	if (killed)
		oomd_cooldown_begin(domain_key, choice.victim);
	if (event) {
		event->killed = killed;
		event->handler_ns = bpf_ktime_get_ns() - began;
		if (killed)
			bpf_ringbuf_submit(event, 0);
		else
			bpf_ringbuf_discard(event, 0);
	}
out:
	bpf_put_mem_cgroup(domain);
	return killed > 0 || exiting > 0;
}

static __always_inline void oomd_forget(u64 cgroup_id, const char *policy)
{
	struct oomd_offline_event *event;

	bpf_map_delete_elem(&oomd_settings, &cgroup_id);
	event = oomd_event_begin(struct oomd_offline_event);
	if (!event)
		return;
	oomd_event_header(&event->header, OOMD_EVENT_CGROUP_OFFLINE, policy);
	event->cgroup_id = cgroup_id;
	bpf_ringbuf_submit(event, 0);
}

/*
 * The domain of a ranking. Here bpf_cgroup_from_id() is right: current is the
 * daemon, which sees the whole tree.
 */
static __always_inline struct mem_cgroup *oomd_ranking_domain(u64 cgroup_id)
{
	struct mem_cgroup *memcg;
	struct cgroup *cgroup;

	if (!cgroup_id)
		return bpf_get_root_mem_cgroup();
	cgroup = bpf_cgroup_from_id(cgroup_id);
	if (!cgroup)
		return NULL;
	memcg = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	return memcg;
}

static __always_inline int oomd_rank(struct oomd_ranking *ranking,
				     oomd_score_fn score)
{
	struct cgroup_subsys_state *pos;
	struct mem_cgroup *domain;
	u64 domain_cgroup;
	u64 last_parent = oomd_zero;
	u64 leaves = oomd_zero;

	domain = oomd_ranking_domain(ranking->domain);
	if (!domain)
		return -ENOENT;
	domain_cgroup = (u64)BPF_CORE_READ(domain, css.cgroup);
	bpf_mem_cgroup_flush_stats(domain);
	bpf_rcu_read_lock();
	bpf_for_each(css, pos, &domain->css, BPF_CGROUP_ITER_DESCENDANTS_POST) {
		struct oomd_candidate candidate;
		struct oomd_candidate *slot;
		struct oomd_tally tally;
		u32 index = leaves;

		if (!oomd_next_is_leaf(&last_parent, pos))
			continue;
		if (!oomd_judge(pos, domain_cgroup, score, false, &candidate,
				&tally))
			continue;
		slot = bpf_map_lookup_elem(&oomd_candidates, &index);
		if (slot)
			*slot = candidate;
		leaves++;
	}
	bpf_rcu_read_unlock();
	bpf_put_mem_cgroup(domain);
	ranking->leaves = leaves;
	return 0;
}

#include "stock.bpf.h"

#define OOMD_POLICY(ident, policy_name, score)                                 \
	_Static_assert(sizeof(policy_name) <= OOMD_POLICY_NAME_LEN,            \
		       "a policy's name has at most 63 bytes");                \
	static const char oomd_policy_name[OOMD_POLICY_NAME_LEN] =             \
		policy_name;                                                   \
                                                                               \
	SEC("struct_ops.s/handle_out_of_memory")                               \
	int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *octx,           \
		     struct oom_control *oc)                                   \
	{                                                                      \
		return oomd_handle(octx, oc, score, oomd_policy_name);         \
	}                                                                      \
                                                                               \
	SEC("struct_ops/handle_cgroup_offline")                                \
	void BPF_PROG(handle_cgroup_offline, struct bpf_oom_ctx *octx,         \
		      u64 cgroup_id)                                           \
	{                                                                      \
		oomd_forget(cgroup_id, oomd_policy_name);                      \
	}                                                                      \
                                                                               \
	SEC("syscall")                                                         \
	int rank(struct oomd_ranking *ranking)                                 \
	{                                                                      \
		return oomd_rank(ranking, score);                              \
	}                                                                      \
                                                                               \
	SEC("syscall")                                                         \
	int locate(void *ctx)                                                  \
	{                                                                      \
		return oomd_locate();                                          \
	}                                                                      \
                                                                               \
	SEC("iter.s/task")                                                     \
	int flush(struct bpf_iter__task *ctx)                                  \
	{                                                                      \
		return oomd_flush(ctx);                                        \
	}                                                                      \
                                                                               \
	static int oomd_stock_step(u32 round, struct oomd_stock_walk *walk)    \
	{                                                                      \
		return oomd_stock_visit(walk, score);                          \
	}                                                                      \
                                                                               \
	SEC("iter/task")                                                       \
	int rank_stock(struct bpf_iter__task *ctx)                             \
	{                                                                      \
		return oomd_stock_rank(ctx, oomd_stock_step);                  \
	}                                                                      \
                                                                               \
	SEC(".struct_ops.link")                                                \
	struct bpf_oom_ops ident = {                                           \
		.handle_out_of_memory = (void *)handle_out_of_memory,          \
		.handle_cgroup_offline = (void *)handle_cgroup_offline,        \
		.name = policy_name,                                           \
	};                                                                     \
                                                                               \
	char _license[] SEC("license") = "GPL"

#endif /* OOMD_POLICY_BPF_H */
