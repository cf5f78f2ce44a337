// SPDX-License-Identifier: GPL-2.0-only
/* Who gets a memcg must put it. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

SEC("syscall")
int leak(void *ctx)
{
	struct cgroup *cgroup = bpf_cgroup_from_id(1);
	struct mem_cgroup *memcg;

	if (!cgroup)
		return 0;
	memcg = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	return memcg != NULL;
}
