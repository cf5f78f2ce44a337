// SPDX-License-Identifier: GPL-2.0-only
/*
 * An OOM handler that does what the test tells it to, and writes down what
 * happened: every call with attachment and domain, and the result of every
 * kill.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define CALLS	 1024
#define TARGETS	 8
#define NOWHERE	 (~0ULL)
#define ANYWHERE (~1ULL)

/* ---- what the test wants ---- */

/* The attachment that kills: a cgroup id, 0 for the system's. */
u64 kill_at = NOWHERE;
/* Whom, in this order, until one kill succeeds; 0 is skipped. */
u64 targets[TARGETS];
/* What a handler returns that killed, and one that did not. */
u64 answer_killed = 1;
u64 answer_idle;
/* Stay in the handler until `release`, for at most so many nanoseconds. */
u64 hold_ns;
u64 release;

/* ---- what happened ---- */

u64 calls;
u64 call_attachment[CALLS];
u64 call_domain[CALLS];
u64 call_freed_before[CALLS];
u64 call_freed_after[CALLS];
u64 holding;

/* Per target, of the last call that tried it. */
u64 kill_tries[TARGETS];
s64 kill_result[TARGETS];
u64 victim_before[TARGETS];
u64 victim_after[TARGETS];

u64 offlines;
u64 offline_attachment[CALLS];
u64 offline_cgroup[CALLS];

static int wait_for_release(u64 turn, u64 *deadline)
{
	return release || bpf_ktime_get_ns() > *deadline;
}

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	u64 call = __sync_fetch_and_add(&calls, 1) % CALLS;
	struct mem_cgroup *domain = oc->memcg;
	u64 answer = answer_idle;

	call_attachment[call] = attachment->cgroup_id;
	call_domain[call] = domain ? domain->css.cgroup->kn->id : 0;
	call_freed_before[call] = oc->bpf_memory_freed;

	if (hold_ns) {
		u64 deadline = bpf_ktime_get_ns() + hold_ns;

		holding = 1;
		/* One loop may be over too soon on a fast machine. */
		for (int i = 0; i < 8; i++)
			bpf_loop(1 << 23, wait_for_release, &deadline, 0);
		holding = 0;
	}

	if (kill_at == ANYWHERE || kill_at == attachment->cgroup_id) {
		for (int i = 0; i < TARGETS; i++) {
			struct task_struct *task;
			int result;

			if (!targets[i])
				continue;
			task = bpf_task_from_pid(targets[i]);
			if (!task)
				continue;
			kill_tries[i]++;
			victim_before[i] = bpf_task_is_oom_victim(task);
			result = bpf_oom_kill_process(oc, task,
						      "conformance test");
			kill_result[i] = result;
			victim_after[i] = bpf_task_is_oom_victim(task);
			bpf_task_release(task);
			if (!result) {
				answer = answer_killed;
				break;
			}
		}
	}
	call_freed_after[call] = oc->bpf_memory_freed;
	return answer;
}

SEC("struct_ops/handle_cgroup_offline")
void BPF_PROG(handle_cgroup_offline, struct bpf_oom_ctx *attachment,
	      u64 cgroup_id)
{
	u64 call = __sync_fetch_and_add(&offlines, 1) % CALLS;

	offline_attachment[call] = attachment->cgroup_id;
	offline_cgroup[call] = cgroup_id;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
	.handle_cgroup_offline = (void *)handle_cgroup_offline,
	.name = "conformance",
};

SEC(".struct_ops.link")
struct bpf_oom_ops nameless = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};

/* A name that would forge a line of the kernel log. */
SEC(".struct_ops.link")
struct bpf_oom_ops ill_named = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
	.name = "a\nb",
};

/* 64 characters, so no room for the NUL. */
SEC(".struct_ops.link")
struct bpf_oom_ops long_named = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
	.name = "01234567890123456789012345678901234567890123456789012345678901"
		"23",
};

/* Registration itself would attach, without a link to detach by. */
SEC(".struct_ops")
struct bpf_oom_ops linkless = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};

SEC(".struct_ops.link")
struct bpf_oom_ops without_handler = {
	.name = "nothing",
};
