// SPDX-License-Identifier: GPL-2.0-only
/*
 * biggest-leaf: the leaf that uses most memory, page cache not counted, dies
 * whole. Leaves with an unkillable process are left alone, and so are those
 * with less memory than min-size.
 */
#include "policy.bpf.h"

OOMD_PARAMETER(bytes, min_size, 0);

static __always_inline u64 score(const struct oomd_leaf *leaf)
{
	return leaf->bytes < min_size ? 0 : leaf->bytes;
}

OOMD_POLICY(biggest_leaf, "biggest-leaf", score);
