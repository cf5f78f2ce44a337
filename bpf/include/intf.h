/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/*
 * What the BPF programs and user space tell each other: the events in the ring
 * buffer, the settings of a cgroup, what is watched for pressure, and a ranking
 * run.
 *
 * C includes this file, Rust gets its types from it at build time (build.rs),
 * so a layout is written down once. All members have their natural alignment
 * and there is no implicit padding.
 *
 * The numbers are the kernel's (pages, nanoseconds); the decoder turns them
 * into bytes and microseconds.
 */
#ifndef OOMD_INTF_H
#define OOMD_INTF_H

#ifndef __bpf__
#include <linux/types.h>
#endif

/* With the terminating NUL; the size of bpf_oom_ops.name. */
#define OOMD_POLICY_NAME_LEN 64
/* TASK_COMM_LEN */
#define OOMD_COMM_LEN 16
/*
 * Processes described in one kill event. A unit with more of them dies as
 * whole as any other; processes_total says how many there were.
 */
#define OOMD_PROCESSES_MAX 64

enum oomd_event_kind {
	OOMD_EVENT_KILL = 1,
	OOMD_EVENT_CGROUP_OFFLINE = 2,
	OOMD_EVENT_PRESSURE = 3,
	OOMD_EVENT_KERNEL_KILL = 4,
};

/* Every event in the ring buffer starts with this. */
struct oomd_event_header {
	__u32 kind; /* enum oomd_event_kind */
	__u32 reserved;
	__u64 time_ns; /* CLOCK_BOOTTIME, when the event began */
	char policy[OOMD_POLICY_NAME_LEN];
};

struct oomd_process {
	__u32 pid;
	__u32 reserved;
	/*
	 * Resident anonymous and shared memory before the kill: what the kill
	 * gives back. File pages are cache and swapped pages are not in
	 * memory. From the kernel's counters per CPU, or before 6.2 per thread,
	 * without summing them up: some pages of each may be missing.
	 */
	__u64 pages;
	char comm[OOMD_COMM_LEN];
};

/* A name that would begin in the last 256 bytes, and what is below, is left
 * out.
 */
#define OOMD_PATH_LEN 1024

/*
 * Where a cgroup is: the names from the top of the tree to it, each behind a
 * "/". The root has none.
 */
struct oomd_path {
	__u32 len;	 /* of the text; no NUL ends it */
	__u32 truncated; /* there is more */
	char text[OOMD_PATH_LEN];
};

/* What tasks wait for: the numbers of the kernel's enum psi_res. */
enum oomd_resource {
	OOMD_RESOURCE_IO = 0,
	OOMD_RESOURCE_MEMORY = 1,
	OOMD_RESOURCE_CPU = 2,
};

/* How many of them. */
enum oomd_level {
	OOMD_LEVEL_SOME = 0,
	OOMD_LEVEL_FULL = 1,
};

/* The stall for which an OOM is declared. */
struct oomd_stall {
	__u32 resource; /* enum oomd_resource */
	__u32 level;	/* enum oomd_level */
	/* Of the last window, when the OOM was declared. */
	__u64 stall_us;
	__u64 window_us;
	__u64 lasted_us; /* since its first event */
	/* Since the event before. */
	__u64 scanned;	   /* pages that reclaim looked at */
	__u64 high_events; /* of memory.events */
	__u64 max_events;  /* of memory.events */
	__u32 over_high;   /* something in the domain, or it, is over its
			      memory.high */
	__u32 reserved;
};

/* Who declared an OOM. */
enum oomd_reason {
	OOMD_REASON_ALLOCATION = 0, /* one that failed */
	OOMD_REASON_PRESSURE = 1,   /* the event's stall says more */
	OOMD_REASON_SYSRQ = 2,	    /* somebody who pressed Alt-SysRq-F */
};

/* OOMD_EVENT_KILL: a handler chose a leaf and killed in it. */
struct oomd_kill_event {
	struct oomd_event_header header;
	struct oomd_stall stall; /* all zeroes after an allocation */
	__u64 domain;		 /* cgroup id of what ran out, 0: the system */
	__u64 attachment;      /* cgroup id of the attachment, 0: the system */
	__u64 victim;	       /* cgroup id of the leaf */
	__u64 usage_before;    /* bytes, of the domain */
	__u64 victim_score;    /* what the policy gave the victim */
	__u64 victim_bytes;    /* its memory without page cache */
	__u64 handler_ns;      /* spent in the handler, the kills included */
	__u32 candidates;      /* leaves that could have been chosen */
	__u32 killed;	       /* calls of the kill kfunc that succeeded */
	__u32 processes_total; /* that were to die, before the kill */
	__u32 processes_len;   /* of them, described below */
	__u32 preference;      /* enum oomd_preference, of the victim */
	__u32 kill;	       /* enum oomd_kill, how it died */
	__u32 reason;	       /* enum oomd_reason */
	__u32 reserved;
	struct oomd_path domain_path;
	struct oomd_path victim_path;
	struct oomd_process processes[OOMD_PROCESSES_MAX];
};

/*
 * OOMD_EVENT_KERNEL_KILL: the kernel's own killer chose a process. There is no
 * policy in it.
 */
struct oomd_kernel_kill_event {
	struct oomd_event_header header;
	struct oomd_stall stall; /* as in oomd_kill_event */
	__u64 domain;		 /* cgroup id of what ran out, 0: the system */
	/*
	 * Cgroup id of what died: that of the process, or the one above with
	 * memory.oom.group.
	 */
	__u64 victim;
	/* Used by the domain before: the kernel counts a cgroup's pages. */
	__u64 usage_pages;
	__u64 usage_bytes;   /* of the system, if the kernel counts it in bytes;
				then the other one is 0 */
	__s64 victim_score;  /* what the kernel made of the process, in pages */
	__u64 victim_pages;  /* of all processes, as in oomd_process */
	__s32 oom_score_adj; /* of the process that was chosen */
	__u32 processes_total; /* that were killed */
	__u32 processes_len;   /* of them, described below, the chosen one first
				*/
	__u32 kill;	       /* enum oomd_kill: with memory.oom.group all */
	__u32 reason;	       /* enum oomd_reason */
	__u32 reserved;
	struct oomd_path domain_path;
	struct oomd_path victim_path;
	struct oomd_process processes[OOMD_PROCESSES_MAX];
};

/*
 * What came of an event of a pressure trigger. All but the first few are
 * reasons not to act.
 */
enum oomd_outcome {
	OOMD_OUTCOME_KILLED = 0,	/* by a policy: there is a kill event */
	OOMD_OUTCOME_KERNEL_KILLED = 1, /* by the kernel's own choice */
	OOMD_OUTCOME_NOBODY = 2,	/* declared, but nobody could die */
	OOMD_OUTCOME_REPORTED = 3,	/* would have been declared */
	OOMD_OUTCOME_TOO_SHORT = 4,	/* does not last long enough yet */
	OOMD_OUTCOME_TOO_SMALL = 5,	/* too little memory in use */
	OOMD_OUTCOME_NO_SHORTAGE = 6,	/* memory can be had */
	OOMD_OUTCOME_EXITING = 7,	/* a victim is on its way out */
	OOMD_OUTCOME_COOLDOWN = 8,	/* of the domain's last kill */
	OOMD_OUTCOME_NO_DOMAIN = 9,	/* no memory controller, or gone */
};

#define OOMD_OUTCOMES 10

/*
 * OOMD_EVENT_PRESSURE: a trigger's event of which no kill event tells. The
 * first few outcomes only, others are counted. There is no policy in it.
 */
struct oomd_pressure_event {
	struct oomd_event_header header;
	struct oomd_stall stall;
	__u64 domain;  /* cgroup id, 0: the system */
	__u64 usage;   /* bytes, of the domain */
	__u32 outcome; /* enum oomd_outcome */
	__u32 reserved;
	struct oomd_path domain_path;
};

/*
 * OOMD_EVENT_CGROUP_OFFLINE: an attachment, or a trigger, ended with its
 * cgroup. If it was a trigger there is no policy.
 */
struct oomd_offline_event {
	struct oomd_event_header header;
	__u64 cgroup_id;
};

/* What dies in the leaf that was chosen. */
enum oomd_kill {
	OOMD_KILL_CGROUP = 0,  /* every process */
	OOMD_KILL_PROCESS = 1, /* the largest one */
};

/* Whether a leaf may be chosen, said by it or by a cgroup above it. */
enum oomd_preference {
	OOMD_PREFERENCE_NONE = 0,
	OOMD_PREFERENCE_AVOID = 1, /* only if there is nobody else */
	OOMD_PREFERENCE_OMIT = 2,  /* never */
};

/* Who decides when a cgroup is what ran out of memory. */
enum oomd_policy_said {
	OOMD_POLICY_PROGRAM = 0, /* the program attached to it or above it */
	OOMD_POLICY_KERNEL = 1,	 /* the kernel's own killer */
};

/* Bits of oomd_settings.said. */
enum oomd_said {
	OOMD_SAID_KILL = 1,
	OOMD_SAID_PREFERENCE = 2,
	OOMD_SAID_POLICY = 4,
	OOMD_SAID_COOLDOWN = 8,
};

/*
 * What is said about one cgroup; key is its cgroup id, 0 for the root cgroup,
 * which is the whole system. A member counts if its bit is set in `said`. What
 * is not said is inherited from above, or is the default.
 */
struct oomd_settings {
	__u32 said;	   /* enum oomd_said */
	__u32 kill;	   /* enum oomd_kill */
	__u32 preference;  /* enum oomd_preference */
	__u32 policy;	   /* enum oomd_policy_said */
	__u64 cooldown_ns; /* see cooldown.bpf.h */
};

/* Cgroups that something can be said about. */
#define OOMD_SETTINGS_MAX 65536

/*
 * How long a domain's kills were held off, and for whom; key is the domain's
 * cgroup id, 0 for the system.
 */
struct oomd_domain {
	__u64 since_ns; /* CLOCK_MONOTONIC, when the hold-off began */
	__u64 leaf;	/* cgroup id of the leaf that is waited for */
};

/* Domains remembered, the ones that ran out of memory last. */
#define OOMD_DOMAINS_MAX 4096

/* What is done about a stall. */
enum oomd_action {
	OOMD_ACTION_NONE = 0, /* nothing is to be watched */
	OOMD_ACTION_KILL = 1, /* declare an OOM */
	OOMD_ACTION_REPORT = 2,
};

/* When a stall is an OOM. */
struct oomd_pressure {
	__u32 action;	/* enum oomd_action */
	__u32 resource; /* enum oomd_resource */
	__u32 level;	/* enum oomd_level */
	__u32 stall_us; /* in each ... */
	__u32 window_us;
	__u32 reserved;
	__u64 for_us;	 /* it has to last that long */
	__u64 min_usage; /* bytes that the domain uses at least */
};

/* Bits of oomd_pressure_said.said. */
enum oomd_pressure_part {
	OOMD_PRESSURE_SELF = 1,
	OOMD_PRESSURE_UNITS = 2,
};

/*
 * What is said about pressure; key is a cgroup id, 0 for the root cgroup. See
 * pressure.bpf.h for whom it is said.
 */
struct oomd_pressure_said {
	__u32 said; /* enum oomd_pressure_part */
	__u32 reserved;
	struct oomd_pressure self;  /* the cgroup's own pressure */
	struct oomd_pressure units; /* that of each unit in the slice */
};

/*
 * A cgroup with a trigger, and what came of its events; key is the cgroup id, 0
 * for the system.
 */
struct oomd_watch {
	/* Of the trigger. One that is not as is said now is ignored. */
	__u32 resource; /* enum oomd_resource */
	__u32 level;	/* enum oomd_level */
	__u32 stall_us;
	__u32 window_us;
	/* CLOCK_MONOTONIC */
	__u64 began_ns;	   /* the first event of the stall that lasts, or 0 */
	__u64 last_ns;	   /* the last event */
	__u64 reported_ns; /* the last event in the ring buffer */
	/* As they were at the last event. */
	__u64 total_ns; /* of the stall */
	__u64 scanned;
	__u64 high_events;
	__u64 max_events;
	/* The stall of the OOM that is being declared. */
	struct oomd_stall stall;
	__u64 outcomes[OOMD_OUTCOMES]; /* how often, by enum oomd_outcome */
};

/* A trigger to be created by init, and what came of it. */
struct oomd_trigger {
	__u64 cgroup_id;
	__u32 resource; /* enum oomd_resource */
	__u32 level;	/* enum oomd_level */
	__u32 stall_us;
	__u32 window_us;
	__s32 result; /* 0, or a negative errno */
	__u32 reserved;
};

/* Triggers that one init can create. */
#define OOMD_TRIGGERS_MAX 4096

/* Why a leaf cannot be chosen. */
enum oomd_excluded {
	OOMD_EXCLUDED_NOT = 0,
	OOMD_EXCLUDED_UNKILLABLE = 1, /* init, kernel thread, adj -1000 */
	OOMD_EXCLUDED_NO_PROCESS = 2, /* nothing in it left to kill */
	OOMD_EXCLUDED_SCORE_ZERO = 3, /* the policy sees nothing to gain */
	OOMD_EXCLUDED_OMITTED = 4,    /* preference omit */
};

/* One leaf, as the ranking program saw it. */
struct oomd_candidate {
	__u64 cgroup_id;
	__u64 score;
	__u64 bytes;	  /* memory without page cache */
	__u32 excluded;	  /* enum oomd_excluded */
	__u32 processes;  /* that could be killed */
	__u32 preference; /* enum oomd_preference, its own or inherited */
	__u32 reserved;
};

/* Leaves that one ranking run can report. */
#define OOMD_CANDIDATES_MAX 4096

/* Context of the ranking program: in the domain, out the number of leaves. */
struct oomd_ranking {
	__u64 domain; /* cgroup id, 0: the system */
	__u64 leaves; /* seen; only the first OOMD_CANDIDATES_MAX are reported
		       */
};

/*
 * A ranking run on a kernel without bpf_oom_ops: what is asked, and when it has
 * been answered. The leaves are those with processes.
 */
struct oomd_stock_run {
	__u64 domain;	 /* cgroup id, 0: the system */
	__u64 page_size; /* in bytes */
	__u64 asked;	 /* the number of this run */
	__u64 answered;	 /* the number of the last run that got to its end */
	__u64 leaves;	 /* as in oomd_ranking */
};

/*
 * Leaves that such a run can tell apart. Of more, each process counts as a
 * leaf.
 */
#define OOMD_STOCK_LEAVES_MAX (4 * OOMD_CANDIDATES_MAX)

#endif /* OOMD_INTF_H */
