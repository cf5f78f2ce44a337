// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pressure handler that creates the triggers the test asks for, and writes
 * down every event and every cgroup that comes and goes.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "GPL";

#define TRIGGERS 16
#define RECORDS	 1024

/* ---- what the test wants ---- */

u64 wanted;
u64 wanted_cgroup[TRIGGERS];
u64 wanted_resource[TRIGGERS];
u64 wanted_threshold_us[TRIGGERS];
u64 wanted_window_us[TRIGGERS];
/* What init returns after that. */
s64 init_answer;
/* Create a trigger on every new cgroup. */
u64 watch_new;
u64 watch_resource;
u64 watch_threshold_us;
u64 watch_window_us;
/* Events of this cgroup keep their handler busy for so long. */
u64 slow_cgroup;
u64 slow_ns;

/* ---- what happened ---- */

u64 inits;
s64 created[TRIGGERS];
u64 events;
u64 event_cgroup[RECORDS];
/* Events of other cgroups while the slow one was being handled. */
u64 events_meanwhile;
u64 slow;
u64 onlines;
u64 online_cgroup[RECORDS];
s64 online_created[RECORDS];
u64 offlines;
u64 offline_cgroup[RECORDS];

static int until(u64 turn, u64 *deadline)
{
	return bpf_ktime_get_ns() > *deadline;
}

SEC("struct_ops.s/init")
int BPF_PROG(init, struct bpf_psi *p)
{
	inits++;
	for (u64 i = 0; i < wanted && i < TRIGGERS; i++)
		created[i] = bpf_psi_create_trigger(
			p, wanted_cgroup[i], wanted_resource[i],
			wanted_threshold_us[i], wanted_window_us[i]);
	return init_answer;
}

SEC("struct_ops.s/handle_psi_event")
void BPF_PROG(handle_psi_event, struct bpf_psi *p, struct psi_trigger *t)
{
	u64 cgroup_id = t->cgroup_id;
	u64 event = __sync_fetch_and_add(&events, 1) % RECORDS;

	event_cgroup[event] = cgroup_id;
	if (slow_ns && cgroup_id == slow_cgroup) {
		u64 deadline = bpf_ktime_get_ns() + slow_ns;

		slow = 1;
		bpf_loop(1 << 23, until, &deadline, 0);
		slow = 0;
	} else if (slow) {
		__sync_fetch_and_add(&events_meanwhile, 1);
	}
}

SEC("struct_ops.s/handle_cgroup_online")
void BPF_PROG(handle_cgroup_online, struct bpf_psi *p, u64 cgroup_id)
{
	u64 record = __sync_fetch_and_add(&onlines, 1) % RECORDS;

	online_cgroup[record] = cgroup_id;
	if (watch_new)
		online_created[record] = bpf_psi_create_trigger(
			p, cgroup_id, watch_resource, watch_threshold_us,
			watch_window_us);
}

SEC("struct_ops.s/handle_cgroup_offline")
void BPF_PROG(handle_cgroup_offline, struct bpf_psi *p, u64 cgroup_id)
{
	u64 record = __sync_fetch_and_add(&offlines, 1) % RECORDS;

	offline_cgroup[record] = cgroup_id;
}

SEC(".struct_ops.link")
struct bpf_psi_ops pressure = {
	.init = (void *)init,
	.handle_psi_event = (void *)handle_psi_event,
	.handle_cgroup_online = (void *)handle_cgroup_online,
	.handle_cgroup_offline = (void *)handle_cgroup_offline,
};
