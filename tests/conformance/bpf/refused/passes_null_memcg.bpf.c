// SPDX-License-Identifier: GPL-2.0-only
/* oc->memcg is NULL when the whole system is out of memory. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	return bpf_mem_cgroup_usage(oc->memcg) > 0;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};
