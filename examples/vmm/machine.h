/* SPDX-License-Identifier: MIT */
/*
 * The machine: an i440fx with a PIIX3/PIIX4, as little of it as firmware needs. Each device's state
 * stands here under the name of its file; functions are grouped by the file they are in.
 *
 * One thread does everything: it runs the vCPU, answers its exits and changes the map.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <kvmas.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "options.h"
#include "output.h"

/* The legacy video window, below which SMRAM hides (Intel 82441FX data sheet, SMRAM register). */
#define SMRAM_GPA 0xa0000
#define SMRAM_SIZE 0x20000
/* PAM: below 1 MiB, thirteen segments that show RAM or what is on the bus. */
#define PAM_GPA 0xc0000
#define PAM_SEGMENTS 13
#define ONE_MIB 0x100000
#define FOUR_GIB (UINT64_C(1) << 32)

/* Bits of the SMRAM register. */
#define SMRAM_D_OPEN 0x40 /* everybody sees SMRAM */
#define SMRAM_D_CLS 0x20  /* SMM's data accesses do not: stored only, KVM cannot tell them apart */
#define SMRAM_D_LCK 0x10  /* D_OPEN is 0 from now on, and the register frozen */
#define SMRAM_G_SMRAME 0x08 /* SMRAM exists */

struct machine;

/* Bytes of the ring in which dirty pages are logged, with --dirty-log ring: 4096 entries. */
#define RING_SIZE 0x10000

struct vm {
	int kvm_fd;
	int fd;
	int spaces; /* KVM_CAP_MULTI_ADDRESS_SPACE, where 0 counts as 1 */
	bool smm;
};

/* A read of the SMRAM window that was an exit, for check.c. */
struct window_exit {
	bool in_smm;
	uint8_t smram;  /* the register then */
	uint64_t value; /* what the guest got */
};

#define MAX_WINDOW_EXITS 32

struct vcpu {
	int fd;
	struct kvm_run *run;
	size_t run_size;
	void *ring; /* NULL: dirty pages are not logged in one */
	struct kvmas_vcpu *tie;
	timer_t timer;
	bool has_timer;
	uint64_t exits;
	uint64_t exits_in_smm;
	uint64_t smis;
	struct window_exit window[MAX_WINDOW_EXITS];
	unsigned nwindow;
};

struct pci_function {
	uint8_t devfn;
	uint8_t config[256];
	uint8_t writable[256]; /* the bits that a guest's write reaches */
	/* Called once per write that reached bytes first to last. NULL: storage only. */
	int (*written)(struct machine *machine, unsigned first, unsigned last);
};

struct pci {
	uint32_t address;
	struct pci_function host_bridge, isa_bridge, pm;
};

struct host_bridge {
	struct kvmas_region *vga_hole;
	struct kvmas_region *smram;
	struct kvmas_region *pam_ro[PAM_SEGMENTS];
	struct kvmas_region *pam_rw[PAM_SEGMENTS];
};

struct pm {
	struct kvmas_region *window;
	uint8_t regs[64];
	uint8_t apm[2];
};

struct rtc {
	uint8_t index;
	uint8_t cmos[128];
};

struct serial {
	uint8_t ier, lcr, mcr, scratch;
	uint8_t divisor[2];
	struct tail tail;
};

struct debugcon {
	struct tail tail;
	struct kept kept;
};

/* What is on the text screen. */
struct text {
	uint8_t cells[25 * 80 * 2];
};

struct post {
	int fd; /* an eventfd, or -1 */
	uint64_t codes;
};

/* A client that counts dirty pages, all of them or those written through a space. */
struct watcher {
	const char *name;
	struct kvmas_space *space; /* NULL: all; borrowed */
	struct kvmas_client *client;
	uint64_t pages, own_pages; /* since the last time: told of, and by its own space's sync */
	uint64_t total, own_total;
};

struct watch {
	struct watcher watchers[3]; /* the first one's space is NULL */
	unsigned nwatchers;
	uint64_t *bitmap;
	uint64_t npages;
	double start, last, next; /* seconds */
	int error;                /* the first */
};

struct machine {
	const struct options *options;
	struct vm vm;
	struct vcpu vcpu;

	struct kvmas *kvmas;
	struct kvmas_kvm *tie;
	struct kvmas_ram *ram, *rom;
	/* Held here. All others are held by their container, and borrowed by whom they concern. */
	struct kvmas_region *ram_region, *system_root, *smm_root, *pio_root;
	struct kvmas_region *pci_region;        /* what is on the bus where no RAM shows */
	struct kvmas_space *system, *smm, *pio; /* smm: NULL with --no-smm */
	int map_error;                          /* the first error of map_region and its like */

	struct pci pci;
	struct host_bridge host_bridge;
	struct pm pm;
	struct rtc rtc;
	struct serial serial;
	struct debugcon debugcon;
	struct text text;
	struct post post;
	uint8_t port92;
	struct watch watch;

	bool ended;
	bool until_seen;
	bool guest_ended; /* by itself: exit port or power-off */
	int status;       /* of the run */
};

/* machine.c */
int machine_new(struct machine *machine, const struct options *options);
void machine_free(struct machine *machine);
/* End the run with a status; the first one counts. */
void machine_end(struct machine *machine, int status);
/*
 * Make a region and put it into a container, which then holds it. For use in a transaction: after
 * the first error, kept in map_error, these do nothing and return NULL.
 */
struct kvmas_region *map_region(struct machine *machine, struct kvmas_region *parent,
				uint64_t offset, int priority,
				const struct kvmas_region_config *config);
/* Put a device, whose opaque is the machine, at I/O ports. */
struct kvmas_region *map_ports(struct machine *machine, const char *name, uint16_t port,
			       uint16_t count, const struct kvmas_ops *ops);
/* Have writes to a device's first bytes wait in KVM's ring, where the next exit or tick finds them;
 * not with --no-channels. */
void coalesce(struct machine *machine, struct kvmas_region *region, uint64_t size);
/* The guest's bytes as a number, and back. */
uint64_t load_le(const uint8_t *bytes, unsigned size);
void store_le(uint8_t *bytes, unsigned size, uint64_t value);

/* vm.c: each complains by itself */
int vm_open(struct vm *vm);
int vm_setup(struct vm *vm);
int vm_reserve(struct kvmas_kvm *tie);
void vm_close(struct vm *vm);

/* vcpu.c */
int vcpu_new(struct machine *machine);
void vcpu_free(struct machine *machine);
int vcpu_run(struct machine *machine);
void vcpu_raise_smi(struct machine *machine);
/* 0; -ENOENT if this KVM does not give it; -ENOMEM. */
int vcpu_get_msr(struct machine *machine, uint32_t index, uint64_t *ret);

/* firmware.c: complains by itself */
int firmware_load(struct machine *machine);

/* pci.c, host-bridge.c, pm.c, rtc.c, serial.c, debugcon.c, port92.c, text.c, post.c: put the
 * device, in its reset state, into the map */
void pci_map(struct machine *machine);
void host_bridge_map(struct machine *machine);
void pm_map(struct machine *machine);
void rtc_map(struct machine *machine);
void serial_map(struct machine *machine);
void debugcon_map(struct machine *machine);
void port92_map(struct machine *machine);
void text_map(struct machine *machine);
void post_map(struct machine *machine);
uint8_t host_bridge_get_smram(const struct machine *machine);
void text_print(const struct machine *machine);
/* How many POST codes have come. */
uint64_t post_count(struct machine *machine);

/* report.c */
void report_slot_operation(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
			   int result);
int report_at_end(struct machine *machine);

/* watch.c: with --watch-dirty count dirty pages, and print them when it is time, which each tick
 * asks, and at the end. To be called when the vCPU is out of the guest. */
int watch_new(struct machine *machine);
void watch_free(struct machine *machine);
void watch_tell(struct machine *machine);
int watch_end(struct machine *machine);

/* check.c: 0, or 1 if any check failed */
int check_run(struct machine *machine);

#endif
