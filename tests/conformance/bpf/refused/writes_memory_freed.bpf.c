// SPDX-License-Identifier: GPL-2.0-only
/* Whether memory was freed is for the kernel to say. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops.s/handle_out_of_memory")
int BPF_PROG(handle_out_of_memory, struct bpf_oom_ctx *attachment,
	     struct oom_control *oc)
{
	oc->bpf_memory_freed = true;
	return 1;
}

SEC(".struct_ops.link")
struct bpf_oom_ops handler = {
	.handle_out_of_memory = (void *)handle_out_of_memory,
};
