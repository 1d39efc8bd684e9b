/* SPDX-License-Identifier: MIT */
/*
 * libkvmas: the memory half of a VMM. Guest memory is described as trees of regions, one root per
 * address space; each space is rendered to a flat view, and a running KVM is kept in step with
 * every space on its own (slot = as_id << 16 | id).
 *
 * Rules that hold for every function, unless its comment says otherwise:
 *
 * - It returns 0, or a positive count, or a negative errno; a result parameter named `ret` is
 *   written on success only. doc/errors.md lists every errno and what it means here.
 * - Failure changes nothing.
 * - Addresses (gpa), sizes and offsets are in bytes. A public range is (start, size). The size
 *   KVMAS_SIZE_MAX stands for 2^64.
 * - It may be called from any thread. Functions that read or change the tree wait for the
 *   object's transaction lock; what vCPU and I/O threads call (readers, views, exits, dirty
 *   bitmaps) does not. doc/threads.md has the contract.
 * - From inside a listener callback only the functions that say so may be called; what would
 *   change the topology returns -EBUSY there. (Listeners may be added and deleted.) Device
 *   callbacks (struct kvmas_ops) may call everything.
 * - In a forked child every function that can return an errno returns -EIO, and the others do
 *   nothing (KVM itself refuses a VM's ioctls from another process, virt/kvm/kvm_main.c).
 * - Strings passed in are copied. A `get` borrows: what it returns lives as long as its object.
 */
#ifndef KVMAS_H
#define KVMAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is built with hidden visibility: what stands here is what it exports. */
#pragma GCC visibility push(default)

/* The version of this interface; kvmas_version() is that of the library that was linked. */
#define KVMAS_VERSION_MAJOR 0
#define KVMAS_VERSION_MINOR 1
#define KVMAS_VERSION_PATCH 0

/* As a size, 2^64 bytes. A region of 2^64 - 1 bytes cannot be made. */
#define KVMAS_SIZE_MAX UINT64_MAX

/*
 * KVMAS_CONFIG(ram, .name = "ram", .size = 64 << 20): the address of a struct kvmas_ram_config
 * with its struct_size and these members set, all others 0. The structs may grow; struct_size
 * tells the library which members its caller knew: those beyond it count as 0, and one that the
 * library does not know yet must be 0, else -EOPNOTSUPP. A struct_size of 0 is -EINVAL.
 */
#define KVMAS_CONFIG(noun, ...)                                                                    \
	(&(const struct kvmas_##noun##_config){                                                    \
		.struct_size = sizeof(struct kvmas_##noun##_config), __VA_ARGS__})

struct kvmas;
struct kvmas_access;
struct kvmas_ram;
struct kvmas_region;
struct kvmas_space;
struct kvmas_view;
struct kvmas_reader;
struct kvmas_changes;
struct kvmas_listener;
struct kvmas_client;
struct kvmas_map;
struct kvmas_kvm;
struct kvmas_vcpu;
struct kvm_run;
struct iovec;

/**
 * Tell the version of the linked library.
 *
 * @return "MAJOR.MINOR.PATCH", static.
 * Since: 0.1
 */
const char *kvmas_version(void);

/* ------------------------------------------------------------------------------------------
 * Object: the one thing from which all others hang. There is no global state: several objects
 * live in a process and share no lock. Every other object holds a reference on its kvmas.
 * ------------------------------------------------------------------------------------------ */

/** Severity of a log message. Since: 0.1 */
enum kvmas_log_level {
	KVMAS_LOG_ERROR,
	KVMAS_LOG_WARNING,
	KVMAS_LOG_INFO,
};

/** What reads give where nothing answers. Since: 0.1 */
enum kvmas_unassigned {
	KVMAS_UNASSIGNED_ONES,
	KVMAS_UNASSIGNED_ZEROS,
};

/** How a kvmas is made. Since: 0.1 */
struct kvmas_config {
	size_t struct_size;
	/*
	 * The one function through which the library's own memory comes and goes (guest memory is
	 * mapped, see RAM blocks): size 0 frees ptr, ptr NULL allocates, else resizes. NULL on
	 * failure. Must be thread-safe. NULL: the C library's.
	 */
	void *(*realloc)(void *data, void *ptr, size_t size);
	void *realloc_data;
	/* Takes one line for people, without a newline. Must be thread-safe and call nothing of the
	 * library. NULL: messages are dropped. */
	void (*log)(void *data, enum kvmas_log_level level, const char *message);
	void *log_data;
	/* Caps on what one render may grow to; past them a commit returns -E2BIG. 0: 65536 ranges
	 * per view, 4194304 nodes visited per render. */
	uint64_t max_ranges;
	uint64_t max_nodes;
	/* How many regions may exist; past it kvmas_region_new returns -E2BIG. 0: 1048576. */
	uint64_t max_regions;
	/* How many bytes a map may hold that are not guest memory (kvmas_dma_map). 0: 65536. */
	uint64_t max_bounce;
	/* What reads give where nothing answers, or a device refuses. */
	enum kvmas_unassigned unassigned;
	/* Told of each access that nothing answered, where it was: access.offset is the address in
	 * access.space, access.size 1 to 8 bytes, value what was written, little-endian. On the
	 * thread that makes the access, no lock held, several at once. As a device callback it may
	 * call everything. NULL: none. */
	void (*trace_unassigned)(void *data, const struct kvmas_access *access, bool write,
				 uint64_t value);
	void *trace_data;
};

/**
 * Make an object.
 *
 * @config: NULL for all defaults; else with its struct_size set by hand (KVMAS_CONFIG has no noun
 *          for it).
 * @return 0; -ENOMEM; -EINVAL for a struct_size of 0.
 * Since: 0.1
 */
int kvmas_new(const struct kvmas_config *config, struct kvmas **ret);

/** Take a reference. Since: 0.1 */
struct kvmas *kvmas_ref(struct kvmas *kvmas);

/**
 * Drop a reference. With the last one every object that nobody holds any more ends, its
 * destroy hook run; the kvmas itself lives until the last object made from it is gone. NULL is
 * ignored.
 * Since: 0.1
 */
void kvmas_unref(struct kvmas *kvmas);

/**
 * End the objects that nobody holds any more and run their destroy hooks. Commit does the same;
 * call this where commits are rare. It also gives back the memory that is kept from one commit to
 * the next.
 *
 * @return 0; -EBUSY inside a transaction or a listener callback; -EIO.
 * Since: 0.1
 */
int kvmas_reclaim(struct kvmas *kvmas);

/**
 * Print spaces, views and slots as text: for people, its format may change.
 *
 * @return 0; -EIO when the stream fails; -EBUSY in a listener callback.
 * Since: 0.1
 */
int kvmas_dump(struct kvmas *kvmas, FILE *stream);

/* ------------------------------------------------------------------------------------------
 * Transactions: the only way topology changes. A mutator called outside begin ... commit is a
 * transaction by itself, so that its own return value may be that of a commit.
 *
 * Commit renders, asks listeners, checks, moves KVM's slots, publishes the new views, then tells
 * listeners: one commit for all spaces, all or nothing. Readers see the tree's last committed state
 * only.
 * ------------------------------------------------------------------------------------------ */

/**
 * Begin a transaction: waits while another thread has one open, and nests on the same thread.
 *
 * @return 0, and a commit or an abort is owed; -EBUSY in a listener callback; -EIO.
 * Since: 0.1
 */
int kvmas_begin(struct kvmas *kvmas);

/**
 * Commit: the outermost one makes the changes real, an inner one only ends its level. Whatever it
 * returns, the level has ended, and on failure all is as it was before the outermost begin.
 *
 * @return 0; -ECANCELED if an inner level was aborted; -ENOMEM; -E2BIG past a cap of the
 *         kvmas_config; what a listener's prepare, or a VMM's pause, refused with; -ENOSPC when
 *         KVM's slots do not suffice; -ERANGE for memory past the guest's addresses (gpa_bits);
 *         -EOPNOTSUPP for what KVM cannot do with a guest_memfd (private memory), and for an event
 *         channel that must be in KVM and cannot; what KVM refused an operation with;
 *         -ENOTRECOVERABLE if KVM refused the undoing as well: slots then differ from the
 *         views, or KVM has an event channel that no view shows, and every later commit tries
 *         again to bring them in step; -EINVAL without begin; -EBUSY in a listener callback, where
 *         the level has not ended.
 * Since: 0.1
 */
int kvmas_commit(struct kvmas *kvmas);

/**
 * Abort: the outermost one undoes every change since its begin; an inner one makes the outermost
 * commit undo them and return -ECANCELED.
 *
 * @return 0; -EINVAL without begin; -EBUSY in a listener callback.
 * Since: 0.1
 */
int kvmas_abort(struct kvmas *kvmas);

/* ------------------------------------------------------------------------------------------
 * RAM blocks: host memory behind RAM and ROM regions. A block may serve several kvmas objects
 * and any number of regions; its pages' dirtiness is kept here, by page of the block, whatever
 * slot or space a write came through.
 *
 * A block may change its size, up to a maximum that is mapped from the start, so that its hva
 * stays; and parts of it can be given back to the host.
 *
 * A block may have a guest_memfd besides, a file of KVM's for what only the guest may see: see
 * private memory. Its hva is then what the guest shares.
 * ------------------------------------------------------------------------------------------ */

/** Where a RAM block's memory comes from. Since: 0.1 */
enum kvmas_ram_source {
	KVMAS_RAM_ANON,   /* private anonymous memory */
	KVMAS_RAM_MEMFD,  /* a memfd of the library's, mapped shared: can be given to vhost-user */
	KVMAS_RAM_FILE,   /* fd at fd_offset, mapped shared, or private with KVMAS_RAM_PRIVATE */
	KVMAS_RAM_CALLER, /* hva, memory of the caller's, which must outlive the block */
};

/** Bits of kvmas_ram_config.flags. Only READONLY and GUEST_MEMFD apply to KVMAS_RAM_CALLER.
 *  Since: 0.1 */
enum kvmas_ram_flags {
	KVMAS_RAM_HUGETLB =
		1u << 0,         /* reserved huge pages of the default size, whole; ANON, MEMFD */
	KVMAS_RAM_THP = 1u << 1, /* ask for transparent huge pages */
	KVMAS_RAM_PREFAULT = 1u << 2, /* have every page present before kvmas_ram_new returns, and
					 before kvmas_ram_resize does */
	KVMAS_RAM_DUMP = 1u << 3,     /* keep it in core dumps */
	KVMAS_RAM_FORK = 1u << 4,     /* keep it in forked children */
	KVMAS_RAM_PRIVATE = 1u << 5,  /* FILE: copy on write, the file never changes */
	KVMAS_RAM_READONLY = 1u << 6, /* mapped without write access: for ROM regions only */
	KVMAS_RAM_GUEST_MEMFD = 1u << 7, /* guest_memfd holds what is private; not with PRIVATE or
					    READONLY */
};

/** How a RAM block is made. Since: 0.1 */
struct kvmas_ram_config {
	size_t struct_size;
	const char *name; /* for dumps and traces; needed */
	uint64_t size;    /* rounded up to the host's page size */
	enum kvmas_ram_source source;
	unsigned flags;
	int fd;             /* FILE: duplicated, the caller keeps its own */
	uint64_t fd_offset; /* FILE: page-aligned */
	void *hva;          /* CALLER: page-aligned */
	/* Runs once, after the last holder, views included, when nothing of the block is mapped any
	 * more; on whichever thread drops the last reference, possibly inside a commit, where what
	 * would change topology returns -EBUSY. NULL: none. */
	void (*destroy)(void *data);
	void *destroy_data;
	/* The size up to which it may grow, rounded up likewise; 0: size. All of it is mapped, but
	 * takes no memory until it is used. With HUGETLB, and for a READONLY file that ends before:
	 * size only. A memfd has this size from the start, CALLER's memory too. */
	uint64_t max_size;
	/* GUEST_MEMFD: a guest_memfd of the VM that is to show the block (duplicated, the caller
	 * keeps its own), and the page-aligned offset in it of the block's first byte. It must hold
	 * max_size. One that may be mapped can be the block's source as well, KVMAS_RAM_FILE at the
	 * same offset: what is shared and what is private are then the same pages. So it should be
	 * in a VM without private memory: the guest sees the file, but KVM's own accesses (its
	 * instruction emulator, its clock) go by the hva. */
	int guest_memfd;
	uint64_t guest_memfd_offset;
};

/**
 * Make a RAM block.
 *
 * @kvmas: whose allocation and log hooks it uses.
 * @return 0; -EINVAL for size 0 or too large to map, a max_size below size or one that cannot be,
 *         a missing name, an unaligned hva or offset, a regular file that ends before size, a size
 *         that is not whole huge pages with HUGETLB, flags that do not fit the source or each
 *         other, a guest_memfd that is none, ends before max_size, or is the source elsewhere;
 *         -ENOMEM; what mmap(2), memfd_create(2), fcntl(2), fstat(2) or madvise(2) said (PREFAULT
 *         needs Linux 5.14, else -EINVAL).
 * Cost: with PREFAULT, every page is touched. Since: 0.1
 */
int kvmas_ram_new(struct kvmas *kvmas, const struct kvmas_ram_config *config,
		  struct kvmas_ram **ret);

/** Take a reference. Since: 0.1 */
struct kvmas_ram *kvmas_ram_ref(struct kvmas_ram *ram);

/** Drop a reference; the last one unmaps what the library mapped. NULL is ignored. Since: 0.1 */
void kvmas_ram_unref(struct kvmas_ram *ram);

/** The block's first byte in this process, mapped until the last unref. Since: 0.1 */
void *kvmas_ram_get_hva(const struct kvmas_ram *ram);

/** The block's size in bytes, a multiple of the host's page size: as it is in a transaction that is
 *  open. Since: 0.1 */
uint64_t kvmas_ram_get_size(const struct kvmas_ram *ram);

/** The size up to which it may grow, a multiple of the host's page size. Since: 0.1 */
uint64_t kvmas_ram_get_max_size(const struct kvmas_ram *ram);

/** The block's name. Since: 0.1 */
const char *kvmas_ram_get_name(const struct kvmas_ram *ram);

/** The fd behind the block (MEMFD, FILE), borrowed; -1 where there is none. Since: 0.1 */
int kvmas_ram_get_fd(const struct kvmas_ram *ram);

/**
 * Mark pages dirty for every client: for writers outside the library and KVM (vhost, VFIO, the
 * VMM's own stores through hva). Writes through the library mark by themselves.
 *
 * @offset, @size: bytes of the block; any alignment, every page touched is marked. Up to its
 *                 maximal size: writers may come late to what a shrink has taken away.
 * @return 0; -EINVAL past that.
 * Since: 0.1
 */
int kvmas_ram_mark(struct kvmas_ram *ram, uint64_t offset, uint64_t size);

/**
 * Grow or shrink a block: part of the open transaction of the kvmas that it was made from, or one
 * by itself. Its hva stays. No region follows: to shrink, first shrink those that show its end
 * (kvmas_region_set_size); to grow, grow the block first; both orders may stand in one transaction.
 *
 * What a commit has added is dirty for every client; it reads as zero, or as the file. What one has
 * taken away goes back to the host, both sides of it, and stays mapped: whoever still holds an old
 * view reads zero there. CALLER's memory and a shared file stay as they are, and their guest_memfd:
 * what lies in them is their owner's.
 *
 * @size: bytes, rounded up to the host's page size. A regular file must hold them.
 * @return 0; -EINVAL for size 0, past the maximal size or the file's end; -EBUSY while there is a
 *         region, in the tree or not, or held by an old view only, that shows more than this, or
 *         one of another kvmas; -ENOMEM; what fstat(2) or, with PREFAULT, madvise(2) said; what
 *         kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_ram_resize(struct kvmas_ram *ram, uint64_t size);

/**
 * Give pages back to the host (balloon, virtio-mem): whoever touches them next finds zeroes, in a
 * PRIVATE file the file. A shared file, and a memfd, keep a hole there. The pages are dirty for
 * every client then. Listeners (ram_discard) of the spaces of the kvmas that the block was made
 * from, and that show some byte of it, are asked before, and may refuse. KVM needs no telling.
 *
 * HUGETLB pages go to the host's pool: one that is touched again when none is left is a SIGBUS.
 * With a guest_memfd both sides go: the guest finds zeroes whether it shares the page or not.
 *
 * @offset, @size: whole pages of the block, huge ones with HUGETLB.
 * @return 0; -EINVAL for size 0, unaligned, past the end of the block, or READONLY; -EOPNOTSUPP
 *         for CALLER, whose memory only its owner knows how to give back; what a listener refused
 *         with; what madvise(2) said (-EINVAL for locked memory, and for HUGETLB ANON before Linux
 *         5.18) or, of a guest_memfd, fallocate(2); -EBUSY inside a transaction or a listener
 *         callback; -EIO.
 * Cost: what listeners do, and for each space with one that wants to be asked a walk over its view.
 * Since: 0.1
 */
int kvmas_ram_discard(struct kvmas_ram *ram, uint64_t offset, uint64_t size);

/* ------------------------------------------------------------------------------------------
 * Regions: the nodes of the tree. A region has at most one container; aliases show it in
 * further places. Higher priority wins; among equals the one added later. Where a container has
 * no child, what lies below it shows. Any other region with children is its own background.
 * The attributes readonly, nonvolatile and unmergeable flow down from a container or alias to all
 * that is seen through it. A container holds its children, an alias its target, a view the
 * regions it shows. A container may hold an alias of itself that shows another part of it; it then
 * holds itself, until that alias is taken out.
 * ------------------------------------------------------------------------------------------ */

/** What a region is. Since: 0.1 */
enum kvmas_region_kind {
	KVMAS_REGION_CONTAINER, /* nothing but its children */
	KVMAS_REGION_RAM,
	KVMAS_REGION_ROM,      /* RAM that is always readonly */
	KVMAS_REGION_ROMD,     /* a ROM device: reads go to memory, writes to the device, unless
				  kvmas_region_set_romd has sent both to the device */
	KVMAS_REGION_MMIO,     /* a device */
	KVMAS_REGION_ALIAS,    /* a window onto another region, its children included */
	KVMAS_REGION_RESERVED, /* hides what lies below and answers nothing: for what the kernel or
				  another program answers */
};

/** One access to a device, as its callbacks see it; lives for the call. Since: 0.1 */
struct kvmas_access {
	uint64_t offset;           /* in the region */
	unsigned size;             /* 1, 2, 4 or 8 bytes, never past the region's end */
	bool smm;                  /* the vCPU was in system management mode */
	struct kvmas_space *space; /* the space it was made in; borrowed */
	void *requester;           /* kvmas_vcpu_config.requester, or kvmas_dma.requester */
	/* The reader that looked the device up, for the callback's own lookups and accesses. */
	struct kvmas_reader *reader;
};

/** Sizes of accesses, in bytes: 1, 2, 4 or 8. Since: 0.1 */
struct kvmas_access_rules {
	unsigned min;   /* 0: 1 */
	unsigned max;   /* 0: 8 */
	bool unaligned; /* also at offsets that are no multiple of the size */
};

/** How a device's registers lie in memory. Since: 0.1 */
enum kvmas_endian {
	KVMAS_LITTLE_ENDIAN,
	KVMAS_BIG_ENDIAN,
};

/**
 * A device's callbacks, and what accesses they take. Called on the thread that makes the access,
 * with no lock of the library held and several at once if several threads access the device. They
 * may begin and commit transactions, also one that removes this very region: it stays valid until
 * the callback returns. (They may not take away the vCPU or the reader that they run on.)
 *
 * Values are numbers, in the low bits. A callback returns 0, or a negative errno for "the device
 * refuses": a guest then reads ones.
 *
 * An access of the guest's is first cut where regions end, and into pieces that are `valid`: by
 * ascending address the largest of 1, 2, 4 or 8 bytes up to valid.max, and aligned unless
 * valid.unaligned. A piece below valid.min is refused (-EINVAL), and the callbacks do not hear of
 * it. Each piece is then brought into the form that the callbacks implement, `impl`: it is cut in
 * the same manner, and what is left below impl.min, or cannot be aligned, is widened to the
 * aligned unit of impl.min bytes around it. A widened read keeps the bytes asked for; a widened
 * write reads the unit, changes these bytes, and writes it back (bytes that cannot be read count
 * as 0). A device with registers that change when they are read, or cleared by writing ones, does
 * not ask for that. A unit that runs past the region's end is refused (-EINVAL).
 * Since: 0.1
 */
struct kvmas_ops {
	size_t struct_size;
	/* NULL: reads give ones. */
	int (*read)(void *opaque, const struct kvmas_access *access, uint64_t *value);
	/* NULL: writes are dropped. */
	int (*write)(void *opaque, const struct kvmas_access *access, uint64_t value);
	struct kvmas_access_rules valid; /* what a guest may do */
	struct kvmas_access_rules impl;  /* what the callbacks are called with */
	enum kvmas_endian endian;        /* which byte of a value has the lowest address */
};

/** How a region is made. Since: 0.1 */
struct kvmas_region_config {
	size_t struct_size;
	enum kvmas_region_kind kind;
	const char *name; /* for dumps; needed */
	uint64_t size;    /* 1 .. 2^64 - 2, or KVMAS_SIZE_MAX */
	/* RAM, ROM, ROMD: which block, and the page-aligned offset in it that is byte 0 here. */
	struct kvmas_ram *ram;
	uint64_t ram_offset;
	/* MMIO, ROMD: the device's callbacks, copied. NULL: reads give ones, writes are dropped. */
	const struct kvmas_ops *ops;
	void *opaque;
	/* ALIAS: the region shown, and the offset in it that appears at byte 0 of the alias. */
	struct kvmas_region *target;
	uint64_t target_offset;
	/* Runs once with opaque, after the last holder, views included; never inside a lookup or a
	 * dispatch: at the end of some later commit or listener round, or in kvmas_reclaim. NULL:
	 * none. */
	void (*destroy)(void *opaque);
	/* MMIO, ROMD: regions with the same guard are one device: an access to it from inside one
	 * of its own callbacks, by the reader that runs it, is refused (-EBUSY). Only the address
	 * counts. NULL: none; then accesses from inside callbacks end 8 levels deep (-ELOOP), as
	 * they do with one. */
	const void *guard;
};

/**
 * Make a region: enabled, without attributes (ROM is readonly by kind), ROMD in its readable
 * state, in no container. Making an alias waits for the transaction lock.
 *
 * @return 0; -EINVAL for size 0, a missing name, a member that the kind needs and lacks or has
 *         and cannot use, access rules that are none or allow nothing, an endian that is none, a
 *         guard on what is no device, an unaligned ram_offset, a RAM window past the end of its
 *         block (while a resize is not committed: past its old end or its new one, since an abort
 *         does not undo the making of a region), RAM on a READONLY block;
 *         -EXDEV for a target of another kvmas; -E2BIG past the cap of the kvmas_config; -ENOMEM;
 *         -EIO.
 * Since: 0.1
 */
int kvmas_region_new(struct kvmas *kvmas, const struct kvmas_region_config *config,
		     struct kvmas_region **ret);

/** Take a reference. Since: 0.1 */
struct kvmas_region *kvmas_region_ref(struct kvmas_region *region);

/** Drop a reference. NULL is ignored. Since: 0.1 */
void kvmas_region_unref(struct kvmas_region *region);

/** The region's name. Since: 0.1 */
const char *kvmas_region_get_name(const struct kvmas_region *region);

/** The region's kind. Since: 0.1 */
enum kvmas_region_kind kvmas_region_get_kind(const struct kvmas_region *region);

/** The opaque pointer of its config. Since: 0.1 */
void *kvmas_region_get_opaque(const struct kvmas_region *region);

/**
 * Add a child to a container; the container takes a reference.
 *
 * @parent: any kind but an alias.
 * @offset: where the child's byte 0 lies in the parent. A child may reach past its parent's end,
 *          or past 2^64: it is clipped.
 * @priority: among the parent's children only.
 * @return 0; -EINVAL for an alias as parent; -EEXIST if the child is in a container already;
 *         -ELOOP if the parent is inside the child, or an alias would be seen inside itself;
 *         -EXDEV for regions of two kvmas; -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_region_add(struct kvmas_region *parent, struct kvmas_region *child, uint64_t offset,
		     int priority);

/**
 * Take a region out of its container, which drops its reference.
 *
 * @return 0; -ENOENT if it is in none; -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_region_del(struct kvmas_region *region);

/*
 * The setters. Each returns 0; -ENOMEM; -ELOOP if an alias would come to be seen inside itself, or
 * lead to itself; what kvmas_begin and kvmas_commit return; and what its comment adds. Setting what
 * is set already changes nothing. Cost: the places where the region is seen, times the logarithm of
 * what lies beside it.
 */

/** A disabled region shows nothing, nor does anything below it. Since: 0.1 */
int kvmas_region_set_enabled(struct kvmas_region *region, bool enabled);

/** Guest writes do not reach what is seen through a readonly region. Since: 0.1 */
int kvmas_region_set_readonly(struct kvmas_region *region, bool readonly);

/** What is seen through it keeps its bytes without power: told in sections. Since: 0.1 */
int kvmas_region_set_nonvolatile(struct kvmas_region *region, bool nonvolatile);

/** Sections seen through it are never joined with their neighbours, so that parts of one block
 *  that come and go by themselves keep slots of their own. Since: 0.1 */
int kvmas_region_set_unmergeable(struct kvmas_region *region, bool unmergeable);

/** Have reads go to memory, or, with false, to the device like writes. -EINVAL for a region that is
 *  not ROMD. Since: 0.1 */
int kvmas_region_set_romd(struct kvmas_region *region, bool romd);

/** Move it in its container; it ends on top of its equals. -ENOENT without one. Since: 0.1 */
int kvmas_region_set_offset(struct kvmas_region *region, uint64_t offset);

/** Resize it. -EINVAL for size 0, and past the end of the block, if it has one. Since: 0.1 */
int kvmas_region_set_size(struct kvmas_region *region, uint64_t size);

/** Change its priority; it ends on top of its new equals. -ENOENT without a container.
 *  Since: 0.1 */
int kvmas_region_set_priority(struct kvmas_region *region, int priority);

/** Point an alias elsewhere, target and offset together. -EINVAL for another kind, -EXDEV.
 *  Since: 0.1 */
int kvmas_region_set_alias(struct kvmas_region *alias, struct kvmas_region *target,
			   uint64_t target_offset);

/** Move the window of an alias over its target. -EINVAL for another kind. Since: 0.1 */
int kvmas_region_set_alias_offset(struct kvmas_region *alias, uint64_t target_offset);

/* ------------------------------------------------------------------------------------------
 * Event channels: what becomes of a write to a device without its callback being called at once. An
 * ioeventfd signals an eventfd(2) in place of the callback; a coalesced zone lets writes wait in a
 * ring, in order, until somebody looks. Both belong to an MMIO or ROMD region, at an offset: they
 * go where it goes, are there only where all of their bytes (of a zone: some) are seen and can be
 * written, in memory and port spaces alike, and are edits of the open transaction like all others.
 *
 * Where a space that is bound, or that of ports, shows one, KVM is asked to see to it: then the
 * write does not end KVM_RUN. But KVM's buses know no address spaces (virt/kvm/kvm_main.c,
 * kvm_io_bus_write). So KVM is only asked if in every bound space the same bytes of the same region
 * answer there, or memory that KVM has mapped writable. Where that is not so, or KVM refuses (its
 * bus is full), and while a channel moves, the write ends KVM_RUN, and the library signals the
 * eventfd, or calls the device, by itself, in the right space. The dump and the counters tell which
 * it is.
 *
 * Coalesced writes are handed on, in the order of the ring, by kvmas_vcpu_handle_exit before it
 * answers anything, by an access (kvmas_dma_...) to a region that has a zone at that time, by
 * kvmas_synchronize and by kvmas_kvm_drain; not in a callback, or by who has a transaction open:
 * on that thread, one thread at a time, while the others wait. So hold no lock there that a
 * callback of a device with zones takes; and such a callback must not wait for a vCPU's thread.
 * The ring tells neither who wrote nor in which mode: requester is NULL, and space and smm are
 * those of the lowest as_id that does not show memory there. A device that must know has no
 * zones.
 *
 * What waits does so until then, for good if no vCPU exits: who wants it sooner calls
 * kvmas_kvm_drain, now and then, and before it stops or saves the machine. And whoever is woken by
 * an eventfd does so first, if the writes of its device before that may be coalesced: KVM signals
 * at once.
 *
 * All vCPUs of the VM must be known (kvmas_vcpu_add) and their whole kvm_run mapped: the ring is in
 * it.
 * ------------------------------------------------------------------------------------------ */

/** Bits of an event channel's flags. Since: 0.1 */
enum kvmas_channel_flags {
	KVMAS_CHANNEL_DATAMATCH = 1u << 0, /* an ioeventfd for one value only */
	/* A commit that would show it, in a bound space or that of ports, where KVM cannot see to
	 * it returns -EOPNOTSUPP, in place of leaving it to dispatch. One that shows it holds vCPUs
	 * out. */
	KVMAS_CHANNEL_MUST = 1u << 1,
};

/** Which writes signal which eventfd. Since: 0.1 */
struct kvmas_ioeventfd_config {
	size_t struct_size;
	uint64_t offset; /* in the region */
	unsigned size;   /* of the write, in bytes: 1, 2, 4 or 8; 0: any. (A size of 0 is cheapest
			    in memory: KVM need not look at the instruction. Intel hosts then do
			    not look whether it reads, either: arch/x86/kvm/vmx/vmx.c,
			    handle_ept_misconfig.) */
	unsigned flags;  /* enum kvmas_channel_flags */
	uint64_t datamatch; /* DATAMATCH: the value, as the device's write would be given it */
	int fd;             /* an eventfd, duplicated: the caller keeps its own */
};

/**
 * Have writes signal an eventfd: 1 is added, and the device's callback is not called. What dispatch
 * signals by itself, it drops if the counter is at its maximum.
 *
 * @return 0; -EINVAL for a region that is no device, an offset and size past its end, another size,
 *         DATAMATCH with size 0 or with a value that does not fit, or flags that are none; -EEXIST
 *         if the region has one at this offset that takes some of the same writes: either has size
 *         0, or both have the same size, and not two different values to match (as KVM has it,
 *         virt/kvm/eventfd.c, ioeventfd_check_collision); -EBADF; -EMFILE; -ENOMEM; -EOPNOTSUPP
 *         (MUST); what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_region_add_ioeventfd(struct kvmas_region *region,
			       const struct kvmas_ioeventfd_config *config);

/** Take one back: the one with this offset, size, and value to match; fd is not looked at, nor
 *  MUST. @return 0; -EINVAL without a config; -ENOENT; -ENOMEM; what kvmas_begin and
 *  kvmas_commit return, KVM's refusal among it. Since: 0.1 */
int kvmas_region_del_ioeventfd(struct kvmas_region *region,
			       const struct kvmas_ioeventfd_config *config);

/**
 * Let writes that lie wholly in a range of a region wait. Writes that signal an ioeventfd do not.
 *
 * @size: bytes, up to 2^31 - 1.
 * @flags: KVMAS_CHANNEL_MUST or 0.
 * @return 0; -EINVAL for a region that is no device, size 0 or too large, a range past its end, or
 *         flags that are none; -EEXIST if it overlaps a zone of this region; -ENOMEM; -EOPNOTSUPP
 *         (MUST); what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_region_add_coalesced(struct kvmas_region *region, uint64_t offset, uint64_t size,
			       unsigned flags);

/** Take back a zone that was added with these arguments. What waits by then is handed on as it
 *  would have been. @return 0; -ENOENT; -ENOMEM; what kvmas_begin and kvmas_commit return, KVM's
 *  refusal among it. Since: 0.1 */
int kvmas_region_del_coalesced(struct kvmas_region *region, uint64_t offset, uint64_t size);

/* ------------------------------------------------------------------------------------------
 * Spaces: an address space is a name, a root region and the view last published for it. A
 * transaction renders and publishes; listeners are told; KVM follows where the space is bound.
 * ------------------------------------------------------------------------------------------ */

/**
 * Make a space. It shows its root once the transaction in which it is made has committed; after
 * an abort it stays empty until the next commit. Spaces with the same root share its views: one
 * whose root is some other space's already shows it at once.
 *
 * @root: its byte 0 is address 0, its own size clips; the space takes a reference.
 * @return 0; -EINVAL without name or root; -EXDEV; -ENOMEM; what kvmas_begin and kvmas_commit
 *         return.
 * Since: 0.1
 */
int kvmas_space_new(struct kvmas *kvmas, const char *name, struct kvmas_region *root,
		    struct kvmas_space **ret);

/** Take a reference. Since: 0.1 */
struct kvmas_space *kvmas_space_ref(struct kvmas_space *space);

/** Drop a reference. NULL is ignored. Since: 0.1 */
void kvmas_space_unref(struct kvmas_space *space);

/** The space's name. Since: 0.1 */
const char *kvmas_space_get_name(const struct kvmas_space *space);

/**
 * Bring the dirty bitmaps up to date with all writes made through this space so far: calls the
 * log_sync of its listeners, KVM's among them. Other spaces are not touched. (With dirty rings one
 * sync serves all spaces of the VM.)
 *
 * While vCPUs run, KVM may still hold back a few of their writes (Intel's page-modification log,
 * which a vCPU empties when it leaves the guest: arch/x86/kvm/vmx/vmx.c, vmx_flush_pml_buffer);
 * they come with a later sync. With all vCPUs out of KVM_RUN a sync is complete.
 *
 * @gpa, @size: which part, 0 and KVMAS_SIZE_MAX for all; more may be read where a slot is larger.
 * @return 0; -EINVAL for size 0 or a range past 2^64; the first error of a listener, after all
 *         were called: what KVM's logs could not be read of counts as dirty; -EBUSY in a listener
 *         callback; -EIO.
 * Cost: with KVM one ioctl for each logged slot in that part; with dirty rings what is in them.
 * Since: 0.1
 */
int kvmas_space_sync(struct kvmas_space *space, uint64_t gpa, uint64_t size);

/**
 * The same for a part of a region, wherever it is seen, in all spaces of its kvmas: only slots that
 * may show it are read.
 *
 * @offset, @size: bytes of the region, 0 and KVMAS_SIZE_MAX for all of it.
 * @return 0; -EINVAL for size 0 or an offset past the region's end; -EBUSY inside a transaction, or
 *         in a listener callback; -ENOMEM; otherwise as kvmas_space_sync.
 * Cost: beyond the slots, the places in which the region is seen.
 * Since: 0.1
 */
int kvmas_region_sync(struct kvmas_region *region, uint64_t offset, uint64_t size);

/* ------------------------------------------------------------------------------------------
 * Readers and views: how vCPU and I/O threads look at a space while other threads commit. A view
 * is a snapshot: sorted, disjoint sections, immutable. What it points to (regions, ops, host
 * memory) stays valid until it is released. A reader belongs to one thread at a time, and is what
 * lets that thread look without a lock and without writing to memory that others write to: each
 * such thread has one. A vCPU has one of its own (kvmas_vcpu_get_reader).
 * ------------------------------------------------------------------------------------------ */

/** One range of a view. Pointers are borrowed from the view. Since: 0.1 */
struct kvmas_section {
	uint64_t gpa;
	uint64_t size;               /* bytes; KVMAS_SIZE_MAX for 2^64 and for 2^64 - 1 */
	uint64_t last;               /* its last address, gpa + size - 1, exact in every case */
	struct kvmas_region *region; /* who answers: never a container, never an alias */
	uint64_t offset;             /* in region, at gpa */
	bool readonly;
	bool nonvolatile;
	bool unmergeable;
	bool romd; /* a ROM device in its readable state: writes go to the device */
	/* Whether a client wants its dirty pages, after the change and before it: told to
	 * listeners, false in a lookup. region_add: was_logged is false; log_start: false, then
	 * true; log_stop: true, then false; region_del: both as it was. */
	bool logged;
	bool was_logged;
	struct kvmas_ram *ram; /* what reads reach: RAM, ROM and romd, else NULL */
	uint64_t ram_offset;   /* in ram, at gpa */
	void *hva;             /* host address of gpa; NULL without ram */
	int fd;                /* behind the block, with fd_offset at gpa; -1 without */
	uint64_t fd_offset;
};

/** Add a reader. @return 0; -ENOMEM; -EIO. Since: 0.1 */
int kvmas_reader_add(struct kvmas *kvmas, struct kvmas_reader **ret);

/** Take a reader away, which must hold no view. NULL is ignored. Since: 0.1 */
void kvmas_reader_del(struct kvmas_reader *reader);

/**
 * Pin the view last published for a space, which the caller holds, and whose kvmas is the reader's.
 * A reader may pin several, in any order; up to 8 at a time cost nothing but stores to its own
 * memory.
 *
 * @return the view, to be released by the same reader; NULL in a forked child only.
 * Cost: no lock, no allocation, no write to shared memory. Since: 0.1
 */
const struct kvmas_view *kvmas_view_acquire(struct kvmas_reader *reader, struct kvmas_space *space);

/** Unpin a view. NULL is ignored. Since: 0.1 */
void kvmas_view_release(struct kvmas_reader *reader, const struct kvmas_view *view);

/** Where an address leads, in a view. Pointers are borrowed from the view. Since: 0.1 */
struct kvmas_place {
	struct kvmas_region *region; /* who answers: never a container, never an alias */
	uint64_t offset;             /* of the address, in region */
	uint64_t left;               /* bytes from there to the section's end; at most 2^64 - 1 */
	void *hva;                   /* where reads are made: RAM, ROM and romd, else NULL */
	bool writable;               /* writes, too */
};

/**
 * Find who answers an address (of memory, or a port). The reader remembers the section it found
 * last: an address in it, in the same view, is found without a search.
 *
 * @view: pinned by this reader.
 * @return 0; -ENOENT where nothing answers. Not checked in a forked child, which has no views.
 * Since: 0.1
 */
int kvmas_reader_lookup(struct kvmas_reader *reader, const struct kvmas_view *view, uint64_t gpa,
			struct kvmas_place *ret);

/**
 * Wait until all looks and device callbacks of other threads, by any reader, that began before this
 * call have ended: what any reader has pinned now it has released, whatever it pins meanwhile. What
 * was reachable only through views of before is then not in use any more: also coalesced writes
 * that wait are handed on, by this thread.
 *
 * @return 0; -EDEADLK for a thread that has a view pinned, or is inside a device callback; -EBUSY
 *         inside a transaction or a listener callback; -EAGAIN if membarrier(2) has been taken away
 *         (by a sandbox) since the kvmas was made, and a reader has not looked since; -EIO.
 * Since: 0.1
 */
int kvmas_synchronize(struct kvmas *kvmas);

/**
 * Find the section that holds an address. The section is given whole: its members speak of its own
 * first address, which is gpa or below.
 *
 * @return 0; -ENOENT where nothing answers; -EIO.
 * Since: 0.1
 */
int kvmas_view_lookup(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret);

/**
 * Find the first section that ends at gpa or after it: with gpa 0, the view's first.
 *
 * @return 0; -ENOENT past the last section; -EIO.
 * Since: 0.1
 */
int kvmas_view_find(const struct kvmas_view *view, uint64_t gpa, struct kvmas_section *ret);

/**
 * Go on from a section to the one after it:
 * `for (err = kvmas_view_find(view, 0, &s); !err; err = kvmas_view_next(view, &s))` walks a view.
 *
 * @section: from this view; replaced on success.
 * @return 0; -ENOENT after the last section; -EIO.
 * Since: 0.1
 */
int kvmas_view_next(const struct kvmas_view *view, struct kvmas_section *section);

/* ------------------------------------------------------------------------------------------
 * DMA: how devices access guest memory. What an address leads to is looked up in the view of that
 * moment: memory is read and written, and marked dirty when written; a device's callbacks are
 * called as for a vCPU. An access ends at the first byte that cannot be had, and says how many came
 * before it.
 *
 * Errors of these functions, beyond their own: -ENXIO where nothing answers; -EROFS for a write to
 * what is readonly; -EINVAL for what the device's access rules refuse; -EBUSY for its guard, -ELOOP
 * 8 levels deep; what else the device's callback returned; -EIO in a forked child.
 * ------------------------------------------------------------------------------------------ */

/** Who makes accesses, and where. Since: 0.1 */
struct kvmas_dma {
	struct kvmas_reader *reader; /* the calling thread's; in a callback kvmas_access.reader */
	struct kvmas_space *space;   /* held by the caller; of the reader's kvmas */
	void *requester;             /* handed to devices in struct kvmas_access */
	bool smm;                    /* the same */
};

/**
 * Read from a space.
 *
 * @size: any; a range past 2^64 ends there with -ENXIO.
 * @done: how many bytes were read, also on failure; NULL if nobody asks.
 * Atomicity: a naturally aligned piece of guest memory of 2, 4 or 8 bytes is read at once.
 * Since: 0.1
 */
int kvmas_dma_read(const struct kvmas_dma *dma, uint64_t gpa, void *bytes, size_t size,
		   size_t *done);

/** Write to a space: as kvmas_dma_read. Since: 0.1 */
int kvmas_dma_write(const struct kvmas_dma *dma, uint64_t gpa, const void *bytes, size_t size,
		    size_t *done);

/** Write the same byte *size* times: as kvmas_dma_write. Since: 0.1 */
int kvmas_dma_fill(const struct kvmas_dma *dma, uint64_t gpa, unsigned char byte, uint64_t size,
		   uint64_t *done);

/**
 * Compare and exchange 1, 2, 4 or 8 bytes of guest memory, atomically against vCPUs and threads.
 *
 * @expected: a number in the host's byte order; what was found is written there.
 * @return 1 if it was as expected, and *desired* was written; 0 if not; -EINVAL for another size,
 *         or an address that is no multiple of it; -EOPNOTSUPP for a device; -ENXIO; -EROFS; -EIO.
 * Since: 0.1
 */
int kvmas_dma_compare_exchange(const struct kvmas_dma *dma, uint64_t gpa, unsigned size,
			       uint64_t *expected, uint64_t desired);

/** What a map is for. Since: 0.1 */
enum kvmas_map_flags {
	KVMAS_MAP_READ = 1 << 0,  /* the device reads: from guest memory, to the map */
	KVMAS_MAP_WRITE = 1 << 1, /* the device writes */
};

/** A range of a space as host memory. Since: 0.1 */
struct kvmas_map {
	const struct iovec *iov; /* its pieces, by ascending address */
	unsigned niov;
	uint64_t size; /* of all pieces together: what was asked for, or less */
};

/**
 * Get at a range of a space as host memory, for readv(2) and its like. It stays valid until it is
 * unmapped, also when commits show something else there, and whatever thread uses it.
 *
 * Guest memory is given as it lies there, neighbours in host memory as one piece. What is not
 * memory is given as a copy: read now with KVMAS_MAP_READ, written by kvmas_dma_unmap.
 *
 * @ret: a map that ends at the first byte that cannot be had, or where the copies have grown to
 *       kvmas_config.max_bounce. It holds the RAM blocks.
 * @return 0; -EINVAL for size 0, a range past 2^64, or flags that are none; -ENOMEM; -ENOBUFS if
 *         max_bounce is too small for the first device piece; what kvmas_dma_read and
 *         kvmas_dma_write return, if not even one byte can be had.
 * Since: 0.1
 */
int kvmas_dma_map(const struct kvmas_dma *dma, uint64_t gpa, uint64_t size, unsigned flags,
		  struct kvmas_map **ret);

/**
 * End a map. What was written is marked dirty, and copies are written where they were read.
 *
 * @dma: as in kvmas_dma_map, but with the calling thread's reader.
 * @written: how many of its bytes, from the first on; 0 for a map without KVMAS_MAP_WRITE. More
 *           than its size counts as its size.
 * @done: how many of them have arrived; NULL if nobody asks.
 * @return what kvmas_dma_write returns for the copies. The map is gone in any case.
 * Since: 0.1
 */
int kvmas_dma_unmap(const struct kvmas_dma *dma, struct kvmas_map *map, uint64_t written,
		    uint64_t *done);

/** A range of guest memory that is looked at again and again, like a virtqueue. All members are the
 *  library's. One thread at a time. Since: 0.1 */
struct kvmas_cache {
	uint64_t gpa;
	uint64_t size;
	bool write;
	uint64_t serial; /* of the view that the rest is from; 0 if from none */
	int err;
	void *hva;
	struct kvmas_ram *ram;
	uint64_t ram_offset;
};

/** Make a cache of a range, for writing as well or not. Nothing need end it. Since: 0.1 */
void kvmas_cache_init(struct kvmas_cache *cache, uint64_t gpa, uint64_t size, bool write);

/**
 * Tell where the range lies in host memory, by a pinned view: only in another view than the last
 * time is it looked up.
 *
 * @ret: valid until the view is released.
 * @return 0; -EINVAL for size 0 or a range past 2^64; -ENXIO if it is not all of one piece of guest
 *         memory, neighbours in host memory included; -EROFS.
 * Cost: a comparison, as long as the space does not change. Since: 0.1
 */
int kvmas_cache_get(struct kvmas_cache *cache, const struct kvmas_view *view, void **ret);

/** Mark bytes of the range dirty that were written at the host address that kvmas_cache_get gave;
 *  while the view is still pinned. @return 0; -EINVAL past the range, without *write*, or if the
 *  last kvmas_cache_get failed. Since: 0.1 */
int kvmas_cache_mark(const struct kvmas_cache *cache, uint64_t offset, uint64_t size);

/* ------------------------------------------------------------------------------------------
 * Listeners: a set of callbacks attached to one space. All are called on the committing thread,
 * under the transaction lock. A commit calls only listeners of spaces that change: that show other
 * sections afterwards, or log others.
 *
 * Asked: before anything of KVM's is touched, prepare, space by space in the order of their making.
 * It may reserve what the callbacks below will need, and may refuse: its negative errno is what the
 * commit returns. Who agreed gets exactly one of commit and cancel: if a later listener or KVM
 * refuses, all who agreed are cancelled, in the reverse order, and nobody is told anything.
 *
 * Told: after the new views of all spaces are published, again space by space: begin; region_del
 * by descending address; then, by ascending address, region_add, log_start, log_stop; commit.
 * log_start follows the region_add of a section that is logged from the start. A section that
 * changes in any way is deleted, exactly as it was added, and added anew; one whose `logged` alone
 * changes is not. These callbacks cannot fail.
 *
 * Listeners of one space are called by ascending priority; for region_del, log_stop and cancel by
 * descending priority; among equals, in the order of attaching, or its reverse.
 *
 * Sections live for the call. Callbacks may look at views and objects, and may not change topology
 * (-EBUSY).
 *
 * But they may add and delete listeners, of any space, also themselves; so may a tie's trace hook.
 * All calls of one commit, one sync, one take (log_clear), kvmas_ram_discard, kvmas_listener_add or
 * _del are a round; what is added or deleted while it goes on is so at its end, one after the
 * other, before the function that began the round returns. Who was added is then told the view as
 * it is by then, after a commit that failed the old one. Who was deleted hears the round to its
 * end, then the view as deletions, and nothing more. Who was added and deleted in one round is
 * never called. Replays belong to the round: what is added and deleted in them has its turn too,
 * until nothing is left.
 * ------------------------------------------------------------------------------------------ */

/** A listener's callbacks; any may be NULL. Since: 0.1 */
struct kvmas_listener_config {
	size_t struct_size;
	int priority;
	void *data;
	void (*begin)(void *data);
	void (*region_add)(void *data, const struct kvmas_section *section);
	void (*region_del)(void *data, const struct kvmas_section *section);
	void (*log_start)(void *data, const struct kvmas_section *section);
	void (*log_stop)(void *data, const struct kvmas_section *section);
	/* Mark (kvmas_ram_mark) what was written to logged sections in [gpa, last] so far. Called
	 * by kvmas_space_sync on its thread, under the transaction lock. 0, or a negative errno. */
	int (*log_sync)(void *data, uint64_t gpa, uint64_t last);
	void (*commit)(void *data);
	/* Asked before a commit: 0 (or a positive value) to agree, or a negative errno to refuse
	 * it. A listener without it agrees to everything. *changes*, which kvmas_changes_for_each
	 * reads, lives for the call. The published view is still the old one. */
	int (*prepare)(void *data, const struct kvmas_changes *changes);
	/* What prepare agreed to does not happen. Not called if there is no prepare. */
	void (*cancel)(void *data);
	/* A part of a block that the space shows, at least some byte of it, is to be given back to
	 * the host (kvmas_ram_discard). Called on the discarding thread, under the transaction
	 * lock, outside begin and commit, once for each discard. 0; or a negative errno to refuse,
	 * for one whose device or process holds on to the pages: then nothing is discarded. To be
	 * asked is no promise, another may refuse. NULL: agrees. */
	int (*ram_discard)(void *data, struct kvmas_ram *ram, uint64_t offset, uint64_t size);
	/* A client has taken dirty pages of this memory, which the space shows, and is about to
	 * read them: for one that marks a page once, and then no more until it is armed again
	 * here. The section is cut to the pages from the first taken to the last. Called by
	 * kvmas_client_take and its like on their thread, under the transaction lock, before
	 * they return. 0; or a negative errno if a later write might go unnoticed: then nothing
	 * is taken. NULL: what log_sync marks needs no arming. */
	int (*log_clear)(void *data, const struct kvmas_section *section);
};

/**
 * Attach a listener: it is told the whole view as additions, at once, or from inside a callback at
 * the end of the round. It holds its space.
 *
 * @ret: written before the listener is called.
 * @return 0; -ENOMEM; -EINVAL without a config; -EBUSY inside a transaction, unless in a callback;
 *         -EIO.
 * Since: 0.1
 */
int kvmas_listener_add(struct kvmas_space *space, const struct kvmas_listener_config *config,
		       struct kvmas_listener **ret);

/**
 * Detach a listener: it is told the whole view as deletions, at once, or from inside a callback at
 * the end of the round; then *listener* is gone.
 *
 * @return 0; -EALREADY if it was deleted earlier in this round; -EBUSY inside a transaction, unless
 *         in a callback; -EIO.
 * Since: 0.1
 */
int kvmas_listener_del(struct kvmas_listener *listener);

/* ------------------------------------------------------------------------------------------
 * Changes: what a commit is about to change, in the very order in which listeners will be told: for
 * a listener that is asked, and for whoever wants to know beforehand. Spaces are in the order of
 * their making; the order within one is that of the listeners' callbacks.
 * ------------------------------------------------------------------------------------------ */

/** What becomes of a section. Since: 0.1 */
enum kvmas_change_kind {
	KVMAS_CHANGE_DEL,
	KVMAS_CHANGE_ADD,
	KVMAS_CHANGE_LOG_START,
	KVMAS_CHANGE_LOG_STOP,
};

/**
 * Takes one change of a space: the section as region_del, region_add, log_start or log_stop are
 * given it. All pointers are borrowed for the call. A result other than 0 stops the walk.
 * Since: 0.1
 */
typedef int kvmas_change_fn(void *data, struct kvmas_space *space, enum kvmas_change_kind kind,
			    const struct kvmas_section *section);

/**
 * Call fn for each change that a prepare is asked about, in its space. Called inside that prepare
 * only, as often as it likes.
 *
 * @fn: stops the walk with a value other than 0.
 * @return 0 or what fn returned; -EIO. Cost: what changes; the whole view if what is logged
 *         changes, in whatever space.
 * Since: 0.1
 */
int kvmas_changes_for_each(const struct kvmas_changes *changes, kvmas_change_fn *fn, void *data);

/**
 * Tell what kvmas_commit of the open transaction would change if it were called now: in all spaces,
 * by the whole transaction so far, also from an inner level. No listener is called, KVM is not
 * asked, and nothing is published: the transaction goes on as if nothing had happened. Outside of a
 * transaction nothing would change.
 *
 * @fn: runs under the transaction lock; may look at views, which are the old ones; what would
 *      change topology, listeners included, returns -EBUSY there. NULL: only the result is wanted.
 * @return 0; what fn returned, if not 0; -ECANCELED if an inner level was aborted; -ENOMEM; -E2BIG;
 *         -EBUSY in a listener callback; -EIO. Cost: that of a commit's rendering.
 * Since: 0.1
 */
int kvmas_dry_run(struct kvmas *kvmas, kvmas_change_fn *fn, void *data);

/* ------------------------------------------------------------------------------------------
 * Clients: consumers of dirtiness (display, migration, snapshot ...). Each has a bitmap of its
 * own on every RAM block, one bit per host page of the block, up to its maximal size. All slots of
 * all spaces that show a page feed the same bit.
 *
 * To copy memory without losing a page: log_start; then again and again kvmas_space_sync for each
 * space, take, and only then read the pages taken. A bit means "may have been written": pages that
 * the guest only reads can be among them.
 *
 * Taking waits for the transaction lock if there is a listener with log_clear, which it has to
 * call, and for no commit otherwise.
 * ------------------------------------------------------------------------------------------ */

/** Make a client: its bitmaps start clean, and all that is logged is armed. @return 0; -ENOMEM;
 *  -EINVAL without a name; what kvmas_client_take says of arming; -EIO. Since: 0.1 */
int kvmas_client_new(struct kvmas *kvmas, const char *name, struct kvmas_client **ret);

/** Take a reference. Since: 0.1 */
struct kvmas_client *kvmas_client_ref(struct kvmas_client *client);

/** Drop a reference. What it had logged is no longer wanted from the next commit on. NULL is
 *  ignored. Since: 0.1 */
void kvmas_client_unref(struct kvmas_client *client);

/**
 * Ask for the dirty pages of a region, in a space. Part of a transaction, or one by itself.
 *
 * @region: which region's memory; NULL for all.
 * @space: writes made through which space; NULL for all.
 * @return 0; -EEXIST if this client has asked for just this; -EXDEV; -ENOMEM; what kvmas_begin
 *         and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_client_log_start(struct kvmas_client *client, struct kvmas_region *region,
			   struct kvmas_space *space);

/**
 * Take back what was asked for with the same arguments. Bits that are in the client's bitmaps stay;
 * what was written since the last kvmas_space_sync may not be among them: where it matters, sync
 * first.
 *
 * @return 0; -ENOENT if this was not asked for; -ENOMEM; what kvmas_begin and kvmas_commit
 *         return.
 * Since: 0.1
 */
int kvmas_client_log_stop(struct kvmas_client *client, struct kvmas_region *region,
			  struct kvmas_space *space);

/**
 * Fetch and clear a client's dirty bits of a RAM block: atomic against writers and the other
 * clients. When it returns, a write to a page that was taken will be noticed anew.
 *
 * @first_page, @npages: host pages of the block; first_page a multiple of 64. npages 0 takes
 *                       nothing.
 * @bitmap: (npages + 63) / 64 words, written: bit i of word w is page first_page + 64 w + i.
 * @return the number of dirty pages; -EINVAL past the maximal size or unaligned; -ENOENT if
 *         the client has no bitmap on this block: its kvmas never had a region on it; what
 *         KVM_CLEAR_DIRTY_LOG, or a listener's log_clear, refused with, and -EBUSY for one in a
 *         listener callback: all bits stay in place then, and *bitmap* is undefined; -EIO.
 * Since: 0.1
 */
int64_t kvmas_client_take(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t first_page,
			  uint64_t npages, uint64_t *bitmap);

/**
 * Put bits back that were taken and could not be used; other bits stay as they are.
 *
 * Arguments as for kvmas_client_take; bitmap is only read.
 * @return 0; errors as for kvmas_client_take.
 * Since: 0.1
 */
int kvmas_client_put(struct kvmas_client *client, struct kvmas_ram *ram, uint64_t first_page,
		     uint64_t npages, const uint64_t *bitmap);

/** Dirty pages that lie side by side in one block; whole host pages. Since: 0.1 */
struct kvmas_dirty_run {
	uint64_t start;        /* where its first byte is: in the region, or as gpa */
	uint64_t size;         /* bytes */
	struct kvmas_ram *ram; /* borrowed */
	uint64_t ram_offset;
	void *hva; /* of its first byte */
};

/**
 * Takes a run of dirty pages. 0 or a positive value: it has been dealt with; a negative errno stops
 * the walk, and this run and all behind it are put back.
 *
 * Called without any lock of the library's; may call everything.
 * Since: 0.1
 */
typedef int kvmas_dirty_fn(void *data, const struct kvmas_dirty_run *run);

/**
 * Take a client's dirty pages of a part of a region, run by run.
 *
 * @offset, @size: bytes of the region, 0 and KVMAS_SIZE_MAX for all of it; any alignment: every
 *                 page touched is taken whole, of its last one also what lies behind the region.
 * @fn: takes each run, ascending. The region must be held for as long.
 * @return the number of pages dealt with; what fn stopped with; -EINVAL for a region without
 *         memory, or past its end (size 0 takes nothing); otherwise as kvmas_client_take: what was
 *         dealt with by then is taken, all else is as before.
 * Since: 0.1
 */
int64_t kvmas_client_take_region(struct kvmas_client *client, struct kvmas_region *region,
				 uint64_t offset, uint64_t size, kvmas_dirty_fn *fn, void *data);

/**
 * Take a client's dirty pages of what a space shows in a range of addresses, run by run: ascending
 * by address, by the view as it is when this is called, which stays valid meanwhile. Where nothing
 * is, or a device, there is nothing to take.
 *
 * @gpa, @size: 0 and KVMAS_SIZE_MAX for all; any alignment. Pages of the block are taken whole:
 *              where some part of one is not in the range, or shown elsewhere, it comes along.
 * @return the number of pages dealt with; -EINVAL for a range past 2^64 (size 0 takes nothing);
 *         -EXDEV; otherwise as kvmas_client_take_region.
 * Since: 0.1
 */
int64_t kvmas_client_take_gpa(struct kvmas_client *client, struct kvmas_space *space, uint64_t gpa,
			      uint64_t size, kvmas_dirty_fn *fn, void *data);

/* ------------------------------------------------------------------------------------------
 * KVM: the tie to one VM of the caller's. Spaces are bound to KVM address spaces (as_id; on x86
 * 0 is normal, 1 is SMM); each keeps its slots in step with its space's view, merged on its own.
 * ------------------------------------------------------------------------------------------ */

/** What becomes of a slot. Since: 0.1 */
enum kvmas_slot_op_kind {
	KVMAS_SLOT_CREATE,
	KVMAS_SLOT_DELETE,
	KVMAS_SLOT_MOVE,
	KVMAS_SLOT_FLAGS,
};

/** A KVM memory slot. Pointers are borrowed. Since: 0.1 */
struct kvmas_slot {
	unsigned as_id;
	unsigned id;  /* without the as_id */
	uint64_t gpa; /* page-aligned, as are size and ram_offset */
	uint64_t size;
	struct kvmas_ram *ram;
	uint64_t ram_offset;
	uint32_t flags; /* KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MEM_GUEST_MEMFD */
};

/** When neighbouring slots of an address space that show contiguous host memory alike, whatever
 *  their regions, are one. What unmergeable regions show stays apart from all else, and so do the
 *  two sides of a declared boundary. Since: 0.1 */
enum kvmas_merge {
	/* A slot that shows what is wanted stays as it is; what is made anew is made in as few
	 * pieces as possible between. Slots are merged when ids run short, or when there are more
	 * than the view needs plus a budget: then those whose boundary is the oldest. */
	KVMAS_MERGE_STICKY,
	/* Always the fewest slots. */
	KVMAS_MERGE_EAGER,
	/* One slot for each range of the view. */
	KVMAS_MERGE_NONE,
};

/** Bits of kvmas_kvm_config.flags. Since: 0.1 */
enum kvmas_kvm_flags {
	/* Switch KVM_X86_QUIRK_SLOT_ZAP_ALL off (x86, Linux 6.12): a deletion or a move then drops
	 * the guest's mappings of its slot alone, at a cost that grows with the slot's mapped size,
	 * and not those of all slots. Merging then prefers small slots to old boundaries. Each call
	 * of KVM_CAP_DISABLE_QUIRKS2 may replace the one before (arch/x86/kvm/x86.c,
	 * kvm_vm_ioctl_enable_cap): a VMM that switches quirks off by itself does so afterwards,
	 * with this one among them. */
	KVMAS_KVM_ZAP_SLOT = 1u << 0,
};

/** How KVM tells which pages were written. Since: 0.1 */
enum kvmas_kvm_log {
	/* A bitmap for each logged slot; reading it clears it, and has KVM watch those pages
	 * again. */
	KVMAS_KVM_LOG_AUTO,
	/* The same, but reading does not clear: KVM watches a page again once a client has taken
	 * it, 64 pages at a time. Pages that are written all the time cost less, and the vCPUs are
	 * disturbed in smaller steps (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2). */
	KVMAS_KVM_LOG_MANUAL,
	/* The same, and a slot that comes to be logged is wholly dirty at first, so that nothing
	 * need be write-protected for it: for whoever copies all memory anyhow
	 * (KVM_DIRTY_LOG_INITIALLY_SET). Slots that a commit cuts, or merges, are dirty anew. */
	KVMAS_KVM_LOG_MANUAL_SET,
	/* Each vCPU has a ring of pages: what is in it is found without looking at bitmaps
	 * (KVM_CAP_DIRTY_LOG_RING, or _ACQ_REL). What KVM writes without a vCPU that runs is in no
	 * ring (arm64: the tables of the interrupt controller). */
	KVMAS_KVM_LOG_RING,
};

/** How the tie to a VM is made. Since: 0.1 */
struct kvmas_kvm_config {
	size_t struct_size;
	int vm_fd; /* borrowed: stays open as long as the tie lives */
	/* Issues every ioctl of the library, those on vCPUs included: 0 or positive as ioctl(2), or
	 * a negative errno. For sandboxes and tests. It may call nothing of the library. What KVM
	 * never returns counts as -EPROTO.
	 * NULL: ioctl(2). */
	int (*ioctl)(void *data, int fd, unsigned long request, void *arg);
	void *ioctl_data;
	/* Told after each slot operation (undoing included): the slot as it is from then on (for
	 * DELETE, as it was), and 0 or the negative errno. Not of log flags that are set for a
	 * moment only, so that KVM sees memory (doc/design.md, Event channels). Called on the
	 * committing thread, inside the commit: as from a listener callback, what would change the
	 * topology returns -EBUSY. NULL: none. */
	void (*trace)(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
		      int result);
	void *trace_data;
	unsigned flags; /* enum kvmas_kvm_flags */
	/* How many bits a guest physical address has in this VM: a commit that would map memory
	 * past them returns -ERANGE. 0: KVM decides, when it is asked (arch/x86/kvm/x86.c,
	 * kvm_arch_prepare_memory_region: the host's MAXPHYADDR, 52 without two-dimensional
	 * paging). */
	unsigned gpa_bits;
	/* For a VMM that has a gate of its own: have all vCPUs but that of this thread out of
	 * KVM_RUN and of every other vCPU ioctl when pause returns, and keep them out until resume.
	 * Called on the committing thread, inside the commit, at most once each, and only when a
	 * plan needs it: whether vCPUs exist or not. pause: 0, or a negative errno, with which the
	 * commit fails, and no resume. They may call nothing of the library. NULL: none; the gate
	 * (below) works in any case: it is closed after pause, and opened before resume. */
	int (*pause)(void *data);
	void (*resume)(void *data);
	void *pause_data;
	enum kvmas_kvm_log log; /* for good: a VM cannot leave its rings */
	/* RING: bytes of each vCPU's ring; a power of two, whole pages, 1 MiB at most. 16 bytes
	 * make an entry (struct kvm_dirty_gfn); the kernel keeps some hundreds of them to itself.
	 * Must be switched on before the VM has vCPUs, so the tie is made before them. Else 0. */
	unsigned ring_size;
	/* Asked, when the guest wants pages of a block with a guest_memfd to be private, or shared,
	 * whether they shall be: 0; or a negative errno, which kvmas_vcpu_handle_exit returns, and
	 * nothing is done. On the vCPU's thread, with a view pinned by its reader, no lock held; as
	 * a device callback it may call everything. NULL: they shall. */
	int (*convert)(void *data, uint64_t gpa, uint64_t size, bool is_private);
	void *convert_data;
};

/**
 * Make a tie to a VM.
 *
 * @return 0; -ENOMEM; -EOPNOTSUPP for a KVM with more spaces or slots than its interface can name,
 *         or without what flags or log ask for; -EINVAL for flags or a log that are none, gpa_bits
 *         over 64, one of pause and resume without the other, or a ring_size without RING, or RING
 *         with one that is no power of two of whole pages, or when there are vCPUs; -EBUSY in a
 *         listener callback; -EIO; what KVM_CHECK_EXTENSION, or KVM_ENABLE_CAP, returned. After an
 *         error the VM's way of logging may have been changed already.
 * Since: 0.1
 */
int kvmas_kvm_new(struct kvmas *kvmas, const struct kvmas_kvm_config *config,
		  struct kvmas_kvm **ret);

/** Take a reference. Since: 0.1 */
struct kvmas_kvm *kvmas_kvm_ref(struct kvmas_kvm *kvm);

/**
 * Drop a reference. When the tie ends its spaces are unbound, the VM's slots and event channels
 * left as they are: unbind first where the VM is to live on. With the last reference vm_fd may
 * be closed: so no thread is to be in a commit or a sync then, or in a take of pages that the VM
 * shows. NULL is ignored.
 * Since: 0.1
 */
void kvmas_kvm_unref(struct kvmas_kvm *kvm);

/**
 * Tell how many address spaces this VM has: KVM_CAP_MULTI_ADDRESS_SPACE, where KVM's 0 counts
 * as 1.
 * Since: 0.1
 */
unsigned kvmas_kvm_get_as_count(const struct kvmas_kvm *kvm);

/**
 * Bind a space to a KVM address space. Part of a transaction, or one by itself.
 *
 * @return 0; -EOPNOTSUPP for an as_id that this VM does not have; -EEXIST if the as_id is bound;
 *         -EXDEV; -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_bind(struct kvmas_kvm *kvm, struct kvmas_space *space, unsigned as_id);

/**
 * Unbind: the slots of this as_id are deleted, logged ones read before. Part of a transaction,
 * or one by itself.
 *
 * @return 0; -ENOENT if it is not bound; -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_unbind(struct kvmas_kvm *kvm, unsigned as_id);

/**
 * Set the space in which KVM_EXIT_IO is answered; NULL for none. Not tied to any as_id. Part of a
 * transaction, or one by itself.
 *
 * @return 0; -EXDEV; -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_set_pio_space(struct kvmas_kvm *kvm, struct kvmas_space *space);

/**
 * Keep slot ids out of the library's hands: they are the VMM's own.
 *
 * @return 0; -EINVAL for ids past the limit; -EOPNOTSUPP for an as_id that this VM does not have;
 *         -EBUSY if one is in use, or in a listener callback; -EEXIST if one is reserved; -EIO.
 * Since: 0.1
 */
int kvmas_kvm_reserve_ids(struct kvmas_kvm *kvm, unsigned as_id, unsigned first, unsigned count);

/**
 * Keep a gpa range free of the library's slots, in every as_id: it is the VMM's own or the
 * kernel's (TSS, identity map, APIC page: KVM makes these in every space, arch/x86/kvm/x86.c).
 * Takes effect with the transaction, or at once.
 *
 * @gpa, @size: page-aligned.
 * @return 0; -EINVAL for unaligned, empty or past 2^64; -EEXIST if some of it is reserved; -ENOMEM;
 *         what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_reserve_range(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size);

/**
 * Set when slots of this as_id are merged. Part of a transaction, or one by itself; the slots
 * follow at once, but for STICKY, which leaves them as they are.
 *
 * @merge: at first KVMAS_MERGE_STICKY.
 * @return 0; -EINVAL for an unknown policy; -EOPNOTSUPP for an as_id that this VM does not have;
 *         -ENOMEM; what kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_set_merge(struct kvmas_kvm *kvm, unsigned as_id, enum kvmas_merge merge);

/**
 * Set how many slots more than its view needs this as_id may have under KVMAS_MERGE_STICKY. A
 * commit that would exceed that merges down to half of it, oldest boundaries first, in one stop.
 *
 * @budget: at first 256.
 * Arguments and errors as for kvmas_kvm_set_merge.
 * Since: 0.1
 */
int kvmas_kvm_set_budget(struct kvmas_kvm *kvm, unsigned as_id, unsigned budget);

/**
 * Declare a boundary: no slot of this as_id shall contain bytes on both sides of gpa. Where it is
 * known beforehand what a chipset switches (SMRAM at 0xa0000, PAM from 0xc0000 on), slots need not
 * be torn when it does so first. Part of a transaction, or one by itself; a slot that is there
 * across is cut at once, so declare before binding.
 *
 * @gpa: page-aligned, not 0. A boundary may be declared more than once, and then counts.
 * @return 0; -EINVAL; -EOPNOTSUPP for an as_id that this VM does not have; -ENOMEM; what
 *         kvmas_begin and kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_add_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa);

/** Take back a boundary; slots are not merged by that, but under EAGER. Part of a transaction, or
 *  one by itself. @return 0; -ENOENT if it was not declared; -EOPNOTSUPP; -ENOMEM; what kvmas_begin
 *  and kvmas_commit return. Since: 0.1 */
int kvmas_kvm_del_boundary(struct kvmas_kvm *kvm, unsigned as_id, uint64_t gpa);

/**
 * Merge the slots of this as_id, once, into the fewest that its policy allows: for a quiet moment.
 * Part of a transaction, or one by itself.
 *
 * @return 0; -EOPNOTSUPP for an as_id that this VM does not have; -ENOMEM; what kvmas_begin and
 *         kvmas_commit return.
 * Since: 0.1
 */
int kvmas_kvm_merge(struct kvmas_kvm *kvm, unsigned as_id);

/** Tell how many more slots this as_id can have. @return count; -EOPNOTSUPP, -EBUSY, -EIO.
 *  Since: 0.1 */
int kvmas_kvm_slots_free(struct kvmas_kvm *kvm, unsigned as_id);

/**
 * Call fn for each slot that KVM has, by as_id and gpa.
 *
 * @fn: stops the walk with a value other than 0; may not change topology.
 * @return 0 or what fn returned; -EBUSY in a listener callback; -EIO.
 * Since: 0.1
 */
int kvmas_kvm_for_each_slot(struct kvmas_kvm *kvm,
			    int (*fn)(void *data, const struct kvmas_slot *slot), void *data);

/** Takes one operation of a plan: the slot as kvmas_kvm_config.trace is given it, borrowed for the
 *  call. A result other than 0 stops the walk. Since: 0.1 */
typedef int kvmas_slot_op_fn(void *data, enum kvmas_slot_op_kind kind,
			     const struct kvmas_slot *slot);

/** As many address spaces as a tie can have. Since: 0.1 */
#define KVMAS_KVM_MAX_SPACES 16

/** What a commit would do to the slots of a VM. Since: 0.1 */
struct kvmas_kvm_plan {
	size_t struct_size; /* set by the caller: members beyond it are not written */
	uint64_t slot_creates;
	uint64_t slot_deletes;
	uint64_t slot_moves;
	uint64_t slot_flags;
	uint64_t zap_events;      /* deletions and moves: each drops the guest's mappings of all
				     slots in all spaces (with ZAP_SLOT: of its slot) */
	uint64_t bytes_torn_live; /* as in kvmas_kvm_stats */
	uint64_t stop;            /* 1 if other vCPUs must be held out meanwhile, else 0 */
	uint64_t slots[KVMAS_KVM_MAX_SPACES]; /* afterwards, by as_id */
	uint64_t channel_unmakes; /* ioeventfds and coalesced zones to be taken from KVM, */
	uint64_t channel_makes;   /* and those that it is to be given */
};

/**
 * Tell what kvmas_commit of the open transaction would do to the slots of this VM if it were called
 * now, by the whole transaction so far: as kvmas_dry_run, and KVM is not asked either. Outside of a
 * transaction the plan is empty, unless slots and views differ (-ENOTRECOVERABLE).
 *
 * @fn: called for each operation, in order, under the transaction lock; what would change topology
 *      returns -EBUSY there. NULL: none.
 * @ret: with its struct_size set; NULL: only the result is wanted.
 * @return 0; what fn returned, if not 0; what the commit would return before its first ioctl
 *         (-ENOSPC, -ERANGE, -ENOMEM ...), but for listeners, which are not asked; -EINVAL for a
 *         struct_size of 0; -EBUSY in a listener callback; -EIO. Cost: that of a commit without its
 *         ioctls.
 * Since: 0.1
 */
int kvmas_kvm_dry_run(struct kvmas_kvm *kvm, kvmas_slot_op_fn *fn, void *data,
		      struct kvmas_kvm_plan *ret);

/** What a tie has done so far. Since: 0.1 */
struct kvmas_kvm_stats {
	size_t struct_size; /* set by the caller: members beyond it are not written */
	uint64_t commits;   /* that issued at least one slot operation */
	uint64_t slot_creates;
	uint64_t slot_deletes;
	uint64_t slot_moves;
	uint64_t slot_flags;
	uint64_t bytes_torn_live; /* unmapped by a delete or move though mapped alike before and
				     after */
	uint64_t vcpu_stops;      /* commits that held other vCPUs out, or had pause do it */
	uint64_t log_reads;       /* KVM_GET_DIRTY_LOG calls */
	uint64_t mmio_exits;      /* answered by the library */
	uint64_t pio_exits;       /* answered by the library */
	uint64_t unassigned;      /* accesses by vCPUs that nothing answered */
	uint64_t vcpu_stop_ns;  /* nanoseconds from first asking vCPUs to leave until they may enter
				  again, over all stops */
	uint64_t log_clears;    /* KVM_CLEAR_DIRTY_LOG calls */
	uint64_t ring_entries;  /* read from dirty rings */
	uint64_t ring_strays;   /* of those: named no page of a logged slot, and were dropped */
	uint64_t ring_resets;   /* KVM_RESET_DIRTY_RINGS calls */
	uint64_t ring_full;     /* KVM_EXIT_DIRTY_RING_FULL exits, answered by the library */
	uint64_t refused;       /* accesses that a device, or its access rules, refused */
	uint64_t channel_makes; /* ioeventfds and coalesced zones that KVM was given */
	uint64_t channel_unmakes;  /* and that were taken back */
	uint64_t channels_in_kvm;  /* places of event channels that KVM sees to now */
	uint64_t channels_by_hand; /* and those that are seen, but left to dispatch */
	uint64_t events;           /* eventfds that dispatch signalled, for vCPUs */
	uint64_t coalesced_writes; /* handed on from the ring */
	uint64_t coalesced_strays; /* entries of it that made no sense, and were dropped */
	uint64_t conversions;      /* KVM_EXIT_MEMORY_FAULT exits, answered by the library */
};

/** Read the counters into a struct whose struct_size is set: each is exact, together they are no
 *  snapshot. Since: 0.1 */
void kvmas_kvm_get_stats(const struct kvmas_kvm *kvm, struct kvmas_kvm_stats *ret);

/* ------------------------------------------------------------------------------------------
 * Private memory: pages that only the guest may see come from a guest_memfd, a file of KVM's
 * (Linux 6.8; for VMs without private memory 6.18), and each page of the guest is private or
 * shared, as the VM's attributes say. A RAM block has both: KVMAS_RAM_GUEST_MEMFD. What the VMM,
 * devices and DMA see of it is the shared side, whatever the guest sees; unless the file may be
 * mapped, and is the source as well.
 *
 * What KVM cannot do with the slots of such a block (virt/kvm/kvm_main.c) a commit refuses, with
 * -EOPNOTSUPP, before anything is changed: to show it readonly; to log it, at whoever's wish, also
 * a wish for everything; to show a page of the file twice, in one as_id or two, through one block
 * or two; any slot of it where KVM has no guest_memfd (KVM_CAP_GUEST_MEMFD, KVM_CAP_USER_MEMORY2).
 * Nor does such a slot move: it is deleted and made anew, and keeps its contents, which are the
 * file's. (In a TDX guest a page that was gone must be accepted anew: declare boundaries, or make
 * regions unmergeable, so that slots are not torn.)
 *
 * Who wants a second view of what is shared, or one that can be logged, or SMM's, makes a second
 * block over the same memory without the flag: CALLER at the first one's hva, or FILE.
 * ------------------------------------------------------------------------------------------ */

/** Bits of kvmas_kvm_create_guest_memfd's flags. Since: 0.1 */
enum kvmas_guest_memfd_flags {
	KVMAS_GUEST_MEMFD_MMAP = 1u << 0,        /* it may be mapped, shared */
	KVMAS_GUEST_MEMFD_INIT_SHARED = 1u << 1, /* its pages are shared at first: with MMAP, what
						    is mapped may be touched */
};

/**
 * Make a guest_memfd for this VM: what a KVMAS_RAM_GUEST_MEMFD block is made of.
 *
 * @size: in whole host pages; for good.
 * @return a file descriptor, the caller's, closed on exec; -EINVAL for size 0, unaligned, or flags
 *         that are none; -EOPNOTSUPP for a KVM without guest_memfd for this type of VM, or without
 *         such flags (KVM_CAP_GUEST_MEMFD_FLAGS); what KVM said; -EIO.
 * Since: 0.1
 */
int kvmas_kvm_create_guest_memfd(struct kvmas_kvm *kvm, uint64_t size, unsigned flags);

/**
 * Say that pages of the guest are private from now on, or shared. That is the VM's, by gpa, in all
 * its address spaces, whatever slots are there or will be: no part of a transaction, and not undone
 * with one. No page is given back: kvmas_ram_discard does that, for both sides. Pages are shared at
 * first.
 *
 * @gpa, @size: page-aligned.
 * @return 0; -EINVAL for unaligned, empty or past 2^64; -EOPNOTSUPP for a VM without private memory
 *         (KVM_CAP_MEMORY_ATTRIBUTES); what KVM said; -EIO.
 * Since: 0.1
 */
int kvmas_kvm_set_private(struct kvmas_kvm *kvm, uint64_t gpa, uint64_t size, bool is_private);

/* ------------------------------------------------------------------------------------------
 * vCPUs: a KVM exit answered in the space that the vCPU was in; and the gate, through which vCPU
 * threads enter KVM_RUN and other vCPU ioctls, so that a commit can hold them out.
 *
 * A commit closes the gate at most once, for all spaces together, and only if its plan unmaps for
 * a moment what is mapped before and after, or takes a logged slot away, or its log flag, or
 * gives KVM a channel that it must have (KVMAS_CHANNEL_MUST): most commits do neither. (One that
 * fails may have to stop them for its undoing.) It asks each vCPU that is inside to leave (kick),
 * waits until all are out, and opens the gate when the new views are published. A vCPU whose
 * thread is elsewhere, in a device callback, waiting in kvmas_begin, or gone, is outside already;
 * the committing thread's own is outside by being there. A vCPU that does not pass the gate is
 * not known to be inside, and is not held.
 * ------------------------------------------------------------------------------------------ */

/** What a vCPU is. Since: 0.1 */
struct kvmas_vcpu_config {
	size_t struct_size;
	int fd;              /* borrowed */
	struct kvm_run *run; /* the mapped kvm_run, borrowed */
	size_t run_size;     /* KVM_GET_VCPU_MMAP_SIZE: the ring of coalesced writes is in it */
	void *requester;     /* handed to devices in struct kvmas_access */
	/*
	 * How to make KVM_RUN of this vCPU return, when the gate closes while it is inside: one of
	 * the two, else it cannot pass the gate. The library installs no handler and changes no
	 * mask. It sets a bit of its own in kvm_run.immediate_exit before, and takes it back when
	 * KVM_RUN has returned: a 1 of the VMM's there is left alone. (A VMM that clears
	 * immediate_exit does so outside the gate.) Who does not come out soon is kicked again.
	 *
	 * kick_signal: sent to the thread that is inside. One for which the VMM has a handler that
	 * returns, installed without SA_RESTART; or one that is blocked in this thread and let in
	 * by KVM_SET_SIGNAL_MASK. In that case it stays pending after KVM_RUN
	 * (Documentation/virt/kvm/api.rst): take it with sigtimedwait(2) whenever kvmas_vcpu_run
	 * returns 1 or -EINTR. 0: none.
	 *
	 * kick: called on the committing thread, which waits for it; may call nothing of the
	 * library, and wait for nothing that a vCPU thread holds while it enters or leaves the
	 * gate. Must have KVM_RUN, or the ioctl that the thread is in, return soon, by a signal or
	 * otherwise, and may be called when it has just returned. NULL: none.
	 */
	int kick_signal;
	void (*kick)(void *data);
	void *kick_data;
	/* KVMAS_KVM_LOG_RING: this vCPU's ring, ring_size bytes of its fd mapped shared from page
	 * KVM_DIRTY_LOG_PAGE_OFFSET on; borrowed. What is in it when it is added counts as written
	 * to the slots of that moment: so add a vCPU before it runs. Nobody else may write there:
	 * what makes no sense is dropped, but an entry of KVM's that is overwritten is a page that
	 * is not told of. Else NULL. */
	void *dirty_ring;
};

/** Add a vCPU to a tie, which it holds. @return 0; -EINVAL for a missing or too small kvm_run (once
 *  KVM has a coalesced zone: also one without the ring), a kick_signal
 *  that is none or has no handler (SIGKILL, SIGSTOP), two ways to kick, or a dirty_ring that is
 *  missing, unaligned or not for this tie; -ENOMEM; -EIO. Since: 0.1 */
int kvmas_vcpu_add(struct kvmas_kvm *kvm, const struct kvmas_vcpu_config *config,
		   struct kvmas_vcpu **ret);

/** Take a vCPU away, from its own thread or when that has ended, but not from inside one of its own
 *  exits. Also while a commit holds vCPUs out; if it is inside the gate, this leaves it. What its
 *  dirty ring holds is read, and coalesced writes that only its mapping shows are kept, for
 *  kvmas_kvm_drain (without memory for that, until there is a vCPU again): kvm_run and ring may be
 *  unmapped afterwards. What nobody has asked for is dropped with the tie. NULL is ignored. Since:
 *  0.1 */
void kvmas_vcpu_del(struct kvmas_vcpu *vcpu);

/**
 * Tell the KVM address space of the last exit: on x86 1 in SMM (KVM_RUN_X86_SMM, valid at every
 * exit), else 0; elsewhere 0.
 * Since: 0.1
 */
unsigned kvmas_vcpu_get_as_id(const struct kvmas_vcpu *vcpu);

/** The reader that answers this vCPU's exits, for lookups and accesses on its thread; borrowed.
 *  Since: 0.1 */
struct kvmas_reader *kvmas_vcpu_get_reader(struct kvmas_vcpu *vcpu);

/**
 * Answer the exit that KVM_RUN returned with, whatever it is, after handing on what coalesced
 * writes wait (not while this thread has a transaction open): KVM_EXIT_MMIO in the space bound to
 * the vCPU's as_id, KVM_EXIT_IO in the PIO space, KVM_EXIT_DIRTY_RING_FULL by reading the dirty
 * rings. Memory that is in the view by then is read or written, and marked dirty; where nothing
 * answers, reads give ones and writes are dropped.
 *
 * KVM_EXIT_MEMORY_FAULT, where VMs have private memory, and all of what it speaks of is shown of
 * blocks with a guest_memfd: the pages become private, or shared, as the guest asks. The side that
 * it leaves goes back to the host (of CALLER's memory nothing, of HUGETLB whole huge pages; of a
 * shared FILE, too), and what becomes shared is dirty for every client.
 *
 * Called by the vCPU's thread only.
 *
 * @return 1 if the exit was answered; 0 if it is the VMM's own; -EINVAL for a kvm_run that makes
 *         no sense; what kvmas_kvm_config.convert, or KVM_SET_MEMORY_ATTRIBUTES, refused a
 *         conversion with; what KVM_RESET_DIRTY_RINGS was refused with, after which the vCPU exits
 *         again; -EIO, also if KVM has reset less than was read; -EPROTO for a ring of coalesced
 *         writes whose indices KVM cannot have written: what was in it is lost, it is empty now,
 *         and the exit is still to be answered.
 * Since: 0.1
 */
int kvmas_vcpu_handle_exit(struct kvmas_vcpu *vcpu);

/**
 * Hand on what coalesced writes wait in KVM's ring: before a device's state is looked at from
 * elsewhere than its callbacks (a display that is drawn, a snapshot).
 *
 * @reader: the calling thread's; of the tie's kvmas.
 * Not to be called between kvmas_gate_enter and kvmas_gate_leave.
 *
 * @return 0, and all that was written before this call has arrived; -EPROTO as for
 *         kvmas_vcpu_handle_exit; -EBUSY inside a transaction, a listener callback or a device
 *         callback; -EIO.
 * Since: 0.1
 */
int kvmas_kvm_drain(struct kvmas_kvm *kvm, struct kvmas_reader *reader);

/**
 * Run the vCPU: pass the gate, KVM_RUN, leave the gate. Called by the vCPU's thread only, which
 * waits here while the gate is closed.
 *
 * @return 0 when KVM_RUN returned with an exit to be handled, whether the gate asked or not (also
 *         KVM_EXIT_MEMORY_FAULT, for which KVM says -EFAULT); 1 if
 *         the gate ended it: look for other work and call again (a signal of the VMM's that sets
 *         no immediate_exit may have come as well: nothing tells); -EINTR if something else did,
 *         also when the gate did and the VMM's immediate_exit is set (or a kick came late: call
 *         again); what else KVM_RUN returned (-EAGAIN for an x86 vCPU that has been woken: call
 *         again); what kvmas_gate_enter returns.
 * Since: 0.1
 */
int kvmas_vcpu_run(struct kvmas_vcpu *vcpu);

/**
 * Enter the gate, for any ioctl on this vCPU's fd: the thread waits while a commit has it closed.
 * (What such an ioctl does to memory must not fall between the reading of a log and the slot's end:
 * arch/x86/kvm/x86.c, kvm_arch_vcpu_put writes the guest's steal time.) What is done inside should
 * be short, since a commit waits for it, and interrupts it only if it is an ioctl that a kick
 * ends; nothing of the library may be called but kvmas_gate_leave, and what never waits for the
 * transaction lock or a gate (doc/threads.md). A thread leaves before it ends.
 *
 * @return 0, and a leave is owed; -EINVAL for a vCPU without a way to kick it; -EBUSY if it is
 *         inside already; -EDEADLK if this very thread has the gate closed (a trace hook); -EIO.
 * Cost: one atomic exchange. Since: 0.1
 */
int kvmas_gate_enter(struct kvmas_vcpu *vcpu);

/** Leave the gate, on the thread that entered it. @return 1 if it was asked to leave meanwhile,
 *  else 0; -EINVAL if it is not inside; -EIO. Since: 0.1 */
int kvmas_gate_leave(struct kvmas_vcpu *vcpu);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
