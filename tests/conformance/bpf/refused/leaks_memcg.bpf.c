// SPDX-License-Identifier: GPL-2.0-only
/* Who gets a memcg must put it. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int leak(void *ctx)
{
	return bpf_get_root_mem_cgroup() != NULL;
}
