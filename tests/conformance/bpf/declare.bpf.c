// SPDX-License-Identifier: GPL-2.0-only
/*
 * Declares an OOM when it is attached: init runs in the system call that
 * attaches and may sleep, so a test decides when, and sees the result at once.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

/* On which cgroup, 0: on the system. */
u64 cgroup_id;
s64 order;
u64 flags;
/* 1: a text, 2: one that tries to forge a line of the kernel log. */
u64 with_text;

u64 declared;
s64 result;

/* See literal.bpf.c for one that cannot be written. */
char text[] = "conformance_stall";
char forged[] = "conformance_stall\nforged line";

SEC("struct_ops.s/init")
int BPF_PROG(init, struct bpf_psi *p)
{
	char *constraint = NULL;
	struct mem_cgroup *memcg;
	struct cgroup *cgroup;

	if (with_text)
		constraint = with_text == 1 ? text : forged;
	if (!cgroup_id) {
		declared++;
		result = bpf_out_of_memory(NULL, order, flags, constraint);
		return 0;
	}
	cgroup = bpf_cgroup_from_id(cgroup_id);
	if (!cgroup)
		return 0;
	memcg = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	if (!memcg)
		return 0;
	declared++;
	result = bpf_out_of_memory(memcg, order, flags, constraint);
	bpf_put_mem_cgroup(memcg);
	return 0;
}

SEC("struct_ops.s/handle_psi_event")
void BPF_PROG(handle_psi_event, struct bpf_psi *p, struct psi_trigger *t)
{
}

SEC(".struct_ops.link")
struct bpf_psi_ops declare = {
	.init = (void *)init,
	.handle_psi_event = (void *)handle_psi_event,
};
