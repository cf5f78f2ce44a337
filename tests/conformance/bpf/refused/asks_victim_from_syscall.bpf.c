// SPDX-License-Identifier: GPL-2.0-only
/* bpf_task_is_oom_victim() is for struct_ops programs. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int ask(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);
	int answer;

	if (!task)
		return 0;
	answer = bpf_task_is_oom_victim(task);
	bpf_task_release(task);
	return answer;
}
