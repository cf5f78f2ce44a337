// SPDX-License-Identifier: GPL-2.0-only
/* Looks memory cgroups up and reads their statistics, when the test runs it. */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

/* The cgroup to look at. */
u64 cgroup_id;
/* How often look_up does it. */
u64 rounds = 1;

u64 found;
u64 found_id;

s64 usage;
s64 anon, file, shmem, kernel_stack;
s64 page_faults;
s64 oom_kills, max_events, oom_events;

s64 bad_page_state[2];
s64 bad_vm_event[2];
s64 bad_memory_event[2];

u64 walked;
u64 walked_id[64];
s64 walked_usage[64];

static struct mem_cgroup *memcg_of(u64 id)
{
	struct mem_cgroup *memcg;
	struct cgroup *cgroup = bpf_cgroup_from_id(id);

	if (!cgroup)
		return NULL;
	memcg = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	return memcg;
}

SEC("syscall")
int look_up(void *ctx)
{
	found = 0;
	for (u64 i = 0; i < rounds && i < 1000; i++) {
		struct mem_cgroup *memcg = memcg_of(cgroup_id);

		if (memcg) {
			found++;
			found_id = memcg->css.cgroup->kn->id;
			bpf_put_mem_cgroup(memcg);
		}
	}
	return 0;
}

SEC("syscall")
int look_up_root(void *ctx)
{
	struct mem_cgroup *memcg = bpf_get_root_mem_cgroup();

	found = !!memcg;
	if (memcg) {
		found_id = memcg->css.cgroup->kn->id;
		usage = bpf_mem_cgroup_usage(memcg);
		bpf_put_mem_cgroup(memcg);
	}
	return 0;
}

/* From the memcg's own css, and those below it. */
SEC("syscall")
int walk(void *ctx)
{
	struct mem_cgroup *top = memcg_of(cgroup_id);
	struct cgroup_subsys_state *css;

	walked = 0;
	if (!top)
		return 0;
	bpf_rcu_read_lock();
	bpf_for_each(css, css, &top->css, BPF_CGROUP_ITER_DESCENDANTS_PRE) {
		struct mem_cgroup *memcg = bpf_get_mem_cgroup(css);
		u64 number = walked & 63;

		if (!memcg)
			continue;
		walked_id[number] = memcg->css.cgroup->kn->id;
		walked_usage[number] = bpf_mem_cgroup_usage(memcg);
		walked++;
		bpf_put_mem_cgroup(memcg);
	}
	bpf_rcu_read_unlock();
	bpf_put_mem_cgroup(top);
	return 0;
}

#define NODE_STAT(name)	   bpf_core_enum_value(enum node_stat_item, name)
#define VM_EVENT(name)	   bpf_core_enum_value(enum vm_event_item, name)
#define MEMORY_EVENT(name) bpf_core_enum_value(enum memcg_memory_event, name)

SEC("syscall")
int read_statistics(void *ctx)
{
	struct mem_cgroup *memcg = memcg_of(cgroup_id);

	found = !!memcg;
	if (!memcg)
		return 0;
	bpf_mem_cgroup_flush_stats(memcg);
	usage = bpf_mem_cgroup_usage(memcg);
	anon = bpf_mem_cgroup_page_state(memcg, NODE_STAT(NR_ANON_MAPPED));
	file = bpf_mem_cgroup_page_state(memcg, NODE_STAT(NR_FILE_PAGES));
	shmem = bpf_mem_cgroup_page_state(memcg, NODE_STAT(NR_SHMEM));
	kernel_stack =
		bpf_mem_cgroup_page_state(memcg, NODE_STAT(NR_KERNEL_STACK_KB));
	page_faults = bpf_mem_cgroup_vm_events(memcg, VM_EVENT(PGFAULT));
	oom_kills = bpf_mem_cgroup_memory_events(memcg,
						 MEMORY_EVENT(MEMCG_OOM_KILL));
	oom_events =
		bpf_mem_cgroup_memory_events(memcg, MEMORY_EVENT(MEMCG_OOM));
	max_events =
		bpf_mem_cgroup_memory_events(memcg, MEMORY_EVENT(MEMCG_MAX));

	bad_page_state[0] = bpf_mem_cgroup_page_state(memcg, -1);
	bad_page_state[1] = bpf_mem_cgroup_page_state(memcg, 1 << 20);
	/* An event that is counted for the system, but not per memcg. */
	bad_vm_event[0] = bpf_mem_cgroup_vm_events(memcg, VM_EVENT(OOM_KILL));
	bad_vm_event[1] = bpf_mem_cgroup_vm_events(memcg, 1 << 20);
	bad_memory_event[0] = bpf_mem_cgroup_memory_events(
		memcg, MEMORY_EVENT(MEMCG_NR_MEMORY_EVENTS));
	bad_memory_event[1] = bpf_mem_cgroup_memory_events(memcg, -1);
	bpf_put_mem_cgroup(memcg);
	return 0;
}
