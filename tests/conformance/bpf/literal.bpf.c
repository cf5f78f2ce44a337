// SPDX-License-Identifier: GPL-2.0-only
/* Declares an OOM with a string literal, as anybody would write it. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

u64 cgroup_id;
s64 result;

SEC("struct_ops.s/init")
int BPF_PROG(init, struct bpf_psi *p)
{
	struct cgroup *cgroup = bpf_cgroup_from_id(cgroup_id);
	struct mem_cgroup *memcg;

	if (!cgroup)
		return 0;
	memcg = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	if (!memcg)
		return 0;
	result = bpf_out_of_memory(memcg, 0, BPF_OOM_FLAGS_WAIT_ON_OOM_LOCK,
				   "literal");
	bpf_put_mem_cgroup(memcg);
	return 0;
}

SEC("struct_ops.s/handle_psi_event")
void BPF_PROG(handle_psi_event, struct bpf_psi *p, struct psi_trigger *t)
{
}

SEC(".struct_ops.link")
struct bpf_psi_ops literal = {
	.init = (void *)init,
	.handle_psi_event = (void *)handle_psi_event,
};
