/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs know of the kernel, and the only place in BPF that
 * knows it.
 *
 * Only the members that are used are named here. Their offsets are corrected
 * at load time from the running kernel's BTF (CO-RE, preserve_access_index),
 * so one object file serves every kernel that has these members, whatever
 * their order. A dump of one kernel's types (vmlinux.h) would add three
 * megabytes and hide which members matter.
 *
 * The kfuncs are declared by hand because not every pahole describes kfuncs in
 * a form that a header could be generated from. They are __weak: a kernel that
 * lacks one may still load an object whose programs do not call it.
 *
 * Sections: basic types, task and memory, cgroups, OOM, PSI, iterators,
 * variables, kfuncs.
 *
 * A type whose name ends in ___WHEN is that type as other kernels have it;
 * CO-RE leaves out what follows the three underscores.
 */
#ifndef OOMD_KERNEL_H
#define OOMD_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef signed short __s16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;

/* User interface values (include/uapi/linux/bpf.h): numbers never change. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

enum {
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
};

enum bpf_cgroup_iter_order {
	BPF_CGROUP_ITER_ORDER_UNSPEC = 0,
	BPF_CGROUP_ITER_SELF_ONLY,
	BPF_CGROUP_ITER_DESCENDANTS_PRE,
	BPF_CGROUP_ITER_DESCENDANTS_POST,
	BPF_CGROUP_ITER_ANCESTORS_UP,
};

/* include/uapi/asm-generic/errno-base.h */
enum {
	ENOENT = 2,
	ENOMEM = 12,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)),           \
			     apply_to = record)

/* ---- task and memory ---------------------------------------------------- */

#define PF_KTHREAD	  0x00200000 /* include/linux/sched.h */
#define OOM_SCORE_ADJ_MIN (-1000)    /* include/uapi/linux/oom.h */

/* Index into mm_struct.rss_stat (include/linux/mm_types_task.h). */
enum {
	MM_FILEPAGES,
	MM_ANONPAGES,
	MM_SWAPENTS,
	MM_SHMEMPAGES,
	NR_MM_COUNTERS,
};

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	s64 counter;
} atomic_long_t;

struct list_head {
	struct list_head *next;
};

struct percpu_counter {
	s64 count;
};

struct mm_struct {
	struct percpu_counter rss_stat[NR_MM_COUNTERS];
};

/* Before 6.2. */
struct mm_rss_stat {
	atomic_long_t count[NR_MM_COUNTERS];
};

struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct signal_struct {
	atomic_t live; /* threads that have not exited */
	short oom_score_adj;
	/* Set once the process has been chosen as an OOM victim. */
	struct mm_struct *oom_mm;
};

struct css_set;

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	u64 start_time; /* of bpf_ktime_get_ns() */
	char comm[16];
	struct list_head tasks; /* of processes, from and to init_task */
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct task_struct *group_leader;
	struct css_set *cgroups;
};

/* ---- cgroups ------------------------------------------------------------ */

/* include/linux/cgroup-defs.h: an enum without a name, so CO-RE has no handle
 * on it. The bit has not moved since it was added.
 */
#define CSS_ONLINE (1U << 1)

/* include/linux/cgroup.h */
#define CSS_TASK_ITER_PROCS (1U << 0)

struct rb_node {
	struct rb_node *rb_right;
	struct rb_node *rb_left;
};

struct rb_root {
	struct rb_node *rb_node;
};

/* Extended attributes: a tree ordered by name, descending (fs/xattr.c). */
struct simple_xattrs {
	struct rb_root rb_root;
};

struct simple_xattr {
	struct rb_node rb_node;
	char *name;
	size_t size;
	char value[];
};

/* Before 6.2: a list. */
struct simple_xattrs___before_6_2 {
	struct list_head head;
};

struct simple_xattr___before_6_2 {
	struct list_head list;
};

/* In 7.3 each is in a list as well. */
struct simple_xattr___listed {
	struct list_head node;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct kernfs_iattrs {
	kuid_t ia_uid;
	struct simple_xattrs xattrs;
};

struct kernfs_iattrs___before_6_2 {
	struct simple_xattrs___before_6_2 xattrs;
};

struct kernfs_iattrs___listed {
	struct list_head xattrs;
};

struct kernfs_node {
	const char *name;
	u64 id;
	/* NULL until something about the node is changed. */
	struct kernfs_iattrs *iattr;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	unsigned int flags;
	/* Itself and its children that are online. */
	atomic_t online_cnt;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root;

struct cgroup {
	struct cgroup_subsys_state self;
	int level; /* of the root: 0 */
	struct kernfs_node *kn;
	struct cgroup_root *root;
	struct cgroup *ancestors[]; /* by level, itself included */
};

/* Before 6.16, where cgroup_rstat_flush() takes a cgroup. */
struct cgroup___before_6_16 {
	struct list_head rstat_css_list;
};

struct cgroup_root {
	struct cgroup cgrp;
};

/* Of the enum only the name counts, see below. */
enum cgroup_subsys_id {
	memory_cgrp_id,
};

/* The cgroups of a task. */
struct css_set {
	struct cgroup_subsys_state *subsys[1]; /* by enum cgroup_subsys_id */
	struct cgroup *dfl_cgrp;	       /* in the tree of cgroup v2 */
};

/* In pages. */
struct page_counter {
	atomic_long_t usage;
	unsigned long high; /* PAGE_COUNTER_MAX: no limit */
};

/*
 * As of the last flush. The index is the item, where there are MEMCG_NR_STAT of
 * them. Since 6.10 there are fewer, and OOMD_STATS_INDEX, an array of bytes
 * that is not in the kernel's BTF, says where an item is; 255 for one that is
 * not counted.
 */
struct memcg_vmstats {
	long state[1];
};

#define OOMD_STATS_INDEX "mem_cgroup_stats_index"

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	bool oom_group; /* memory.oom.group */
	struct memcg_vmstats *vmstats;
	atomic_long_t memory_events[1]; /* by enum memcg_memory_event */
};

/* Of the four enums below only the names count: use bpf_core_enum_value(),
 * the numbers differ from kernel to kernel.
 */
enum node_stat_item {
	NR_ANON_MAPPED,
	NR_FILE_PAGES,
	NR_SHMEM,
	NR_KERNEL_STACK_KB,
};

enum memcg_stat_item {
	MEMCG_NR_STAT,
};

enum vm_event_item {
	PGFAULT,
	PGMAJFAULT,
	PGSCAN_KSWAPD,
	PGSCAN_DIRECT,
	OOM_KILL,
};

enum memcg_memory_event {
	MEMCG_LOW,
	MEMCG_HIGH,
	MEMCG_MAX,
	MEMCG_OOM,
	MEMCG_OOM_KILL,
	MEMCG_OOM_GROUP_KILL,
	MEMCG_NR_MEMORY_EVENTS,
};

/* ---- OOM ---------------------------------------------------------------- */

struct oom_control {
	struct mem_cgroup *memcg; /* NULL: the whole system is out of memory */
	int order;
	unsigned long totalpages;
	/* By the kernel's own killer, and how it rates the task. */
	struct task_struct *chosen;
	long chosen_points;
	/* Read-only for BPF. */
	bool bpf_memory_freed;
	const char *bpf_policy_name;
	const char *bpf_constraint;
};

struct bpf_oom_ctx {
	u64 cgroup_id; /* of the attachment, 0: system-wide */
};

#define BPF_OOM_NAME_MAX_LEN 64

struct bpf_oom_ops {
	int (*handle_out_of_memory)(struct bpf_oom_ctx *ctx,
				    struct oom_control *oc);
	void (*handle_cgroup_offline)(struct bpf_oom_ctx *ctx, u64 cgroup_id);
	char name[BPF_OOM_NAME_MAX_LEN];
};

/* Flag of bpf_out_of_memory(): wait for oom_lock instead of -EBUSY. */
#define BPF_OOM_FLAGS_WAIT_ON_OOM_LOCK (1ULL << 0)

/* ---- PSI ---------------------------------------------------------------- */

enum psi_res {
	PSI_IO,
	PSI_MEM,
	PSI_CPU,
	PSI_IRQ,
};

/* Or'ed to a psi_res: "full" instead of "some". */
#define BPF_PSI_FULL 0x80000000U

/* Opaque, but not just declared: libbpf compares the kfuncs' prototypes with
 * the kernel's, and a declaration is no struct to it.
 */
struct bpf_psi {
};

/* include/linux/psi_types.h. Only names count, see above. */
enum psi_states {
	PSI_IO_SOME,
	PSI_IO_FULL,
	PSI_MEM_SOME,
	PSI_MEM_FULL,
	PSI_CPU_SOME,
	PSI_CPU_FULL,
	NR_PSI_STATES,
};

enum psi_aggregators {
	PSI_AVGS,
	PSI_POLL,
	NR_PSI_AGGREGATORS,
};

struct psi_group {
	/* Of each aggregator for each state, in nanoseconds. In BTF an array of
	 * arrays is one of all their elements.
	 */
	u64 total[1];
};

struct psi_window {
	u64 size; /* ns */
};

struct psi_trigger {
	enum psi_states state;
	u64 threshold; /* ns */
	struct psi_group *group;
	struct psi_window win;
	u64 cgroup_id; /* 0: the system's */
};

struct bpf_psi_ops {
	int (*init)(struct bpf_psi *p);
	void (*handle_psi_event)(struct bpf_psi *p, struct psi_trigger *t);
	void (*handle_cgroup_online)(struct bpf_psi *p, u64 cgroup_id);
	void (*handle_cgroup_offline)(struct bpf_psi *p, u64 cgroup_id);
};

/* ---- iterators ---------------------------------------------------------- */

struct bpf_iter__task {
	struct task_struct *task; /* NULL at the end */
};

#pragma clang attribute pop

/* ---- kfuncs ------------------------------------------------------------- */

/* For bpf_for(). */
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

struct bpf_iter_css {
	__u64 __opaque[3];
} __attribute__((aligned(8)));

struct bpf_iter_css_task {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

/* Iterators and locks, for bpf_for_each(css, ...) and (css_task, ...). */
extern int bpf_iter_css_new(struct bpf_iter_css *it,
			    struct cgroup_subsys_state *start,
			    unsigned int flags) __weak __ksym;
extern struct cgroup_subsys_state *bpf_iter_css_next(struct bpf_iter_css *it)
	__weak __ksym;
extern void bpf_iter_css_destroy(struct bpf_iter_css *it) __weak __ksym;

extern int bpf_iter_css_task_new(struct bpf_iter_css_task *it,
				 struct cgroup_subsys_state *css,
				 unsigned int flags) __weak __ksym;
extern struct task_struct *bpf_iter_css_task_next(struct bpf_iter_css_task *it)
	__weak __ksym;
extern void bpf_iter_css_task_destroy(struct bpf_iter_css_task *it) __weak
__ksym;

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;

extern struct cgroup *bpf_cgroup_from_id(u64 cgid) __weak __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __weak __ksym;

extern struct task_struct *bpf_task_from_pid(s32 pid) __weak __ksym;
extern void bpf_task_release(struct task_struct *p) __weak __ksym;

/* Memory cgroups. Acquired ones must be put; all the rest take a trusted one.
 * Statistics are in bytes or counts, (unsigned long)-1 for an invalid item.
 */
extern struct mem_cgroup *bpf_get_root_mem_cgroup(void) __weak __ksym;
extern struct mem_cgroup *bpf_get_mem_cgroup(struct cgroup_subsys_state *css)
	__weak __ksym;
extern void bpf_put_mem_cgroup(struct mem_cgroup *memcg) __weak __ksym;
extern unsigned long bpf_mem_cgroup_vm_events(struct mem_cgroup *memcg,
					      enum vm_event_item event) __weak
__ksym;
extern unsigned long bpf_mem_cgroup_usage(struct mem_cgroup *memcg) __weak
__ksym;
extern unsigned long bpf_mem_cgroup_memory_events(struct mem_cgroup *memcg,
						  enum memcg_memory_event event)
	__weak __ksym;
extern unsigned long bpf_mem_cgroup_page_state(struct mem_cgroup *memcg,
					       int idx) __weak __ksym;
/* May sleep. */
extern void bpf_mem_cgroup_flush_stats(struct mem_cgroup *memcg) __weak __ksym;

/* The same before there was that one, from 6.1 on, see cgroup___before_6_16. */
extern void cgroup_rstat_flush(struct cgroup *cgrp) __weak __ksym;

/* struct_ops programs only; the first one may sleep. */
extern int bpf_oom_kill_process(struct oom_control *oc,
				struct task_struct *task,
				const char *message__str) __weak __ksym;
extern bool bpf_task_is_oom_victim(struct task_struct *task) __weak __ksym;

/* bpf_psi_ops programs only; both may sleep. */
extern int bpf_out_of_memory(struct mem_cgroup *memcg__nullable, int order,
			     u64 flags, const char *constraint_text__nullable)
	__weak __ksym;
extern int bpf_psi_create_trigger(struct bpf_psi *p, u64 cgroup_id,
				  u32 resource, u32 threshold_us, u32 window_us)
	__weak __ksym;

#endif /* OOMD_KERNEL_H */
