// SPDX-License-Identifier: GPL-2.0-only
/*
 * What one thread of the daemon does between being woken up and killing a
 * cgroup: memory that it asks for, pages that it has to wait for, files that
 * it opens. For any kernel that has these tracepoints.
 */
#include "kernel.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

enum counted {
	ALLOCATIONS, /* of the C library */
	FAULTS,	     /* of pages */
	READS,	     /* from disks */
	RECLAIMS,    /* by itself, because it wants memory */
	MAPPINGS,    /* mmap(), brk() and their like */
	OPENED,	     /* files */
	CALLS,	     /* system calls, all of them */
	COUNTED,
};

/* A power of two. */
#define SEQUENCE_MAX 256

/* The thread's id. */
u64 watched;

/* Since it was woken up. */
u64 now[COUNTED];

/* Between being woken up and the kill; how many kills there were. */
u64 before_kill[COUNTED];
u64 kills;

/* The numbers of the system calls, in their order; those of the first kill
 * stay. */
u64 sequence[SEQUENCE_MAX];

static __always_inline bool is_watched(void)
{
	return watched && (u32)bpf_get_current_pid_tgid() == watched;
}

static __always_inline int count(enum counted what)
{
	if (is_watched())
		now[what]++;
	return 0;
}

SEC("uprobe")
int allocates(void *ctx)
{
	return count(ALLOCATIONS);
}

SEC("tracepoint/exceptions/page_fault_user")
int faults(void *ctx)
{
	return count(FAULTS);
}

SEC("tracepoint/block/block_bio_queue")
int reads(void *ctx)
{
	return count(READS);
}

SEC("tracepoint/vmscan/mm_vmscan_direct_reclaim_begin")
int reclaims(void *ctx)
{
	return count(RECLAIMS);
}

/* include/trace/events/syscalls.h */
struct sys_enter {
	u64 common;
	long id;
	unsigned long args[6];
};

struct sys_exit {
	u64 common;
	long id;
	long ret;
};

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define WRITE		  1
#define MMAP		  9
#define MPROTECT	  10
#define MUNMAP		  11
#define BRK		  12
#define MREMAP		  25
#define MADVISE		  28
#define EPOLL_WAIT	  232
#define OPENAT		  257
#define EPOLL_PWAIT	  281
#define OPEN_BY_HANDLE_AT 304
#define PIDFD_OPEN	  434
#define EPOLL_PWAIT2	  441

static __always_inline void killed(void)
{
	int i;

	for (i = 0; i < COUNTED; i++)
		before_kill[i] = now[i];
	kills++;
}

SEC("tracepoint/raw_syscalls/sys_enter")
int enters(struct sys_enter *ctx)
{
	long id = ctx->id;
	char byte = 0;

	if (!is_watched())
		return 0;
	now[CALLS]++;
	if (!kills)
		sequence[now[CALLS] % SEQUENCE_MAX] = id;
	switch (id) {
	case MMAP:
	case MPROTECT:
	case MUNMAP:
	case BRK:
	case MREMAP:
	case MADVISE:
		now[MAPPINGS]++;
		break;
	case OPENAT:
	case OPEN_BY_HANDLE_AT:
	case PIDFD_OPEN:
		now[OPENED]++;
		break;
	case WRITE:
		/* As to cgroup.kill; an eventfd takes eight bytes. */
		if (ctx->args[2] != 1)
			break;
		bpf_probe_read_user(&byte, 1, (void *)ctx->args[1]);
		if (byte == '1')
			killed();
		break;
	}
	return 0;
}

SEC("tracepoint/raw_syscalls/sys_exit")
int wakes_up(struct sys_exit *ctx)
{
	int i;

	if (!is_watched())
		return 0;
	if (ctx->id != EPOLL_WAIT && ctx->id != EPOLL_PWAIT &&
	    ctx->id != EPOLL_PWAIT2)
		return 0;
	for (i = 0; i < COUNTED; i++)
		now[i] = 0;
	return 0;
}
