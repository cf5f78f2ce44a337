// SPDX-License-Identifier: GPL-2.0-only
/* oc->memcg is NULL when the whole system is out of memory. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	return oc->memcg->css.flags & CSS_ONLINE;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};
