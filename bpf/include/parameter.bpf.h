/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Parameters of a policy, which the administrator sets by name:
 *
 *	OOMD_PARAMETER(bytes, min_size, 0);
 *
 * declares `min-size`, a number of bytes, 0 if nobody says otherwise; the
 * policy reads the variable min_size. User space finds it and its kind in the
 * object's BTF, and changes it while the policy is in use, hence volatile. All
 * are as wide as the widest, so that one can be written without tearing.
 */
#ifndef OOMD_PARAMETER_BPF_H
#define OOMD_PARAMETER_BPF_H

#include "kernel.h"

typedef u64 oomd_parameter_bytes;
typedef u64 oomd_parameter_usec;
typedef u64 oomd_parameter_number;
typedef u64 oomd_parameter_bool;

#define OOMD_PARAMETER(kind, name, value)                                      \
	volatile oomd_parameter_##kind name SEC(".data.params") = value

#endif /* OOMD_PARAMETER_BPF_H */
