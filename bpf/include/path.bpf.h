/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a cgroup is in the tree, by names. Events carry it because an id alone
 * tells nothing of a cgroup that is gone when the event is read, and a unit
 * that has just started may be gone before anybody has looked at it.
 */
#ifndef OOMD_PATH_BPF_H
#define OOMD_PATH_BPF_H

#include "kernel.h"
#include "intf.h"
#include "settings.bpf.h"

/* NAME_MAX, with the terminating NUL. */
#define OOMD_NAME_LEN 256

/*
 * Write the path of `cgroup`, which is passed by its address. From the top: if
 * there is not room for all of it, units are in the part that is there. A name
 * is read in one go, to where there is room for the longest, so that the
 * verifier need not know how long it is.
 *
 * A global function, see settings.bpf.h. The memory to write to may be passed
 * to one, if its size is that of its type; to the verifier it could be NULL.
 */
__noinline int oomd_path_of(u64 cgroup, struct oomd_path *path)
{
	struct cgroup *leaf = (struct cgroup *)cgroup;
	/* An array without an end: by address, for CO-RE. */
	struct cgroup **ancestors =
		(struct cgroup **)__builtin_preserve_access_index(
			&leaf->ancestors);
	int levels = BPF_CORE_READ(leaf, level);
	u32 len = 0;
	int level;

	if (!path)
		return 0;
	/* Not from 0: the root has no name. */
	for (level = 1; level <= OOMD_LEVELS_MAX; level++) {
		struct cgroup *ancestor = NULL;
		long size;

		if (level > levels || len >= OOMD_PATH_LEN - OOMD_NAME_LEN)
			break;
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
				      ancestors + level);
		path->text[len] = '/';
		size = bpf_probe_read_kernel_str(
			path->text + len + 1, OOMD_NAME_LEN,
			BPF_CORE_READ(ancestor, kn, name));
		/* It counts the NUL, which the next "/" takes the place of. */
		if (size <= 1)
			break;
		len += size;
	}
	path->len = len;
	path->truncated = level <= levels;
	return 0;
}

#endif /* OOMD_PATH_BPF_H */
