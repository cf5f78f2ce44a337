// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looks, at the moment when a new process is about to run for the first time,
 * whether its cgroup has a pressure trigger. Of cgroups directly below one.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define RECORDS 64
/* PSI_MEM_FULL */
#define STATE 3

struct psi_group___triggers {
	u32 rtpoll_nr_triggers[1];
} __attribute__((preserve_access_index));

struct cgroup___psi {
	struct psi_group___triggers *psi;
} __attribute__((preserve_access_index));

/* The cgroup above those that are looked at. */
u64 above;

u64 processes;
u64 cgroup_id[RECORDS];
u64 triggers[RECORDS];

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(first_run, struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup___psi *with_psi = (void *)cgroup;
	struct psi_group___triggers *psi;
	u32 *counts, count = 0;
	u64 record;

	if (!above ||
	    BPF_CORE_READ(cgroup, self.parent, cgroup, kn, id) != above)
		return 0;
	psi = BPF_CORE_READ(with_psi, psi);
	counts = (u32 *)__builtin_preserve_access_index(
		&psi->rtpoll_nr_triggers);
	bpf_probe_read_kernel(&count, sizeof(count), counts + STATE);
	record = __sync_fetch_and_add(&processes, 1) % RECORDS;
	cgroup_id[record] = BPF_CORE_READ(cgroup, kn, id);
	triggers[record] = count;
	return 0;
}
