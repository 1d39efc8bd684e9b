/* SPDX-License-Identifier: MIT */
/*
 * What KVM answers to memory-slot and dirty-log ioctls, as data: steps in sequences, each sequence
 * for an empty VM. The same steps are run against the test double (fake-kvm.h) and the real KVM;
 * random ones are made of the same stuff. Prints nothing and depends on no test framework.
 */
#ifndef KVM_TABLE_H
#define KVM_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No slot of a step that gets a dirty log has more pages than these words have bits. */
enum { KVM_TABLE_WORDS = 4 };
/* A VM's own eventfds, and so many files of guest memory. */
enum { KVM_TABLE_EVENTS = 4, KVM_TABLE_MEMFDS = 4 };

/*
 * Pages, the first two guest physical. Of the vCPU's code, in every space, by the id of that name;
 * the SMI handler begins with it. Where an SMI saves the vCPU's state. As many there are from
 * KVM_FROM_MEM on, if that is to be real memory; the last is that of the code.
 */
enum {
	KVM_TABLE_CODE = 761,
	KVM_TABLE_SAVE = 768,
	KVM_TABLE_PAGES = 1024,
};

/* What differs between machines. */
struct kvm_limits {
	unsigned spaces;
	unsigned nr_memslots;
	bool readonly_mem;
	bool region2;         /* KVM_SET_USER_MEMORY_REGION2 */
	bool guest_memfd;     /* and it takes KVM_MEM_GUEST_MEMFD, in a VM like this */
	bool ring;            /* KVM_CAP_DIRTY_LOG_RING and ..._ACQ_REL */
	uint64_t quirks;      /* that can be disabled */
	uint64_t memfd_flags; /* of KVM_CREATE_GUEST_MEMFD */
	bool channels;        /* ioeventfds, of no length too, and coalesced zones, of ports too */
	bool attributes;      /* KVM_SET_MEMORY_ATTRIBUTES is known, whether there are any or not */
	/* By kvm_vm_probe_guest: */
	bool small_ring; /* of 4096 bytes, as without a page-modification log */
	bool reads_mark; /* what is read first is dirty */
	bool watches;    /* a page that was written is not noticed again until it is armed */
	unsigned room;   /* entries that a ring of coalesced zones takes from its beginning on */
	uint64_t page_size;
	uint64_t max_gfn;   /* the last page that a slot may have */
	uint64_t hva_limit; /* slots' memory must end here at the latest */
};

struct kvm_vm;

/* One instruction of a guest: a store to memory or a port, or a load; and how KVM exited for it. */
struct kvm_transfer {
	bool writes;
	bool pio;
	unsigned as_id;
	uint64_t addr;
	unsigned size;
	uint64_t value; /* stored */
	unsigned nexits;
	struct kvm_seen_exit {
		bool writes;
		bool pio;
		bool smm;
		uint64_t addr;
		unsigned size;
		uint64_t value; /* stored */
	} exit;                 /* the last one */
};

/* How a VM's one vCPU is made and what it is told to do. 0 or a negative errno. */
struct kvm_guest {
	/* Once KVM_TABLE_CODE is in each space. Sets coalesced, and ring, if the VM has rings. */
	int (*make)(struct kvm_vm *vm);
	int (*transfer)(struct kvm_vm *vm, struct kvm_transfer *transfer);
	/* Write or read a byte: -EFAULT where that is no memory; 1 and nothing done if the ring is
	 * full. */
	int (*access)(struct kvm_vm *vm, bool writes, unsigned as_id, uint64_t gpa);
	/* KVM writes the time here as the guest is entered, if it can. */
	int (*clock)(struct kvm_vm *vm, uint64_t gpa);
	/* An SMI, which leaves the vCPU in space 1 and its state in the page KVM_TABLE_SAVE. */
	int (*smi)(struct kvm_vm *vm);
	void (*end)(struct kvm_vm *vm); /* the vCPU's own; called whether it was made or not */
};

/* A VM under test. The first five are the caller's, the limits kvm_vm_probe's. */
struct kvm_vm {
	int (*ioctl)(void *data, int fd, unsigned long request,
		     void *arg); /* 0, positive, -errno */
	void *data;
	int fd;
	const struct kvm_guest *guest; /* NULL: none can be had */
	void *vcpu;                    /* the guest's */
	struct kvm_limits limits;
	uint64_t words[KVM_TABLE_WORDS];           /* the dirty log that the last step got */
	uint32_t ring_size;                        /* bytes; 0: no ring */
	struct kvm_dirty_gfn *ring;                /* the vCPU's; NULL before there is one */
	uint32_t next;                             /* the entry that has not yet been harvested */
	struct kvm_coalesced_mmio_ring *coalesced; /* NULL before there is a vCPU */
	int events[KVM_TABLE_EVENTS];              /* descriptors; 0: not yet made */
	int memfds[KVM_TABLE_MEMFDS];              /* the same */
};

/* An address or a size: pages and bytes from some base. */
enum kvm_base {
	KVM_FROM_ZERO,
	KVM_FROM_END,   /* the first gpa that no slot may have */
	KVM_FROM_MEM,   /* an address that user space can have */
	KVM_FROM_LIMIT, /* hva_limit */
};

struct kvm_value {
	enum kvm_base base;
	int64_t npages;
	int64_t bytes;
};

/* As as_id and as id: numbers that depend on the limits. */
enum {
	KVM_PAST_SPACES = 0x10000,
	KVM_LAST_ID,
	KVM_PAST_IDS,
	KVM_CODE_ID,
};

enum kvm_step_kind {
	KVM_STEP_END,
	KVM_STEP_SET,
	KVM_STEP_GET,
	KVM_STEP_CLEAR,
	KVM_STEP_MANUAL, /* KVM_ENABLE_CAP of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	KVM_STEP_SET2,   /* KVM_SET_USER_MEMORY_REGION2 */
	KVM_STEP_QUIRKS, /* KVM_ENABLE_CAP of KVM_CAP_DISABLE_QUIRKS2 */
	KVM_STEP_RING,  /* KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING_ACQ_REL or, as id 1, ..._RING */
	KVM_STEP_RESET, /* KVM_RESET_DIRTY_RINGS */
	KVM_STEP_VCPU,  /* make the slots of its code, and it */
	KVM_STEP_WRITE, /* num_pages pages from first_page on; as far as that goes */
	KVM_STEP_READ,
	KVM_STEP_CLOCK, /* in first_page */
	KVM_STEP_SMI,
	KVM_STEP_HARVEST, /* the next entry of the ring, and those behind that are the same */
	KVM_STEP_FORGE,   /* the next entry becomes this: as_id, id, first_page, flags */
	KVM_STEP_EVENT,   /* KVM_IOEVENTFD: gpa, size, flags, options (what matches), memfd */
	KVM_STEP_ZONE,    /* KVM_REGISTER_COALESCED_MMIO: gpa, size, flags (1: ports); num_pages */
	KVM_STEP_UNZONE,  /* of them, 16 bytes apart, up to the first refused one. The reverse. */
	KVM_STEP_MEMFD,   /* KVM_CREATE_GUEST_MEMFD: size, options; the one of this id */
	KVM_STEP_ATTRIBUTES, /* KVM_SET_MEMORY_ATTRIBUTES: gpa, size, options, flags */
	KVM_STEP_PEEK,       /* the byte of a file that can be mapped: memfd, memfd_offset */
	KVM_STEP_STORE,      /* gpa, size, options (the value); this and the next by a vCPU */
	KVM_STEP_LOAD,
	KVM_STEP_OUT, /* gpa: a port */
	KVM_STEP_IN,
	KVM_STEP_DRAIN,   /* num_pages entries of the ring of coalesced zones; 0: all */
	KVM_STEP_INDICES, /* its indices become these: first_page, num_pages */
	KVM_STEP_KINDS,
};

/*
 * What SET2 names as guest_memfd and EVENT as eventfd: the first two are neither. With these added
 * to its number, one of the VM's own; and another descriptor of that.
 */
enum {
	KVM_CLOSED_FD = -1,
	KVM_OTHER_FD = 2,
	KVM_EVENT_FD = 0x100,
	KVM_MEMFD_FD = 0x200,
	KVM_SAME_FD = 0x1000,
};

struct kvm_step {
	enum kvm_step_kind kind;
	unsigned as_id;
	unsigned id;
	struct kvm_value gpa;
	struct kvm_value size;
	struct kvm_value hva;
	uint32_t flags;
	uint64_t first_page;
	uint32_t num_pages;
	uint64_t mask; /* CLEAR: each word of the bitmap */
	uint64_t options;
	int memfd; /* this and the next: SET2, EVENT */
	uint64_t memfd_offset;
	bool no_arg;    /* the ioctl's argument is NULL */
	bool no_buffer; /* the bitmap is NULL */
	int expected;   /* of kvm_step_run */
};

/* The result of a GET: the number of words that were written and of bits set in them. */
#define KVM_BITS(words, bits) ((words) << 16 | (bits))
/* That of HARVEST; -ENOENT if there is none. WRITE and READ: how many pages they got at. */
#define KVM_ENTRY(as_id, id, page) ((as_id) << 28 | (id) << 12 | (page))
/*
 * That of STORE, LOAD, OUT and IN: an exit, or 0; which eventfds were signalled; how many entries
 * the ring has more. The words are then what the exit was and what the ring has.
 */
enum { KVM_EXITS_MMIO = 1, KVM_EXITS_IO = 2, KVM_SIGNALS = 0x10, KVM_COALESCES = 0x100 };

/* What a VM must have for a sequence to make sense. */
enum kvm_need {
	KVM_NEEDS_NOTHING,
	KVM_NEEDS_TWO_SPACES,
	KVM_NEEDS_READONLY,
	KVM_NEEDS_NO_READONLY,
	KVM_NEEDS_REGION2,
	KVM_NEEDS_NO_REGION2,
	KVM_NEEDS_GUEST_MEMFD,
	KVM_NEEDS_NO_GUEST_MEMFD, /* but REGION2 */
	KVM_NEEDS_ZAP_QUIRK,
	KVM_NEEDS_NO_ZAP_QUIRK,
	KVM_NEEDS_RING,
	KVM_NEEDS_GUEST,
	KVM_NEEDS_GUEST_READONLY,
	KVM_NEEDS_GUEST_RING,
	KVM_NEEDS_GUEST_RING_WATCH, /* and what was written is not noticed again */
	KVM_NEEDS_GUEST_TDP,        /* what is read first is dirty */
	KVM_NEEDS_GUEST_SPACES,     /* two */
	KVM_NEEDS_GUEST_SPACES_RING,
	KVM_NEEDS_CHANNELS,
	KVM_NEEDS_GUEST_CHANNELS,
	KVM_NEEDS_GUEST_CHANNELS_SPACES,
	KVM_NEEDS_GUEST_CHANNELS_ROOM, /* for 169 entries, wherever the ring begins */
	KVM_NEEDS_MEMFD_FLAGS,         /* guest_memfd that can be mapped */
	KVM_NEEDS_GUEST_MEMFD_FLAGS,
	KVM_NEEDS_GUEST_MEMFD_MMU,      /* and a guest that stores by itself */
	KVM_NEEDS_GUEST_MEMFD_EMULATED, /* or one whose stores KVM makes */
	KVM_NEEDS_NO_MEMFD_FLAGS,       /* but guest_memfd */
	KVM_NEEDS_NO_MEMFD,
	KVM_NEEDS_ATTRIBUTES,
	KVM_NEEDS_NO_ATTRIBUTES,
};

struct kvm_sequence {
	const char *name; /* condition and outcome */
	const struct kvm_step *steps;
	enum kvm_need need;
};

/* Slots and bitmaps, without a vCPU; and what a vCPU writes, and rings. */
extern const struct kvm_sequence kvm_table[];
extern const size_t kvm_table_length;
extern const struct kvm_sequence kvm_dirty_table[];
extern const size_t kvm_dirty_table_length;
/* Ioeventfds and coalesced zones; guest_memfd and memory attributes. */
extern const struct kvm_sequence kvm_bus_table[];
extern const size_t kvm_bus_table_length;
extern const struct kvm_sequence kvm_gmem_table[];
extern const size_t kvm_gmem_table_length;

/*
 * Find out a VM's limits by capabilities and by trying: the VM, which must be empty, is so
 * afterwards. 0 or what KVM refused a question with.
 */
int kvm_vm_probe(struct kvm_vm *vm);
/* The rest, with a guest, if there is one. The VM is of no use afterwards. */
int kvm_vm_probe_guest(struct kvm_vm *vm);

/* Why this VM cannot run a sequence; NULL if it can. */
const char *kvm_vm_lacks(const struct kvm_vm *vm, const struct kvm_sequence *sequence);

/* Do one step: KVM_BITS for a GET, KVM_ENTRY for HARVEST, 0 or a count, or a negative errno. */
int kvm_step_run(struct kvm_vm *vm, const struct kvm_step *step);

/* The same for those from KVM_STEP_RESET on (kvm-access.c), and from _EVENT on (kvm-channel.c). */
int kvm_access_run(struct kvm_vm *vm, const struct kvm_step *step);
int kvm_channel_run(struct kvm_vm *vm, const struct kvm_step *step);

/* An address or a size as a number. */
uint64_t kvm_value_of(const struct kvm_limits *limits, const struct kvm_value *value);
/* The descriptor that a step names by its number, or another one of the same if that is asked for:
 * *same, to be closed, else -1. */
int kvm_step_fd(struct kvm_vm *vm, int name, int *same);
/* Close what a VM has of its own: eventfds and files. */
void kvm_vm_end(struct kvm_vm *vm);

/* Make a random step for a VM with this many spaces, never one of KVM_STEP_END. */
void kvm_step_random(uint64_t *seed, unsigned spaces, struct kvm_step *ret);

/* Write a step as one line of text. */
void kvm_step_format(const struct kvm_step *step, char *text, size_t size);

/*
 * Run a sequence on an empty VM that lacks nothing. report (NULL: none) is told of each step whose
 * result is not the expected one; how many there are is returned.
 */
unsigned kvm_table_run(struct kvm_vm *vm, const struct kvm_sequence *sequence,
		       void (*report)(void *data, const struct kvm_step *step, int result),
		       void *report_data);

#endif
