/* SPDX-License-Identifier: MIT */
/*
 * A test double of one KVM virtual machine's memory slots, dirty bitmaps and dirty rings, to be
 * plugged into struct kvmas_kvm_config: .vm_fd = kvm->fd, .ioctl = fake_kvm_ioctl, .ioctl_data =
 * kvm. A test that wants something to happen between two ioctls passes a function of its own that
 * calls fake_kvm_ioctl.
 *
 * The structs are open. Tests may read all of them and write what is marked as a knob; writing
 * anything else plants a corruption, which is what the tests of the checkers do.
 *
 * Addresses, sizes: bytes. Functions returning int: 0 or a positive count, or a negative errno.
 * Ioctls, reads and writes may come from several threads; the rest is for a VM at rest.
 */
#ifndef FAKE_KVM_H
#define FAKE_KVM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	FAKE_KVM_FD = 1000,
	FAKE_KVM_MAX_SPACES = 4,
	FAKE_KVM_PRIVATE_SLOTS = 3,
	FAKE_KVM_MAX_VCPUS = 16,
	FAKE_KVM_PML_SIZE = 512,
	/* A vCPU's pages: struct kvm_run, the data of ports, the ring of coalesced zones. */
	FAKE_KVM_RUN_PAGES = 3,
	FAKE_KVM_PIO_PAGE = 1,
	FAKE_KVM_RING_PAGE = 2,
};

/* What a call is, as the kernel sees it. */
enum fake_kvm_op {
	FAKE_KVM_SET, /* refused before it was seen which of the next five it is */
	FAKE_KVM_CREATE,
	FAKE_KVM_DELETE,
	FAKE_KVM_MOVE,
	FAKE_KVM_FLAGS,
	FAKE_KVM_SAME, /* all arguments as they are: nothing done */
	FAKE_KVM_GET,
	FAKE_KVM_CLEAR,
	FAKE_KVM_RESET,      /* KVM_RESET_DIRTY_RINGS */
	FAKE_KVM_CAP,        /* KVM_ENABLE_CAP */
	FAKE_KVM_ASSIGN,     /* KVM_IOEVENTFD */
	FAKE_KVM_DEASSIGN,   /* the same, with that flag */
	FAKE_KVM_REGISTER,   /* KVM_REGISTER_COALESCED_MMIO */
	FAKE_KVM_UNREGISTER, /* KVM_UNREGISTER_COALESCED_MMIO */
	FAKE_KVM_MEMFD,      /* KVM_CREATE_GUEST_MEMFD */
	FAKE_KVM_ATTRIBUTES, /* KVM_SET_MEMORY_ATTRIBUTES */
	FAKE_KVM_NOPS,
};

/* Which guest mappings DELETE and MOVE drop (KVM_X86_QUIRK_SLOT_ZAP_ALL, arch/x86/kvm/x86.c). */
enum fake_kvm_zap {
	FAKE_KVM_ZAP_ALL,  /* those of every slot in every space */
	FAKE_KVM_ZAP_SLOT, /* the slot's own */
};

/* What a kernel has: KVM_SET_USER_MEMORY_REGION2, quirks that can be disabled, guest_memfd. */
enum fake_kvm_version {
	FAKE_KVM_6_1,  /* neither the second nor KVM_X86_QUIRK_SLOT_ZAP_ALL */
	FAKE_KVM_6_12, /* both */
	FAKE_KVM_6_18, /* also KVM_MEM_GUEST_MEMFD, for plain VMs too */
};

/* What KVM allocates for a slot, in this order; by the numbers of fake-kvm-region.c. */
enum fake_kvm_alloc {
	FAKE_KVM_ALLOC_SLOT,    /* 17: CREATE, MOVE, FLAGS */
	FAKE_KVM_ALLOC_INVALID, /* 19: DELETE, MOVE: what stands in for it meanwhile */
	FAKE_KVM_ALLOC_BITMAP,  /* 20: LOG where there was none */
	FAKE_KVM_ALLOC_ARRAYS,  /* 23: CREATE, MOVE */
	FAKE_KVM_NALLOCS,
};

/* All zero, or NULL in its place: an x86 machine with two spaces and TDP, Linux 6.1. */
struct fake_kvm_config {
	unsigned spaces;      /* 0: 2 */
	unsigned nr_memslots; /* per space; 0: 32764 */
	uint64_t max_gfn;     /* the last one a slot may have; 0: that of 46 address bits */
	uint64_t hva_limit;   /* no slot's memory may go past this; 0: 2^56 less a page */
	int fd;               /* what ioctls must be issued on; 0: FAKE_KVM_FD */
	enum fake_kvm_zap zap;
	bool shadow_mmu; /* a guest's read marks nothing; with TDP it may, see fake_kvm_read */
	/* The guest's instructions are interpreted: each write is noticed, reads never. */
	bool emulates;
	bool pml;              /* vCPUs log their writes in buffers of their own: fake_kvm_vcpu */
	bool no_readonly_mem;  /* KVM_MEM_READONLY is refused */
	bool no_manual;        /* no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; and */
	bool no_initially_set; /* that without KVM_DIRTY_LOG_INITIALLY_SET */
	bool no_ring;          /* no KVM_CAP_DIRTY_LOG_RING, as on arm64 */
	bool no_ring_acq_rel;  /* no KVM_CAP_DIRTY_LOG_RING_ACQ_REL, as before 6.1 */
	bool private_slots;    /* begin with the three of an Intel host, where QEMU has them */
	enum fake_kvm_version version;
	uint64_t quirks;        /* those that can be disabled; 0: those of the version */
	unsigned bus_devices;   /* of a bus, not counting ioeventfds; 0: 1000 */
	bool no_ioeventfd;      /* no KVM_CAP_IOEVENTFD: -ENOSYS */
	bool no_any_length;     /* no KVM_CAP_IOEVENTFD_ANY_LENGTH: without length, -EINVAL */
	bool no_coalesced_mmio; /* no KVM_CAP_COALESCED_MMIO: -ENOTTY, also for ports */
	bool no_coalesced_pio;  /* no KVM_CAP_COALESCED_PIO: a zone of ports is one of memory */
	/* Of a type with private memory, KVM_X86_SW_PROTECTED_VM: one space; from 6.12 on. */
	bool private_vm;
	bool plain_attributes; /* KVM_SET_MEMORY_ATTRIBUTES is known to a VM without, too */
	bool no_guest_memfd;   /* no KVM_CAP_GUEST_MEMFD, whatever the version */
	bool no_gmem_flags;    /* none of KVM_CAP_GUEST_MEMFD_FLAGS: it cannot be mapped */
};

/* What KVM_CREATE_GUEST_MEMFD made. */
struct fake_kvm_gmem {
	int fd; /* the double's own, of a memfd */
	uint64_t size;
	uint64_t flags;
};

/* Of pages, both within. */
struct fake_kvm_range {
	uint64_t first;
	uint64_t last;
};

enum fake_kvm_bus_id {
	FAKE_KVM_MMIO_BUS,
	FAKE_KVM_PIO_BUS,
	FAKE_KVM_CCW_BUS,  /* s390's; others can fill it as well */
	FAKE_KVM_FAST_BUS, /* ioeventfds of the MMIO bus that have no length */
	FAKE_KVM_NBUSES,
};

/* The file of an eventfd, which ioeventfds share. */
struct fake_kvm_event {
	uint64_t id; /* the file's number, whatever descriptors it has: eventfd-id in /proc */
	int fd;      /* the double's own */
	unsigned refs;
};

/* An ioeventfd, or a coalesced zone. */
struct fake_kvm_device {
	uint64_t addr;
	int32_t len; /* signed, as in the kernel: a zone may be larger */
	bool wildcard;
	uint64_t datamatch;
	struct fake_kvm_event *event; /* NULL: a zone */
};

struct fake_kvm_bus {
	struct fake_kvm_device *devices; /* in the kernel's order, see fake-kvm-bus.c */
	unsigned ndevices;
	unsigned nevents; /* of these */
	unsigned size;    /* room */
};

struct fake_kvm_slot {
	unsigned as_id;
	unsigned id;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint32_t flags;
	unsigned gmem;        /* the number of its guest_memfd, kvm->gmems[gmem - 1]; 0: none */
	uint64_t gmem_offset; /* bytes */
	uint64_t *bitmap; /* bit i: page i of the slot is dirty. NULL without LOG, or with rings */
	uint64_t *mapped; /* bit i: the guest has page i mapped. NULL: none */
	/* bit i: it is mapped so that the guest's writes are not noticed. NULL like mapped */
	uint64_t *writable;
};

/*
 * A vCPU. Where KVM has Intel's page-modification log (config.pml), what a guest writes is first
 * only in pml, as addresses: GET and RESET do not see it, and the slots are those of the moment
 * when it is flushed (vmx_flush_pml_buffer). Every exit does that: KVM_RUN, fake_kvm_vcpu_flush, a
 * full buffer, a fault, a change of space. (A write to a page that is not mapped is a fault, too;
 * here it goes to the buffer all the same: a KVM that knows less than the real one.)
 */
struct fake_kvm_vcpu {
	struct fake_kvm *kvm;
	unsigned index;
	int fd;                     /* kvm->fd + 1 + index */
	struct kvm_run *run;        /* KVM_RUN on fd: -EINTR, or 0 with KVM_EXIT_DIRTY_RING_FULL */
	size_t run_size;            /* FAKE_KVM_RUN_PAGES; its last page is the VM's ring */
	struct kvm_dirty_gfn *ring; /* as user space maps it: page-aligned; NULL without rings */
	uint32_t pushed;            /* entries ever; the next one is this modulo the ring's size */
	uint32_t reset;             /* entries ever */
	unsigned as_id;             /* the space it is in: that of its last access */
	uint64_t smbase;            /* knob; 0x30000 at first */
	uint64_t pml[FAKE_KVM_PML_SIZE];
	unsigned npml;
	unsigned nruns; /* KVM_RUN calls */
};

struct fake_kvm_space {
	struct fake_kvm_slot **by_gpa; /* sorted */
	struct fake_kvm_slot **by_id;  /* sorted; private ones are nr_memslots + 0 ... 2 */
	unsigned nslots;               /* of either, private ones included */
	unsigned size;                 /* room in either */
};

/* One ioctl that was counted, see fake_kvm_fail_at. A missing argument (NULL) leaves zeros. */
struct fake_kvm_call {
	unsigned long request;
	enum fake_kvm_op op;
	unsigned as_id;
	unsigned id;
	uint64_t gpa; /* this and the next three: KVM_SET_USER_MEMORY_REGION */
	uint64_t size;
	uint64_t hva;
	uint32_t flags;
	uint64_t first_page; /* this and the next: KVM_CLEAR_DIRTY_LOG */
	uint32_t num_pages;
	/*
	 * KVM_IOEVENTFD and zones have gpa, size and flags (of a zone: 1 for ports), as have
	 * KVM_CREATE_GUEST_MEMFD and KVM_SET_MEMORY_ATTRIBUTES (the attributes).
	 */
	int fd;                /* KVM_IOEVENTFD; a slot's guest_memfd */
	uint64_t datamatch;    /* KVM_IOEVENTFD */
	uint64_t memfd_offset; /* of a slot's guest_memfd */
	int result;
};

struct fake_kvm {
	struct fake_kvm_config config; /* with the defaults filled in */
	int fd;
	uint64_t page_size;
	struct fake_kvm_space spaces[FAKE_KVM_MAX_SPACES];
	uint64_t npages;         /* of all slots in all spaces */
	uint64_t manual_protect; /* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, _INITIALLY_SET */
	uint32_t ring_size;      /* bytes of each vCPU's ring; 0: bitmaps */
	struct fake_kvm_vcpu *vcpus[FAKE_KVM_MAX_VCPUS];
	unsigned nvcpus;
	uint64_t disabled_quirks;
	struct fake_kvm_bus buses[FAKE_KVM_NBUSES];
	struct kvm_coalesced_mmio_ring *coalesced; /* a page; NULL: as long as nobody has seen it */
	int coalesced_fd;                          /* of that page, which each vCPU maps too */
	struct fake_kvm_gmem *gmems;               /* all that were ever made */
	unsigned ngmems;
	struct fake_kvm_range *private_ranges;
	unsigned nprivate;
	pthread_mutex_t lock; /* kvm->slots_lock: one per VM */
	pid_t pid;

	bool dead;           /* knob: every ioctl gives -EIO */
	bool fault_copy_out; /* knob: the next GET that gets so far cannot write its buffer */
	/* knob: a signal comes in the middle of the next RESET (Linux 6.16) */
	struct {
		bool comes;
		unsigned after; /* entries that were reset by then */
		int error;      /* what it gives, positive; 0: how many, as Linux does */
		bool forgets;   /* the last of them are not watched again, as by Linux */
		bool blockable; /* it waits as long as the thread blocks SIGALRM */
	} signal;
	struct {
		unsigned at; /* which ioctl from now; 0: none */
		bool from;   /* and all after it */
		int error;
		unsigned hits; /* how many were made to fail since the last fake_kvm_fail_* */
	} fail;

	struct {
		unsigned at; /* which allocation from now; 0: none */
		unsigned hits;
	} no_memory[FAKE_KVM_NALLOCS];

	unsigned count[FAKE_KVM_NOPS]; /* calls that succeeded */
	unsigned refused;              /* calls that failed */
	unsigned swaps;                /* active memslot sets published, each a grace period */
	unsigned zaps;                 /* times that guest mappings were dropped */
	uint64_t array_pages;  /* of slots for which per-page arrays were made: CREATE, MOVE */
	uint64_t bitmap_pages; /* of slots for which a dirty bitmap was made */
	struct fake_kvm_call *calls; /* in order */
	size_t ncalls;
	size_t calls_size;
};

/* Make a VM without slots (but for private ones). Never NULL; out of memory aborts. */
struct fake_kvm *fake_kvm_new(const struct fake_kvm_config *config);
/* NULL is ignored. */
void fake_kvm_free(struct fake_kvm *kvm);

/*
 * The hook. KVM_SET_USER_MEMORY_REGION, from 6.12 on KVM_SET_USER_MEMORY_REGION2,
 * KVM_CREATE_GUEST_MEMFD, KVM_SET_MEMORY_ATTRIBUTES, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG,
 * KVM_RESET_DIRTY_RINGS, KVM_IOEVENTFD, KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO,
 * KVM_CHECK_EXTENSION, KVM_ENABLE_CAP of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING,
 * ..._ACQ_REL, KVM_CAP_DISABLE_QUIRKS and ..._QUIRKS2; on a vCPU's fd KVM_RUN. -ENOTTY for others,
 * -EBADF for another fd, -EIO when dead or in a forked child. A buffer faults if it is NULL.
 */
int fake_kvm_ioctl(void *data, int fd, unsigned long request, void *arg);

/*
 * Guest accesses in a space. They only mark: use fake_kvm_hva to reach the memory. -EFAULT, and
 * nothing marked, where a page has no slot, or is written and its slot is KVM_MEM_READONLY: that
 * would be an MMIO exit. A read marks a page that was not mapped, is writable and logged, unless
 * the MMU is a shadow one. A page that was marked is not marked again before it has been armed: by
 * a GET that clears, by CLEAR or RESET, by LOG, or because its mapping was dropped. Size 0 is 1.
 *
 * These are by no vCPU: they are not in any buffer, and with rings they leave no trace at all, as
 * what KVM writes while no vCPU runs (mark_page_dirty_in_slot).
 */
int fake_kvm_write(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size);
int fake_kvm_read(struct fake_kvm *kvm, unsigned as_id, uint64_t gpa, uint64_t size);

/* Make a vCPU, which ends with the VM. More than FAKE_KVM_MAX_VCPUS abort. */
struct fake_kvm_vcpu *fake_kvm_add_vcpu(struct fake_kvm *kvm);

/*
 * The same by a vCPU. 1, and nothing done, if it would not run, but exit with
 * KVM_EXIT_DIRTY_RING_FULL; also if so many pages at once do not fit into its ring, which has room
 * for 64 when it is not yet full.
 */
int fake_kvm_vcpu_write(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size);
int fake_kvm_vcpu_read(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, uint64_t size);
/*
 * What KVM writes for a vCPU as it enters the guest, each time a mark, whatever is mapped: the time
 * (kvmclock: 32 bytes in space 0, wherever the vCPU is), and the state that an SMI saves (the last
 * 512 bytes of smbase + 64 KiB, in space 1, in which it is then). As above; from Linux 6.2 on a VM
 * is dead if that state cannot be saved.
 */
int fake_kvm_clock(struct fake_kvm_vcpu *vcpu, uint64_t gpa);
int fake_kvm_smm_save(struct fake_kvm_vcpu *vcpu);
/* The vCPU leaves the guest: its buffer is emptied. */
void fake_kvm_vcpu_flush(struct fake_kvm_vcpu *vcpu);

/*
 * A guest's instruction, with its bytes (1 ... 8 of one page; for a port 1, 2 or 4, from the space
 * that the vCPU is in), all the way. 0: done: in the memory of the space's slot, which is then
 * marked; or, if none has it or a store finds it read-only, on the MMIO bus, whatever the space:
 * an eventfd is signalled, or an entry is in the ring. 1: vcpu->run is filled with the exit:
 * KVM_EXIT_MMIO, KVM_EXIT_IO, or KVM_EXIT_DIRTY_RING_FULL and nothing done,
 * or KVM_EXIT_MEMORY_FAULT, see below. What a load or an IN
 * gets from user space is where KVM has it: run->mmio.data, FAKE_KVM_PIO_PAGE. -EINVAL: no such
 * access. Host memory must be there.
 */
int fake_kvm_vcpu_store(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, const void *bytes,
			unsigned size);
int fake_kvm_vcpu_load(struct fake_kvm_vcpu *vcpu, unsigned as_id, uint64_t gpa, void *bytes,
		       unsigned size);
int fake_kvm_vcpu_out(struct fake_kvm_vcpu *vcpu, uint16_t port, const void *bytes, unsigned size);
int fake_kvm_vcpu_in(struct fake_kvm_vcpu *vcpu, uint16_t port, unsigned size);
/*
 * A guest's access that says itself whether the page is to be private, as those of AMD SEV-SNP and
 * Intel TDX do: 0 if it is; 1: vcpu->run is filled as KVM_EXIT_MEMORY_FAULT, with which KVM_RUN
 * gives -EFAULT: the page is something else (or has no memory to be so).
 */
int fake_kvm_vcpu_fault(struct fake_kvm_vcpu *vcpu, uint64_t gpa, bool private);
/* KVM_MEMORY_ATTRIBUTE_PRIVATE or 0, whatever slots there are. */
uint64_t fake_kvm_attributes(const struct fake_kvm *kvm, uint64_t gpa);

/* The slot that a space has at gpa, valid until the next ioctl; NULL for none. */
struct fake_kvm_slot *fake_kvm_find(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa);
/* The host's memory at gpa; NULL for none. */
void *fake_kvm_hva(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa);
/* Whether the page is marked in the slot that the space has there. Fetches and clears nothing. */
bool fake_kvm_is_dirty(const struct fake_kvm *kvm, unsigned as_id, uint64_t gpa);
/* Copy up to max slots of a space by gpa, private ones included; returns how many it has. */
size_t fake_kvm_slots(const struct fake_kvm *kvm, unsigned as_id, struct fake_kvm_slot *slots,
		      size_t max);

/*
 * A private slot, as KVM_SET_TSS_ADDR and vCPU creation make them: index 0 ... 2, in every space.
 * add: -EEXIST, and none made, if a slot of any space is in the way. del: a missing one is ignored.
 */
int fake_kvm_add_private(struct fake_kvm *kvm, unsigned index, uint64_t gpa, uint64_t size);
void fake_kvm_del_private(struct fake_kvm *kvm, unsigned index);

/*
 * Make the k-th ioctl from now (1: the next) fail with an errno (positive) and change nothing; or
 * that and all that follow. All that the double knows count, but for KVM_CHECK_EXTENSION. A new
 * plan replaces the old one.
 */
void fake_kvm_fail_at(struct fake_kvm *kvm, unsigned k, int error);
void fake_kvm_fail_from(struct fake_kvm *kvm, unsigned k, int error);
void fake_kvm_fail_never(struct fake_kvm *kvm);
/*
 * Make the k-th allocation of this kind from now fail (0: none): the call gives -ENOMEM, and has
 * cost what KVM had done by then. fake_kvm_fail_never forgets this as well.
 */
void fake_kvm_fail_alloc(struct fake_kvm *kvm, enum fake_kvm_alloc what, unsigned k);

/* Set the counters to 0 and forget the calls. */
void fake_kvm_reset(struct fake_kvm *kvm);

/* A copy of slots, bitmaps, vCPUs, buses and settings, as a VM of its own; to be freed. */
struct fake_kvm *fake_kvm_snapshot(const struct fake_kvm *kvm);
/*
 * Whether two VMs have the same slots with the same ids, dirty bits, rings, log mode, attributes,
 * ioeventfds and zones, in whatever order these came; and the same in the ring of the zones.
 */
bool fake_kvm_equal(const struct fake_kvm *a, const struct fake_kvm *b);
/* The same, whatever the dirty bits and what is in rings. */
bool fake_kvm_equal_slots(const struct fake_kvm *a, const struct fake_kvm *b);

/* Which invariant (fake-kvm.c) does not hold, "I1: ..."; NULL if all do. O(slots log slots). */
const char *fake_kvm_validate(const struct fake_kvm *kvm);

#endif
