// SPDX-License-Identifier: GPL-2.0-only
/* After the put it may be gone. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int use(void *ctx)
{
	struct mem_cgroup *memcg = bpf_get_root_mem_cgroup();

	if (!memcg)
		return 0;
	bpf_put_mem_cgroup(memcg);
	return bpf_mem_cgroup_usage(memcg) > 0;
}
