// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which system calls the daemon makes, by their numbers: of all processes of
 * its service that have got as far as its program. For any kernel.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define CALLS 512
/* arch/x86/include/asm/syscall.h: where the number stays. */
struct pt_regs {
	unsigned long orig_ax;
} __attribute__((preserve_access_index));

#define EPERM 1

static const char SERVICE[] = "bpf-oomd.service";
static const char PROGRAM[] = "bpf-oomd";

/* That the kernel has begun; seccomp comes before that. */
u64 made[CALLS];
/* That ended with EPERM, whoever said so. */
u64 refused[CALLS];

static __always_inline bool is_the_daemon(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	char cgroup[sizeof(SERVICE)];
	char comm[sizeof(PROGRAM)];

	/* Threads have names of their own. */
	bpf_probe_read_kernel(comm, sizeof(comm),
			      BPF_CORE_READ(task, group_leader)->comm);
	if (bpf_strncmp(comm, sizeof(comm), PROGRAM))
		return false;
	bpf_probe_read_kernel_str(
		cgroup, sizeof(cgroup),
		BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name));
	return !bpf_strncmp(cgroup, sizeof(cgroup), SERVICE);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(enters, struct pt_regs *registers, long id)
{
	if (id >= 0 && id < CALLS && is_the_daemon())
		__sync_fetch_and_add(&made[id], 1);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(leaves, struct pt_regs *registers, long result)
{
	long id = registers->orig_ax;

	if (result == -EPERM && id >= 0 && id < CALLS && is_the_daemon())
		__sync_fetch_and_add(&refused[id], 1);
	return 0;
}
