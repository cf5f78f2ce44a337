// SPDX-License-Identifier: GPL-2.0-only
/* Declaring an OOM waits for others that are being handled. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/init")
int BPF_PROG(init, struct bpf_psi *p)
{
	bpf_out_of_memory(NULL, 0, 0, NULL);
	return 0;
}

SEC("struct_ops/handle_psi_event")
void BPF_PROG(handle_psi_event, struct bpf_psi *p, struct psi_trigger *t)
{
}

SEC(".struct_ops.link")
struct bpf_psi_ops pressure = {
	.init = (void *)init,
	.handle_psi_event = (void *)handle_psi_event,
};
