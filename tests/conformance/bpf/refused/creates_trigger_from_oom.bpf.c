// SPDX-License-Identifier: GPL-2.0-only
/* A trigger belongs to a bpf_psi_ops, and an OOM handler has none. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	bpf_psi_create_trigger(NULL, 0, PSI_MEM, 100000, 1000000);
	return 0;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};
