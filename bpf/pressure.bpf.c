// SPDX-License-Identifier: GPL-2.0-only
/*
 * Declares an OOM when a cgroup stalls. Whoever has the say about OOMs of that
 * cgroup then chooses the victim, as if an allocation had failed.
 *
 * The kernel says that a stall reached its threshold, at most once in a window.
 * That alone is no reason to kill; an event acts if all of this holds, and
 * otherwise is counted with the first reason why not:
 *
 *	too-short	the stall lasts for the time that is asked for
 *	too-small	the domain uses as much memory as is asked for
 *	no-shortage	it is about memory that cannot be had
 *	exiting		nobody in the domain is on the way out already
 *	cooldown	the domain's last kill had its time to take effect
 *
 * There is one trigger for a cgroup. When what is said changes, the kernel
 * keeps the old trigger until the struct_ops is detached; its events are
 * ignored, because they are not of the stall that is said now.
 */
#include "kernel.h"
#include "intf.h"
#include "events.bpf.h"
#include "settings.bpf.h"
#include "cooldown.bpf.h"
#include "leaf.bpf.h"
#include "pressure.bpf.h"
#include "watch.bpf.h"

char _license[] SEC("license") = "GPL";

/* What init is to create. Written by user space, one attachment at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OOMD_TRIGGERS_MAX);
	__type(key, u32);
	__type(value, struct oomd_trigger);
} oomd_triggers SEC(".maps");

/* How many of them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} oomd_triggers_len SEC(".maps");

/* For the kernel's report. */
static const char oomd_text_io[] = "CONSTRAINT_BPF_PSI_IO";
static const char oomd_text_memory[] = "CONSTRAINT_BPF_PSI_MEM";
static const char oomd_text_cpu[] = "CONSTRAINT_BPF_PSI_CPU";

/* There is no policy in the events of this program. */
static const char oomd_no_policy[OOMD_POLICY_NAME_LEN];

/* Too large for the stack. */
static const struct oomd_watch oomd_new_watch;

/* ---- what a domain looks like ------------------------------------------- */

static __always_inline u64 oomd_vm_events(struct mem_cgroup *memcg, int item)
{
	u64 count = bpf_mem_cgroup_vm_events(memcg, item);

	return count == (u64)-1 ? 0 : count;
}

/* By how much a counter has grown since it was looked at last. */
static __always_inline u64 oomd_growth(u64 *last, u64 now)
{
	u64 growth = now - *last;

	*last = now;
	return growth;
}

static __always_inline void oomd_sample(struct mem_cgroup *domain,
					struct oomd_watch *watch)
{
	struct oomd_stall *stall = &watch->stall;
	u64 kswapd = oomd_vm_events(
		domain, bpf_core_enum_value(enum vm_event_item, PGSCAN_KSWAPD));
	u64 direct = oomd_vm_events(
		domain, bpf_core_enum_value(enum vm_event_item, PGSCAN_DIRECT));
	u64 high = bpf_mem_cgroup_memory_events(
		domain,
		bpf_core_enum_value(enum memcg_memory_event, MEMCG_HIGH));
	u64 max = bpf_mem_cgroup_memory_events(
		domain,
		bpf_core_enum_value(enum memcg_memory_event, MEMCG_MAX));

	stall->scanned = oomd_growth(&watch->scanned, kswapd + direct);
	stall->high_events = oomd_growth(&watch->high_events, high);
	stall->max_events = oomd_growth(&watch->max_events, max);
}

/* Takes the address of a memory cgroup's css. */
static __always_inline bool oomd_over_high(u64 css)
{
	struct mem_cgroup *memcg = container_of(
		(struct cgroup_subsys_state *)css, struct mem_cgroup, css);
	s64 usage = BPF_CORE_READ(memcg, memory.usage.counter);
	u64 high = BPF_CORE_READ(memcg, memory.high);

	return usage > 0 && (u64)usage > high;
}

/*
 * Whether the memory cgroup with this css, or one above it, is over its
 * memory.high. A global function, see settings.bpf.h.
 */
__noinline u32 oomd_one_is_over_high(u64 css)
{
	int level;

	for (level = 0; level < OOMD_LEVELS_MAX && css; level++) {
		if (oomd_over_high(css))
			return true;
		css = (u64)BPF_CORE_READ((struct cgroup_subsys_state *)css,
					 parent);
	}
	return false;
}

/*
 * The memory cgroup with this key. NULL without a memory controller, or if it
 * is gone, or if it is not seen from the cgroup namespace of whoever runs this:
 * it is seen from the work queue that runs events, and from the daemon.
 */
static __always_inline struct mem_cgroup *oomd_get_domain(u64 key)
{
	struct mem_cgroup *domain;
	struct cgroup *cgroup;

	if (!key)
		return bpf_get_root_mem_cgroup();
	cgroup = bpf_cgroup_from_id(key);
	if (!cgroup)
		return NULL;
	domain = bpf_get_mem_cgroup(&cgroup->self);
	bpf_cgroup_release(cgroup);
	return domain;
}

/* What a walk over all of a domain finds. */
struct oomd_inside {
	bool exiting;	/* a victim that has not gone yet */
	bool over_high; /* something that is over its memory.high */
};

static __always_inline void oomd_look_inside(struct mem_cgroup *domain,
					     struct oomd_inside *inside)
{
	struct cgroup_subsys_state *pos;

	inside->exiting = false;
	inside->over_high = false;
	bpf_rcu_read_lock();
	bpf_for_each(css, pos, &domain->css, BPF_CGROUP_ITER_DESCENDANTS_POST) {
		struct mem_cgroup *memcg = bpf_get_mem_cgroup(pos);
		struct task_struct *task;

		if (!memcg)
			continue;
		if (oomd_over_high((u64)&memcg->css))
			inside->over_high = true;
		bpf_for_each(css_task, task, &memcg->css, CSS_TASK_ITER_PROCS) {
			if (bpf_task_is_oom_victim(task))
				inside->exiting = true;
		}
		bpf_put_mem_cgroup(memcg);
	}
	bpf_rcu_read_unlock();
}

/* How long everybody, or somebody, has stalled there so far, in nanoseconds. */
static __always_inline u64 oomd_stalled(struct psi_trigger *t)
{
	struct psi_group *group = BPF_CORE_READ(t, group);
	u64 states = bpf_core_enum_value(enum psi_states, NR_PSI_STATES) - 1;
	u64 poll = bpf_core_enum_value(enum psi_aggregators, PSI_POLL);
	/* The array's dimensions differ from kernel to kernel. */
	u64 *totals = (u64 *)__builtin_preserve_access_index(&group->total);
	u64 index = poll * states + BPF_CORE_READ(t, state);
	u64 total = 0;

	bpf_probe_read_kernel(&total, sizeof(total), totals + index);
	return total;
}

/* ---- whether to act ----------------------------------------------------- */

/* Whether `t` is what has to be watched according to `said`. */
static __always_inline bool oomd_is_wanted(struct psi_trigger *t,
					   const struct oomd_pressure *said)
{
	return BPF_CORE_READ(t, state) == said->resource * 2 + said->level &&
	       BPF_CORE_READ(t, threshold) == said->stall_us * 1000ULL &&
	       BPF_CORE_READ(t, win.size) == said->window_us * 1000ULL;
}

/*
 * Whether the stall has lasted long enough. Events of one stall are one window
 * apart, and a little more, as the kernel looks ten times in a window; after a
 * longer pause it is another stall.
 */
static __always_inline bool oomd_lasts(struct oomd_watch *watch,
				       const struct oomd_pressure *said,
				       u64 now, u64 total)
{
	u64 window = said->window_us * 1000ULL;
	u64 since = now - watch->last_ns;
	struct oomd_stall *stall = &watch->stall;
	/* What the kernel says, where there is nothing to compare with. */
	u64 stall_us = said->stall_us;

	if (!watch->began_ns || since > 2 * window)
		watch->began_ns = now;
	else
		stall_us = (total - watch->total_ns) / 1000 * said->window_us /
			   (since / 1000 + 1);
	/* The kernel tells of a stall that is over by now, once. */
	if (stall_us < said->stall_us)
		watch->began_ns = 0;
	stall->resource = said->resource;
	stall->level = said->level;
	stall->stall_us =
		stall_us > said->window_us ? said->window_us : stall_us;
	stall->window_us = said->window_us;
	stall->lasted_us = watch->began_ns ? (now - watch->began_ns) / 1000 : 0;
	/* Events come late by different times. */
	return watch->began_ns &&
	       stall->lasted_us + said->window_us / 8 >= said->for_us;
}

/*
 * A stall on memory is a shortage if memory is being reclaimed, or limits are
 * in the way. Reclaim alone would not do: without swap, a unit over its
 * memory.high is held back without a page being looked at.
 */
static __always_inline bool oomd_is_shortage(const struct oomd_stall *stall)
{
	return stall->scanned || stall->high_events || stall->max_events ||
	       stall->over_high;
}

static __always_inline bool oomd_cools_down(u64 domain, u64 cooldown_ns,
					    u64 now)
{
	struct oomd_domain *known = bpf_map_lookup_elem(&oomd_domains, &domain);

	return known && now - known->since_ns < cooldown_ns;
}

/* OOMD_OUTCOME_KILLED stands for: act. */
static __always_inline u32 oomd_decide(struct psi_trigger *t, u64 key,
				       struct oomd_watch *watch,
				       const struct oomd_pressure *said,
				       struct mem_cgroup *domain)
{
	u64 above = (u64)BPF_CORE_READ(domain, css.parent);
	u64 cgroup = (u64)BPF_CORE_READ(domain, css.cgroup);
	struct oomd_stall *stall = &watch->stall;
	u64 now = bpf_ktime_get_ns();
	u64 total = oomd_stalled(t);
	struct oomd_inside inside;
	bool lasts;

	lasts = oomd_lasts(watch, said, now, total);
	bpf_mem_cgroup_flush_stats(domain);
	oomd_sample(domain, watch);
	watch->total_ns = total;
	watch->last_ns = now;
	if (!lasts)
		return OOMD_OUTCOME_TOO_SHORT;
	if (bpf_mem_cgroup_usage(domain) < said->min_usage)
		return OOMD_OUTCOME_TOO_SMALL;
	oomd_look_inside(domain, &inside);
	stall->over_high = inside.over_high || oomd_one_is_over_high(above);
	/* Who asks for another resource does not ask about memory. */
	if (said->resource == OOMD_RESOURCE_MEMORY && !oomd_is_shortage(stall))
		return OOMD_OUTCOME_NO_SHORTAGE;
	if (inside.exiting)
		return OOMD_OUTCOME_EXITING;
	if (oomd_cools_down(key, oomd_cooldown(cgroup), now))
		return OOMD_OUTCOME_COOLDOWN;
	return OOMD_OUTCOME_KILLED;
}

/* ---- acting ------------------------------------------------------------- */

static __always_inline int oomd_declare(u64 key, struct mem_cgroup *domain,
					u32 resource)
{
	const char *text = oomd_text_memory;

	if (resource == OOMD_RESOURCE_IO)
		text = oomd_text_io;
	else if (resource == OOMD_RESOURCE_CPU)
		text = oomd_text_cpu;
	if (!key)
		return bpf_out_of_memory(NULL, 0,
					 BPF_OOM_FLAGS_WAIT_ON_OOM_LOCK, text);
	return bpf_out_of_memory(domain, 0, BPF_OOM_FLAGS_WAIT_ON_OOM_LOCK,
				 text);
}

static __always_inline u64 oomd_kills(struct mem_cgroup *domain)
{
	return bpf_mem_cgroup_memory_events(
		domain,
		bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL));
}

/* Whether a policy has begun the domain's cooldown since then: it killed. */
static __always_inline bool oomd_policy_killed(u64 key, u64 since)
{
	struct oomd_domain *known = bpf_map_lookup_elem(&oomd_domains, &key);

	return known && known->since_ns >= since;
}

static __always_inline u32 oomd_act(u64 key, struct mem_cgroup *domain,
				    u32 resource)
{
	u64 kills = oomd_kills(domain);
	u64 now = bpf_ktime_get_ns();

	if (oomd_declare(key, domain, resource) <= 0)
		return OOMD_OUTCOME_NOBODY;
	if (oomd_policy_killed(key, now))
		return OOMD_OUTCOME_KILLED;
	/*
	 * Progress without a kill: the kernel waits for a victim that is not
	 * among the tasks any more. For the system it doesn't count kills.
	 */
	if (key && oomd_kills(domain) == kills)
		return OOMD_OUTCOME_EXITING;
	oomd_cooldown_begin(key, 0);
	return OOMD_OUTCOME_KERNEL_KILLED;
}

/*
 * Of what repeats itself with every window, no more is told than there would be
 * kills. Telling is not killing: it does not begin the domain's cooldown.
 */
static __always_inline void oomd_tell(u64 key, struct oomd_watch *watch,
				      struct mem_cgroup *domain, u32 outcome)
{
	u64 cgroup = (u64)BPF_CORE_READ(domain, css.cgroup);
	struct oomd_pressure_event *event;
	u64 now = bpf_ktime_get_ns();

	if (outcome != OOMD_OUTCOME_KERNEL_KILLED && watch->reported_ns &&
	    now - watch->reported_ns < oomd_cooldown(cgroup))
		return;
	watch->reported_ns = now;
	event = oomd_event_begin(struct oomd_pressure_event);
	if (!event)
		return;
	oomd_event_header(&event->header, OOMD_EVENT_PRESSURE, oomd_no_policy);
	event->stall = watch->stall;
	event->domain = key;
	event->usage = bpf_mem_cgroup_usage(domain);
	event->outcome = outcome;
	event->reserved = 0;
	oomd_path_of(cgroup, &event->domain_path);
	bpf_ringbuf_submit(event, 0);
}

/* ---- triggers ----------------------------------------------------------- */

/*
 * A trigger and its entry. The entry comes first: the trigger may fire at once.
 * One that is there already is of a trigger from before; what happened since
 * then goes on counting.
 */
static __always_inline int oomd_create(struct bpf_psi *p,
				       const struct oomd_trigger *trigger)
{
	u64 id = trigger->cgroup_id;
	struct mem_cgroup *domain;
	struct oomd_watch *watch;
	u32 resource = trigger->resource;
	int result;

	if (trigger->level == OOMD_LEVEL_FULL)
		resource |= BPF_PSI_FULL;
	bpf_map_update_elem(&oomd_watches, &id, &oomd_new_watch, BPF_NOEXIST);
	watch = bpf_map_lookup_elem(&oomd_watches, &id);
	if (!watch)
		return -ENOMEM;
	watch->resource = trigger->resource;
	watch->level = trigger->level;
	watch->stall_us = trigger->stall_us;
	watch->window_us = trigger->window_us;
	/* What happened before is no reason to act. */
	domain = oomd_get_domain(id);
	if (domain) {
		oomd_sample(domain, watch);
		bpf_put_mem_cgroup(domain);
	}
	result = bpf_psi_create_trigger(p, id, resource, trigger->stall_us,
					trigger->window_us);
	if (result)
		bpf_map_delete_elem(&oomd_watches, &id);
	return result;
}

SEC("struct_ops.s/init")
int BPF_PROG(init, struct bpf_psi *p)
{
	u32 zero = 0;
	u32 *len = bpf_map_lookup_elem(&oomd_triggers_len, &zero);
	u32 index;

	if (!len)
		return 0;
	bpf_for(index, 0, *len) {
		struct oomd_trigger *trigger;
		u32 key = index;

		trigger = bpf_map_lookup_elem(&oomd_triggers, &key);
		if (!trigger)
			break;
		trigger->result = oomd_create(p, trigger);
	}
	/* User space reads the results; a cgroup that is gone fails nothing. */
	return 0;
}

SEC("struct_ops.s/handle_cgroup_online")
void BPF_PROG(handle_cgroup_online, struct bpf_psi *p, u64 cgroup_id)
{
	const struct oomd_pressure *said;
	struct oomd_trigger trigger = {};
	struct cgroup *cgroup;

	/* Not seen from inside a cgroup namespace: then it is no unit's. */
	cgroup = bpf_cgroup_from_id(cgroup_id);
	if (!cgroup)
		return;
	said = oomd_pressure_of((u64)BPF_CORE_READ(cgroup, self.cgroup),
				cgroup_id);
	if (said) {
		trigger.cgroup_id = cgroup_id;
		trigger.resource = said->resource;
		trigger.level = said->level;
		trigger.stall_us = said->stall_us;
		trigger.window_us = said->window_us;
		/* Without a trigger user space will try again. */
		oomd_create(p, &trigger);
	}
	bpf_cgroup_release(cgroup);
}

SEC("struct_ops.s/handle_psi_event")
void BPF_PROG(handle_psi_event, struct bpf_psi *p, struct psi_trigger *t)
{
	const struct oomd_pressure *said;
	struct mem_cgroup *domain;
	struct oomd_watch *watch;
	u64 key = t->cgroup_id;
	u32 outcome, action, resource;

	watch = bpf_map_lookup_elem(&oomd_watches, &key);
	if (!watch)
		return;
	domain = oomd_get_domain(key);
	if (!domain) {
		outcome = OOMD_OUTCOME_NO_DOMAIN;
		goto count;
	}
	said = oomd_pressure_of((u64)BPF_CORE_READ(domain, css.cgroup), key);
	if (!said || !oomd_is_wanted(t, said) ||
	    /* A second trigger of the same kind tells nothing new. */
	    (watch->last_ns && bpf_ktime_get_ns() - watch->last_ns <
				       said->window_us * 1000ULL / 2)) {
		bpf_put_mem_cgroup(domain);
		return;
	}
	action = said->action;
	resource = said->resource;
	outcome = oomd_decide(t, key, watch, said, domain);
	if (outcome == OOMD_OUTCOME_KILLED) {
		outcome = action == OOMD_ACTION_REPORT
				  ? OOMD_OUTCOME_REPORTED
				  : oomd_act(key, domain, resource);
		if (outcome == OOMD_OUTCOME_REPORTED ||
		    outcome == OOMD_OUTCOME_KERNEL_KILLED ||
		    outcome == OOMD_OUTCOME_NOBODY)
			oomd_tell(key, watch, domain, outcome);
	}
	bpf_put_mem_cgroup(domain);
count:
	if (outcome < OOMD_OUTCOMES)
		watch->outcomes[outcome]++;
}

SEC("struct_ops.s/handle_cgroup_offline")
void BPF_PROG(handle_cgroup_offline, struct bpf_psi *p, u64 cgroup_id)
{
	struct oomd_offline_event *event;

	bpf_map_delete_elem(&oomd_watches, &cgroup_id);
	bpf_map_delete_elem(&oomd_pressure, &cgroup_id);
	event = oomd_event_begin(struct oomd_offline_event);
	if (!event)
		return;
	oomd_event_header(&event->header, OOMD_EVENT_CGROUP_OFFLINE,
			  oomd_no_policy);
	event->cgroup_id = cgroup_id;
	bpf_ringbuf_submit(event, 0);
}

/* With triggers for cgroups that are made later. */
SEC(".struct_ops.link")
struct bpf_psi_ops births = {
	.init = (void *)init,
	.handle_psi_event = (void *)handle_psi_event,
	.handle_cgroup_online = (void *)handle_cgroup_online,
	.handle_cgroup_offline = (void *)handle_cgroup_offline,
};

/*
 * Without. One can be attached once, and its triggers go when it is detached,
 * so there are some: units come one after the other.
 */
#define OOMD_TRIGGERS(ident)                                                   \
	SEC(".struct_ops.link")                                                \
	struct bpf_psi_ops ident = {                                           \
		.init = (void *)init,                                          \
		.handle_psi_event = (void *)handle_psi_event,                  \
		.handle_cgroup_offline = (void *)handle_cgroup_offline,        \
	}

OOMD_TRIGGERS(triggers_0);
OOMD_TRIGGERS(triggers_1);
OOMD_TRIGGERS(triggers_2);
OOMD_TRIGGERS(triggers_3);
OOMD_TRIGGERS(triggers_4);
OOMD_TRIGGERS(triggers_5);
OOMD_TRIGGERS(triggers_6);
OOMD_TRIGGERS(triggers_7);
