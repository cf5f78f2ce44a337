// SPDX-License-Identifier: GPL-2.0-only
/* Killing waits for locks and prints a report, so it may sleep. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (!task)
		return 0;
	bpf_oom_kill_process(oc, task, "not like this");
	bpf_task_release(task);
	return 0;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};
