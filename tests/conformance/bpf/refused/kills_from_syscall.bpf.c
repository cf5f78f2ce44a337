// SPDX-License-Identifier: GPL-2.0-only
/* Only a struct_ops program has an OOM at hand. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int kill_somebody(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (!task)
		return 0;
	bpf_oom_kill_process(NULL, task, "not from here");
	bpf_task_release(task);
	return 0;
}
