/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the KVM half stand on: the fixture, a double of KVM, a tie between the two, and
 * two spaces bound to it, empty as yet. Addresses and sizes are given in pages, so that nothing
 * depends on their size.
 *
 * Lines look like
 *     0:2 4-7 ram+4 ro log gmem    a slot: as_id:id first-last block+page, flags
 *     create 0:2 4-7 ram+4 = -12   what the trace hook was told
 */
#ifndef KVM_FIXTURE_H
#define KVM_FIXTURE_H

#include <linux/kvm.h>
#include <pthread.h>

#include "fake-kvm.h"
#include "fixture.h"

#define KVM_TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO KVM_MEM_READONLY

enum { NORMAL, SMM, NSPACES };
enum { NTIES = 2, NGUESTS = 2 };

/* A vCPU of a VM whose dirty pages go to rings, as the double and as the library know it. */
struct guest_vcpu {
	struct fake_kvm_vcpu *cpu;
	struct kvmas_vcpu *vcpu;
};

/* What the trace hook was told; the block may be gone. */
struct traced_op {
	enum kvmas_slot_op_kind kind;
	struct kvmas_slot slot;
	int result;
};

struct machine {
	struct fixture *f;
	struct fake_kvm *vm;
	struct kvmas_kvm *kvm;
	struct kvmas_region *root[NSPACES]; /* containers of 2^64 bytes */
	struct kvmas_space *space[NSPACES]; /* of these roots, bound to as_id 0 and 1 */
	struct kvmas_client *clients[4];    /* made by make_client, dropped by the teardown */
	unsigned nclients;
	char *traced; /* lines of the trace hook, since forget_trace; and the same as data */
	struct traced_op *ops;
	size_t nops;
	/* Called before each ioctl but KVM_CHECK_EXTENSION, which nioctls counts. */
	void (*on_ioctl)(struct machine *m, unsigned long request, void *arg);
	/* Asked then: whether it answers in KVM's place, and what. */
	bool (*answer)(struct machine *m, unsigned long request, int *result);
	unsigned nioctls;
	/* The pause hook: what it returns, and how often it has held vCPUs out; whether it does. */
	int pause_result;
	unsigned npauses;
	bool paused;
	/* A second tie, and its double: see machine_add_tie. */
	struct kvmas_kvm *kvm2;
	struct fake_kvm *vm2;
	/* The vCPUs of each tie's VM, where it has rings or a page-modification log; else none. */
	struct guest_vcpu guests[NTIES][NGUESTS];
	unsigned turn; /* the next write is that of this one, or would be */
	/* The guest runs: called before each ioctl but KVM_CHECK_EXTENSION for each tie that holds
	 * nobody out. */
	void (*run_guest)(struct machine *m, unsigned tie);
	void *guest_data;
	struct kvmas_region *region[12]; /* for scenarios, like all that follows */
	void *data;
};

int machine_setup(void **state);
int machine_teardown(void **state);

/* With another double; or with nothing bound. */
struct machine *machine_new(const struct fake_kvm_config *config);
struct machine *machine_new_unbound(const struct fake_kvm_config *config);
/* With flags, gpa_bits and way of logging of the tie's. */
struct machine *machine_new_with(const struct fake_kvm_config *config,
				 const struct kvmas_kvm_config *tie);
/* Demands that nothing is wrong before, and that nothing leaks after. */
void machine_free(struct machine *m);
/* The same, whatever is wrong. */
void machine_drop(struct machine *m);

/* Make the second tie, that logs like the first; machine_free ends it. Its fd is another, all else
 * is shared. */
void machine_add_tie(struct machine *m, const struct fake_kvm_config *config);

/* The hook between library and doubles; data is the machine. */
int machine_ioctl(void *data, int fd, unsigned long request, void *arg);

uint64_t pages(uint64_t n);

/* Regions of *npages*, added to a root at page *gfn*, above what is there already. */
struct kvmas_region *put_ram(struct machine *m, unsigned as_id, const char *name, uint64_t gfn,
			     uint64_t npages);
struct kvmas_region *put_alias(struct machine *m, unsigned as_id, struct kvmas_region *target,
			       uint64_t gfn, uint64_t first, uint64_t npages);
/* In no container; the block's private pages are those of a file of the machine's VM, which is
 * another for each. */
struct kvmas_region *make_private_ram(struct machine *m, const char *name, uint64_t npages);
struct kvmas_region *put_mmio(struct machine *m, unsigned as_id, const char *name, uint64_t gfn,
			      uint64_t npages);
/* A region of kind RAM or ROM on a block, in no container. */
struct kvmas_region *make_window(struct fixture *f, enum kvmas_region_kind kind, const char *name,
				 struct kvmas_ram *block, uint64_t first, uint64_t npages);
struct kvmas_client *make_client(struct machine *m, const char *name);

/* An ioctl that is the VMM's own, not the library's. */
int set_own_slot(struct machine *m, unsigned as_id, unsigned id, uint64_t gfn, uint64_t npages);

/* A slot without its ids. */
void slot_text(char **text, const struct kvmas_slot *slot);
/* An operation, without its result. */
void op_text(char **text, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot);
/* All slots by the library's table; for free(). */
char *slots_text(struct kvmas_kvm *kvm);
/* What a dry run says of the open transaction: lines like those of the trace, if all goes well; for
 * free(). Its result, if not 0, is the only line. */
char *dry_run_text(struct kvmas_kvm *kvm, struct kvmas_kvm_plan *ret);
void assert_slots(struct machine *m, const char *expected);
void assert_trace(struct machine *m, const char *expected);
void forget_trace(struct machine *m);
struct kvmas_kvm_stats stats_of(struct machine *m);

/* Calls of a kind, or of all kinds (FAKE_KVM_NOPS), in one space, that the double counted since
 * fake_kvm_reset, refused ones too. */
unsigned calls_in(const struct fake_kvm *vm, unsigned as_id, enum fake_kvm_op op);

/* What is wrong with a machine at rest; NULL if nothing is. */
const char *machine_wrong(struct machine *m);  /* both of what follows, of both ties */
const char *tables_wrong(struct machine *m);   /* the double, the tables, the two together */
const char *mappings_wrong(struct machine *m); /* slots against views, page by page */
void assert_right(struct machine *m);

/* The pages of a block that a client has dirty, as "3 64-66 ", are those expected; they are taken.
 * A page is dirty because of a write, not a read: see fake_kvm_read. */
void assert_taken(struct kvmas_client *client, struct kvmas_ram *block, const char *expected);

#endif
