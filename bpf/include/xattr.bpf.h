/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The extended attributes by which a unit says its preference to systemd-oomd,
 * and the owner on whom their worth depends. They are read where the kernel
 * keeps them, when they are needed: services set them on themselves whenever
 * they like, and nobody is told.
 *
 * The tree's lock cannot be taken here. If an attribute is being set or removed
 * at that moment, the search may miss one, or the memory read may be
 * somebody else's by then. That gives a wrong answer this once, no more:
 * bpf_probe_read_kernel() bears any address.
 *
 * A kernel that keeps them otherwise has none, as far as this goes.
 */
#ifndef OOMD_XATTR_BPF_H
#define OOMD_XATTR_BPF_H

#include "kernel.h"
#include "intf.h"

/* As deep as a tree of 65535 names can be; a user may set 128 on a cgroup. */
#define OOMD_XATTR_LEVELS 32

/* Where they are in a list: as many as are looked at. */
#define OOMD_XATTR_NUMBER 256

/* A name as two numbers that compare as strcmp() compares names. */
#define OOMD_XATTR_NAME_LEN 16
_Static_assert(sizeof("user.oomd_avoid") <= OOMD_XATTR_NAME_LEN,
	       "the terminating NUL is what tells a name from longer ones");
static const char oomd_xattr_omit[OOMD_XATTR_NAME_LEN] = "user.oomd_omit";
static const char oomd_xattr_avoid[OOMD_XATTR_NAME_LEN] = "user.oomd_avoid";

static __always_inline u64 oomd_eight(const char *bytes)
{
	u64 eight;

	__builtin_memcpy(&eight, bytes, sizeof(eight));
	return bpf_be64_to_cpu(eight);
}

/*
 * Whether eight bytes are a word, whatever the case of its letters. It is given
 * in capitals, which have 0x40, and lack the 0x20 of small letters.
 */
static __always_inline bool oomd_is_word(u64 bytes, u64 word)
{
	u64 small = word >> 1 & 0x2020202020202020;

	return (bytes & ~small) == word;
}

/*
 * What systemd calls true (getxattr_at_bool() and parse_boolean()). No more
 * than eight bytes, NUL after those of the value; a value with NUL in it is not
 * true, so that the size has to be right.
 */
static __always_inline bool oomd_is_true(u64 bytes, u64 size)
{
#define OOMD_IS(word)                                                          \
	(size == sizeof(word) - 1 &&                                           \
	 oomd_is_word(bytes, oomd_eight((const char[sizeof(u64)]){word})))
	return OOMD_IS("1") || OOMD_IS("Y") || OOMD_IS("T") || OOMD_IS("ON") ||
	       OOMD_IS("YES") || OOMD_IS("TRUE");
#undef OOMD_IS
}

/* Read the name of an attribute as two numbers. */
static __always_inline void oomd_xattr_name(struct simple_xattr *xattr,
					    u64 *begin, u64 *rest)
{
	char found[3 * sizeof(u64)] = {};

	/* One more than compared: the last byte read is always NUL. */
	bpf_probe_read_kernel_str(found, OOMD_XATTR_NAME_LEN + 1,
				  BPF_CORE_READ(xattr, name));
	*begin = oomd_eight(found);
	*rest = oomd_eight(found + sizeof(u64));
}

static __always_inline bool oomd_xattr_is_true(struct simple_xattr *xattr)
{
	u64 size = BPF_CORE_READ(xattr, size);
	char value[sizeof(u64)] = {};

	/* Longer ones are no word. */
	if (size > sizeof(value))
		return false;
	bpf_probe_read_kernel(
		value, size,
		(void *)xattr +
			bpf_core_field_offset(struct simple_xattr, value));
	return oomd_is_true(oomd_eight(value), size);
}

/* Whether the tree below `node` has an attribute of that name that is true. */
__noinline u32 oomd_xattr_in_tree(u64 node, u64 name, u64 name_rest)
{
	int level;

	/* Old verifiers look at it even if it is never called. */
	if (!bpf_core_field_exists(struct simple_xattr, rb_node))
		return false;
	for (level = 0; level < OOMD_XATTR_LEVELS && node; level++) {
		struct simple_xattr *xattr;
		u64 begin, rest;

		xattr = (void *)(node - bpf_core_field_offset(
						struct simple_xattr, rb_node));
		oomd_xattr_name(xattr, &begin, &rest);
		if (begin == name && rest == name_rest)
			return oomd_xattr_is_true(xattr);
		/* Greater names are on the left (rbtree_simple_xattr_cmp()). */
		if (name > begin || (name == begin && name_rest > rest))
			node = (u64)BPF_CORE_READ((struct rb_node *)node,
						  rb_left);
		else
			node = (u64)BPF_CORE_READ((struct rb_node *)node,
						  rb_right);
	}
	return false;
}

/*
 * The same for the list with this head. `offset` is where in an attribute its
 * place in the list is.
 */
__noinline u32 oomd_xattr_in_list(u64 head, u64 offset, u64 name, u64 name_rest)
{
	u64 node = head;
	int number;

	for (number = 0; number < OOMD_XATTR_NUMBER; number++) {
		struct simple_xattr *xattr;
		u64 begin, rest;

		node = (u64)BPF_CORE_READ((struct list_head *)node, next);
		if (!node || node == head)
			break;
		xattr = (void *)(node - offset);
		oomd_xattr_name(xattr, &begin, &rest);
		if (begin == name && rest == name_rest)
			return oomd_xattr_is_true(xattr);
	}
	return false;
}

/*
 * What was changed about a cgroup's directory, NULL if nothing: then it is as
 * the kernel made it, root's and without extended attributes. The same if this
 * kernel's layout is not the one known here.
 */
static __always_inline struct kernfs_iattrs *oomd_attributes(u64 cgroup)
{
	struct kernfs_iattrs *none = NULL;

	if (!bpf_core_field_exists(struct kernfs_node, iattr) ||
	    !bpf_core_field_exists(none->ia_uid.val) ||
	    !bpf_core_field_exists(struct simple_xattr, name) ||
	    !bpf_core_field_exists(struct simple_xattr, value))
		return NULL;
	return BPF_CORE_READ((struct cgroup *)cgroup, kn, iattr);
}

/* The user to whom a cgroup belongs. */
static __always_inline u32 oomd_owner(u64 cgroup)
{
	struct kernfs_iattrs *attributes = oomd_attributes(cgroup);

	return attributes ? BPF_CORE_READ(attributes, ia_uid.val) : 0;
}

/* Whether there is an attribute of that name that is true. */
static __always_inline bool oomd_xattr_true(struct kernfs_iattrs *attributes,
					    u64 name, u64 name_rest)
{
	u64 address = (u64)attributes;

	if (bpf_core_field_exists(attributes->xattrs.rb_root.rb_node) &&
	    bpf_core_field_exists(struct simple_xattr, rb_node))
		return oomd_xattr_in_tree(
			(u64)BPF_CORE_READ(attributes, xattrs.rb_root.rb_node),
			name, name_rest);
	if (bpf_core_field_exists(struct kernfs_iattrs___before_6_2,
				  xattrs.head) &&
	    bpf_core_field_exists(struct simple_xattr___before_6_2, list))
		return oomd_xattr_in_list(
			address + bpf_core_field_offset(
					  struct kernfs_iattrs___before_6_2,
					  xattrs.head),
			bpf_core_field_offset(struct simple_xattr___before_6_2,
					      list),
			name, name_rest);
	if (bpf_core_field_exists(struct kernfs_iattrs___listed, xattrs.next) &&
	    bpf_core_field_exists(struct simple_xattr___listed, node))
		return oomd_xattr_in_list(
			address +
				bpf_core_field_offset(
					struct kernfs_iattrs___listed, xattrs),
			bpf_core_field_offset(struct simple_xattr___listed,
					      node),
			name, name_rest);
	return false;
}

/* The preference that a cgroup's attributes say; NONE if they say nothing. */
static __always_inline u32 oomd_xattr_preference(u64 cgroup)
{
	struct kernfs_iattrs *attributes = oomd_attributes(cgroup);

	if (!attributes)
		return OOMD_PREFERENCE_NONE;
	if (oomd_xattr_true(attributes, oomd_eight(oomd_xattr_omit),
			    oomd_eight(oomd_xattr_omit + sizeof(u64))))
		return OOMD_PREFERENCE_OMIT;
	if (oomd_xattr_true(attributes, oomd_eight(oomd_xattr_avoid),
			    oomd_eight(oomd_xattr_avoid + sizeof(u64))))
		return OOMD_PREFERENCE_AVOID;
	return OOMD_PREFERENCE_NONE;
}

#endif /* OOMD_XATTR_BPF_H */
