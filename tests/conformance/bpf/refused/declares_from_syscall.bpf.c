// SPDX-License-Identifier: GPL-2.0-only
/* Declaring an OOM is for pressure handlers. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int declare(void *ctx)
{
	return bpf_out_of_memory(NULL, 0, 0, NULL) > 0;
}
