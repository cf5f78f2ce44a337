// SPDX-License-Identifier: GPL-2.0-only
/* handle_cgroup_offline runs under cgroup_mutex: it must be short. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	return 0;
}

SEC("struct_ops.s/handle_cgroup_offline")
void BPF_PROG(handle_cgroup_offline, struct bpf_oom_ctx *attachment,
	      u64 cgroup_id)
{
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
	.handle_cgroup_offline = (void *)handle_cgroup_offline,
};
