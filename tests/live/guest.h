/* SPDX-License-Identifier: MIT */
/*
 * A small guest on real KVM: RAM from address 0, two vCPUs, each with a program that works through
 * a table (code.h) on a thread of its own. Every address space that KVM has is bound; a second one
 * shows all of the first, so that the same programs run in SMM.
 *
 * Its first pages are those of the programs and tables; what lies from FREE_PAGE on belongs to the
 * test. Addresses and sizes are given in pages of 4096 bytes, KVM's on x86.
 *
 * Everything but the vCPUs' hooks runs on the test's thread. A vCPU thread asserts nothing: what it
 * finds wrong is kept, and guest_wrong tells it.
 */
#ifndef LIVE_GUEST_H
#define LIVE_GUEST_H

#include "../fixture.h"
#include "code.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	PAGE = 4096,
	MAX_VCPUS = 2,
	MAX_SPACES = 2,
	MAX_ENTRIES = 2048, /* of a table */
	FREE_PAGE = 0x60,
	SPARE_ID = 500, /* a slot id that the library is kept from: probe.h */
	RING_SIZE = 1 << 14,
	/* Where in a page scattered writes go; 4 bytes for each program. */
	SCATTER_OFFSET = 0x800,
};

#define ONES UINT32_MAX /* what is read where nothing answers */

struct guest;

/* Called before each ioctl of the library's but KVM_RUN, which may be several at once: true if it
 * has answered, with *result. */
typedef bool guest_meddle_fn(struct guest *g, unsigned long request, void *arg, int *result);

struct vcpu {
	struct guest *guest;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	void *ring;        /* of dirty pages, mapped; NULL without */
	void *shown_ring;  /* the one that the library is given: the same, or a test's */
	size_t shown_next; /* where that goes on */
	struct kvmas_vcpu *tie;
	pthread_t thread;
	bool runs;
	bool ungated; /* knob: KVM_RUN is called past the gate, and past guest_hold */
	bool smis;    /* knob: an SMI at each turn */
	bool forged;  /* knob: somebody writes to the ring of coalesced writes */
	/* Called on the vCPU's thread at each turn, outside of the gate. NULL: none. */
	void (*turn)(struct vcpu *vcpu);
	/* By the vCPU's thread. */
	_Atomic bool stop;
	_Atomic uint64_t turns;
	_Atomic uint64_t gate_ends;      /* times that kvmas_vcpu_run returned 1 */
	_Atomic uint64_t expected_exits; /* for memory, where that is no fault */
	_Atomic uint64_t stray_exits;    /* and where it is */
	_Atomic uint64_t found_forged;   /* exits that were refused for that */
	_Atomic bool in_trouble;         /* its thread has ended: */
	char trouble[160];               /* for this reason */
	char stray[160];                 /* the first one, if stray_exits */
};

/* Where exits are no fault, in one space. */
struct exit_window {
	unsigned as_id;
	uint32_t first; /* pages */
	uint32_t npages;
	bool writes_only;
};

struct guest {
	struct fixture *f;
	int vm;
	struct kvmas_kvm *kvm;
	unsigned nspaces;
	struct kvmas_ram *ram;
	unsigned char *bytes;
	struct kvmas_region *memory; /* all of ram */
	struct kvmas_region *root[MAX_SPACES];
	struct kvmas_space *space[MAX_SPACES];
	struct vcpu vcpus[MAX_VCPUS];
	struct exit_window windows[64];
	unsigned nwindows;
	/* The library's KVM_SET_USER_MEMORY_REGION, by space, refused ones too. */
	unsigned calls[MAX_SPACES];
	guest_meddle_fn *meddle;
	/* Told of each slot operation. NULL: none. */
	void (*trace)(struct guest *g, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
		      int result);
	/* Called on its thread before each sync, and before an exit for a full ring is answered.
	 * NULL: none. */
	void (*before_harvest)(struct guest *g);
	void *data;
	unsigned ring_size; /* bytes; 0 without rings */
	uint32_t ntargets;
	/* guest_hold */
	pthread_mutex_t hold_lock;
	pthread_cond_t hold_changed;
	_Atomic bool held;
	unsigned nparked;
};

/* Whether this thread is in a sync of guest_sync's: whom a KVM_GET_DIRTY_LOG is for. */
extern _Thread_local bool guest_is_syncing;

/* /dev/kvm, opened by guest_main. */
extern int guest_system_fd;

/*
 * Run a group of tests whose state is a struct guest **, which they make by guest_new and the
 * teardown ends. Where /dev/kvm has fewer spaces than needed, says so: that is a failure if
 * KVMAS_REQUIRE_KVM is 1. KVMAS_TEST: a pattern of tests' names, to run just these.
 */
int guest_main(const char *name, const struct CMUnitTest *tests, size_t ntests, unsigned spaces);
#define GUEST_TEST(test) cmocka_unit_test_setup_teardown(test, guest_setup, guest_teardown)
int guest_setup(void **state);
int guest_teardown(void **state);

struct guest_config {
	uint32_t npages;         /* of RAM */
	uint32_t max_npages;     /* up to which it may grow; 0: npages */
	guest_meddle_fn *meddle; /* NULL: none */
	void *data;              /* the test's */
	unsigned flags;          /* of its tie */
	enum kvmas_kvm_log log;  /* the same */
	unsigned long vm_type;   /* of KVM_CREATE_VM */
	bool untied;             /* its vCPUs are not added to the tie: vcpu_tie does */
	struct kvmas_config kvmas;
};

/* Make a guest, its vCPUs not yet running. */
struct guest *guest_new(void **state, struct guest_config config);

/* ---- its map ---- */

/* Regions added to root *as_id* at a page, above what is there. */
struct kvmas_region *guest_put(struct guest *g, unsigned as_id, struct kvmas_region *region,
			       uint32_t page);
struct kvmas_region *guest_put_alias(struct guest *g, unsigned as_id, uint32_t page, uint32_t first,
				     uint32_t npages);
/* One that hides RAM and answers nothing. */
struct kvmas_region *guest_put_hole(struct guest *g, unsigned as_id, uint32_t page,
				    uint32_t npages);
struct kvmas_kvm_stats guest_stats(const struct guest *g);

/* ---- its dirty pages ---- */

/* kvmas_space_sync, or kvmas_region_sync of its memory; and that of all spaces. */
int guest_sync(struct guest *g, unsigned as_id, uint64_t gpa, uint64_t size);
int guest_sync_memory(struct guest *g, uint64_t offset, uint64_t size);
int guest_sync_all(struct guest *g);

/* ---- its programs ---- */

/* Let exits be no fault in these pages; in SMM too, where there is a second space. */
void guest_expect_exits(struct guest *g, uint32_t first, uint32_t npages, bool writes_only);

/* Add an entry to a vCPU's table for a space. The vCPU does not run. */
void guest_enter(struct guest *g, unsigned vcpu, unsigned as_id, struct code_entry entry);
/* As an entry, the word at an offset of a page of RAM, set to a value that no other word has. */
struct code_entry guest_word(struct guest *g, uint32_t page, uint32_t offset, uint32_t kind);
/* A piece of code that returns a value, to be called. */
void guest_write_code(unsigned char *at, uint32_t value);

/* Let a program write numbers, so many in each round, to pages chosen at random among the targets:
 * all those that were added before. */
void guest_add_target(struct guest *g, uint32_t page);
void guest_scatter(struct guest *g, unsigned vcpu, unsigned as_id, uint32_t writes);
/* How many it has written. */
uint32_t guest_writes(const struct guest *g, unsigned vcpu, unsigned as_id);

struct code_control *guest_control(const struct guest *g, unsigned vcpu, unsigned as_id);
uint32_t guest_control_page(unsigned vcpu, unsigned as_id);
uint32_t guest_smbase_page(unsigned vcpu);
/* Rounds that a vCPU's program has done, as it runs. */
uint32_t guest_rounds(const struct guest *g, unsigned vcpu, unsigned as_id);

/* Start the vCPUs, which take a turn after so many rounds; stop them and wait for their threads. */
void guest_start(struct guest *g, const uint32_t turn_every[MAX_VCPUS]);
void guest_stop(struct guest *g);
/* Have all vCPUs that are not ungated wait outside of KVM_RUN, and let them go on. */
void guest_hold(struct guest *g);
void guest_let_go(struct guest *g);
/* Add a vCPU to the tie, if it was made untied. */
void vcpu_tie(struct vcpu *vcpu);
/* Wait until each vCPU has done some rounds more, or something is wrong. */
void guest_wait_rounds(struct guest *g, uint32_t rounds);

/* What a vCPU has found wrong; NULL for nothing. */
const char *guest_wrong(const struct guest *g);
/* Stop, and demand that nothing is wrong and that the kernel's slots are the library's. */
void guest_end_well(struct guest *g);

#endif
