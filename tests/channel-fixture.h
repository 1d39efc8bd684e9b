/* SPDX-License-Identifier: MIT */
/*
 * What the tests of event channels stand on: a machine of the double's with two vCPUs that make
 * stores, a space of ports, devices that note what they are called with, eventfds that are read
 * without waiting; and a scene, which is played with channels in KVM and by hand in all mixtures:
 * what is observed must be the same each time.
 *
 * Words look like
 *     a+8/4=1f      device a had a write at offset 8, of 4 bytes
 *     a?8/4         it was read
 *     #2x3          eventfd 2 has been signalled three times since the last look
 */
#ifndef CHANNEL_FIXTURE_H
#define CHANNEL_FIXTURE_H

#include "kvm-fixture.h"

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

enum { NCPUS = 2, NEVENTFDS = 6, NDEVICES = 8, PORTS = 2 /* where a space's as_id could be */ };

struct rig;

/* The opaque pointer of a device. */
struct device {
	struct rig *rig;
	const char *name;
	struct kvmas_region *region;
	unsigned ncalls;
	void (*inside)(struct device *device, const struct kvmas_access *access);
	struct kvmas_access last;
};

struct rig {
	struct machine *m;
	struct guest_vcpu cpus[NCPUS];
	struct kvmas_region *mirror; /* all of the normal space, behind what SMM's root has */
	struct kvmas_region *port_root;
	struct kvmas_space *ports;
	int events[NEVENTFDS];
	struct device devices[NDEVICES];
	unsigned ndevices;
	char *words;      /* noted since the last look */
	bool is_complete; /* KVM has all that it can: counts of what is in KVM are worth a look */
	unsigned exits;   /* of stores, since it was asked */
	void *data;       /* for scenes, like what follows */
	int err;
};

struct rig *rig_new(const struct fake_kvm_config *config);
void rig_free(struct rig *r);
int rig_setup(void **state);
int rig_teardown(void **state);

/* A device of *size* bytes, in no container; with rules and order of bytes. */
struct kvmas_region *make_device(struct rig *r, const char *name, uint64_t size);
struct kvmas_region *make_device_with(struct rig *r, const char *name, uint64_t size,
				      struct kvmas_ops ops);
/* A device in the normal space, and so in SMM's; of ports. */
struct kvmas_region *put_device(struct rig *r, const char *name, uint64_t gpa, uint64_t size);
struct kvmas_region *put_ports(struct rig *r, const char *name, uint64_t port, uint64_t size);
struct device *device_of(struct kvmas_region *region);

/* Channels. *size* 0: any; *event* is the number of an eventfd. */
int add_event(struct rig *r, struct kvmas_region *region, uint64_t offset, unsigned size,
	      unsigned event);
int add_match(struct rig *r, struct kvmas_region *region, uint64_t offset, unsigned size,
	      uint64_t value, unsigned event);
int del_event(struct kvmas_region *region, uint64_t offset, unsigned size);
int del_match(struct kvmas_region *region, uint64_t offset, unsigned size, uint64_t value);

/* An ioeventfd for 4 bytes at 0, and a zone of 16 bytes at 0x10; a device with both. */
void add_both(struct rig *r, struct kvmas_region *device, unsigned event);
struct kvmas_region *put_both(struct rig *r, const char *name, uint64_t gpa, unsigned event);

/* What a guest does, all the way; *as_id* may be PORTS. A store tells whether it ended KVM_RUN. */
bool store(struct rig *r, unsigned cpu, unsigned as_id, uint64_t address, uint64_t value,
	   unsigned size);
uint64_t load(struct rig *r, unsigned cpu, unsigned as_id, uint64_t address, unsigned size);

/* One for each of add_both's. */
void store_both(struct rig *r, unsigned as_id, uint64_t gpa);

/* How often an eventfd was signalled since it was last asked. */
uint64_t take_event(struct rig *r, unsigned event);

/* Hand on what waits; then what was noted, and which eventfds were signalled since the last look,
 * are *expected*: words, each with a blank behind it. */
void look(struct rig *r, const char *expected);
/* Without handing on. */
void glance(struct rig *r, const char *expected);

/* How many places of channels KVM has, and how many are by hand: asked only where KVM has all that
 * it can have. */
void assert_placed(struct rig *r, unsigned in_kvm, unsigned by_hand);
/* The same, wherever. */
void assert_counted(struct rig *r, unsigned in_kvm, unsigned by_hand);

/* How many stores have ended KVM_RUN since the last time: asked in the same way. */
void assert_exits(struct rig *r, unsigned exits);

/* Play it with each sort of KVM. */
void play(void (*scene)(struct rig *r));

/*
 * What is wrong with a tie's channels at rest, NULL if nothing is: its list against the double's
 * buses; the counters against the list; and each thing on a bus against each bound space, seen
 * section by section: nobody else may answer there, but memory that has a slot (channel-bus.c).
 */
const char *channels_wrong(struct kvmas_kvm *kvm, const struct fake_kvm *vm);

/* All that a failed transaction must leave as it was, but for KVM; for free(). */
char *rig_text(struct rig *r);

#endif
