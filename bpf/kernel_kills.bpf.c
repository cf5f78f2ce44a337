// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records of kills by the kernel's own killer, which nobody else makes: where
 * no policy is said, where the kernel is left to decide, and where a policy
 * found nobody.
 *
 * Three programs make one record. All kills, those by policies too, go through
 * oom_kill_process() and there one after the other, because the kernel holds
 * its oom_lock meanwhile; so the record that is being made is a global.
 *
 *	fentry	who is chosen, in which domain and why. Nothing if it is a
 *		policy that kills: it makes its own record.
 *	tracepoint	each process that is killed; with memory.oom.group there
 *		are several.
 *	fexit	sends the record, if there was a kill: a process that is on its
 *		way out already is only helped to get there.
 *
 * Needs a kernel in which that function has not been inlined, and in which the
 * tracepoint has a task as its argument. Debian's are like that, from 6.1 on;
 * in other old ones it has a process id. A kernel without OOM handlers has
 * nobody else who kills by that function.
 */
#include "kernel.h"
#include "intf.h"
#include "events.bpf.h"
#include "leaf.bpf.h"
#include "settings.bpf.h"
#include "watch.bpf.h"
#include "path.bpf.h"

char _license[] SEC("license") = "GPL";

/* There is no policy. */
static const char oomd_no_policy[OOMD_POLICY_NAME_LEN];

/* Too large for the stack, and needed by all three. */
static struct oomd_kernel_kill_event oomd_record;

/* Whether it is being made. */
static bool oomd_recording;

/* The memory cgroups whose kills are counted, by their css, and the count. */
static u64 oomd_counted[2];
static u64 oomd_kills_before;

static __always_inline u64 oomd_kills_of(u64 css)
{
	struct mem_cgroup *memcg = oomd_memcg_of(css);
	/* How many there are differs from kernel to kernel. */
	u64 *events =
		(u64 *)__builtin_preserve_access_index(&memcg->memory_events);
	u64 item = bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL);
	u64 count = 0;

	if (css)
		bpf_probe_read_kernel(&count, sizeof(count), events + item);
	return count;
}

static __always_inline u64 oomd_kills(void)
{
	return oomd_kills_of(oomd_counted[0]) + oomd_kills_of(oomd_counted[1]);
}

/*
 * The memory cgroup that dies whole if a process in the one with this css is
 * killed, as mem_cgroup_get_oom_group() says: the highest in the domain that
 * has memory.oom.group. 0 if there is none. A domain of 0 is the system. A
 * global function, see settings.bpf.h.
 */
__noinline u64 oomd_oom_group(u64 css, u64 domain)
{
	u64 group = 0;
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && css; level++) {
		if (BPF_CORE_READ(oomd_memcg_of(css), oom_group))
			group = css;
		if (css == domain)
			return group;
		css = (u64)BPF_CORE_READ((struct cgroup_subsys_state *)css,
					 parent);
	}
	return domain ? 0 : group;
}

/* Without the kernel's functions it is told in pages. */
static __always_inline u64 oomd_system_usage(void)
{
	struct mem_cgroup *root;
	u64 usage;

	if (!oomd_has_memcg_kfuncs())
		return 0;
	root = bpf_get_root_mem_cgroup();
	if (!root)
		return 0;
	usage = bpf_mem_cgroup_usage(root);
	bpf_put_mem_cgroup(root);
	return usage;
}

/*
 * Of the system. Its own memory cgroup has no name here; the one that dies is
 * somewhere below it.
 */
static __always_inline s64 oomd_system_pages(struct oom_control *oc)
{
	u64 css = oomd_memory_css(BPF_CORE_READ(oc, chosen));
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && css; level++) {
		struct cgroup_subsys_state *pos =
			(struct cgroup_subsys_state *)css;
		u64 parent = (u64)BPF_CORE_READ(pos, parent);

		if (!parent)
			return BPF_CORE_READ(oomd_memcg_of(css),
					     memory.usage.counter);
		css = parent;
	}
	return 0;
}

/* What ran out, how much it used, and why that is an OOM. */
static __always_inline void oomd_describe_domain(struct oom_control *oc,
						 struct mem_cgroup *memcg)
{
	struct oomd_kernel_kill_event *record = &oomd_record;
	u64 cgroup = (u64)BPF_CORE_READ(memcg, css.cgroup);
	s64 pages;

	if (memcg)
		pages = BPF_CORE_READ(memcg, memory.usage.counter);
	else
		pages = oomd_has_memcg_kfuncs() ? 0 : oomd_system_pages(oc);
	record->domain = memcg ? oomd_key(cgroup) : 0;
	record->usage_pages = pages > 0 ? pages : 0;
	record->usage_bytes = memcg ? 0 : oomd_system_usage();
	oomd_path_of(cgroup, &record->domain_path);
	__builtin_memset(&record->stall, 0, sizeof(record->stall));
	record->reason = OOMD_REASON_ALLOCATION;
	if (BPF_CORE_READ(oc, order) == OOMD_ORDER_SYSRQ)
		record->reason = OOMD_REASON_SYSRQ;
	if (bpf_core_field_exists(oc->bpf_constraint) &&
	    BPF_CORE_READ(oc, bpf_constraint)) {
		record->reason = OOMD_REASON_PRESSURE;
		oomd_stall_of(record->domain, &record->stall);
	}
}

/* Who is chosen, and whether others die with it. */
static __always_inline void oomd_describe_victim(struct oom_control *oc,
						 struct mem_cgroup *memcg)
{
	struct oomd_kernel_kill_event *record = &oomd_record;
	struct task_struct *chosen = BPF_CORE_READ(oc, chosen);
	u64 domain = memcg ? (u64)&memcg->css : 0;
	u64 css = oomd_memory_css(chosen);
	u64 group = oomd_oom_group(css, domain);
	u64 cgroup;

	/* Without a memory controller of its own it is in one all the same. */
	if (group)
		cgroup = (u64)BPF_CORE_READ(oomd_memcg_of(group), css.cgroup);
	else
		cgroup = (u64)BPF_CORE_READ(chosen, cgroups, dfl_cgrp);
	record->victim = BPF_CORE_READ((struct cgroup *)cgroup, kn, id);
	oomd_path_of(cgroup, &record->victim_path);
	record->kill = group ? OOMD_KILL_CGROUP : OOMD_KILL_PROCESS;
	record->victim_score = BPF_CORE_READ(oc, chosen_points);
	record->oom_score_adj = BPF_CORE_READ(chosen, signal, oom_score_adj);
	oomd_counted[0] = css;
	oomd_counted[1] = group;
	oomd_kills_before = oomd_kills();
}

SEC("fentry/oom_kill_process")
int BPF_PROG(oomd_choose, struct oom_control *oc)
{
	struct oomd_kernel_kill_event *record = &oomd_record;
	struct mem_cgroup *memcg = BPF_CORE_READ(oc, memcg);

	/* Set while a policy is asked, and not afterwards. */
	if (bpf_core_field_exists(oc->bpf_policy_name) &&
	    BPF_CORE_READ(oc, bpf_policy_name))
		return 0;
	oomd_event_header(&record->header, OOMD_EVENT_KERNEL_KILL,
			  oomd_no_policy);
	oomd_describe_domain(oc, memcg);
	oomd_describe_victim(oc, memcg);
	record->victim_pages = 0;
	record->processes_total = 0;
	record->processes_len = 0;
	oomd_recording = true;
	return 0;
}

/*
 * The task is a thread that has still got the memory, and keeps it meanwhile.
 * The process that was chosen comes first, and, with memory.oom.group, may come
 * a second time by another thread.
 */
SEC("tp_btf/mark_victim")
int BPF_PROG(oomd_mark, struct task_struct *task)
{
	struct oomd_kernel_kill_event *record = &oomd_record;
	struct task_struct *leader;
	u32 pid = task->tgid;
	u64 pages;
	u32 n;

	if (!oomd_recording)
		return 0;
	if (record->processes_len && record->processes[0].pid == pid)
		return 0;
	pages = oomd_task_pages(task);
	record->processes_total++;
	record->victim_pages += pages;
	n = record->processes_len;
	if (n >= OOMD_PROCESSES_MAX)
		return 0;
	leader = BPF_CORE_READ(task, group_leader);
	record->processes[n].pid = pid;
	record->processes[n].reserved = 0;
	record->processes[n].pages = pages;
	bpf_probe_read_kernel_str(record->processes[n].comm, OOMD_COMM_LEN,
				  leader->comm);
	record->processes_len = n + 1;
	return 0;
}

SEC("fexit/oom_kill_process")
int BPF_PROG(oomd_chosen, struct oom_control *oc)
{
	if (!oomd_recording)
		return 0;
	oomd_recording = false;
	if (oomd_kills() == oomd_kills_before)
		return 0;
	if (bpf_ringbuf_output(&oomd_events, &oomd_record, sizeof(oomd_record),
			       0))
		oomd_count_lost();
	return 0;
}
