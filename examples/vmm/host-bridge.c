/* SPDX-License-Identifier: MIT */
/*
 * The host bridge 00:00.0 (82441FX): PAM registers 0x59 to 0x5f and the SMRAM register 0x72. They
 * switch regions on and off, in one transaction per write, and do nothing else: what becomes of
 * KVM's slots in either space is the library's business.
 *
 *   vga-hole   system, 0xa0000: hides RAM while D_OPEN is 0
 *   smram      smm, 0xa0000: shows that RAM while G_SMRAME is 1
 *   pam-*-ro   system: one segment shows RAM, and writes are dropped
 *   pam-*-rw   system: it shows RAM; at most one of the two is enabled, and with none the segment
 *              shows what is on the bus
 *
 * Read switch_regions first.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define PAM_REG 0x59
#define PAM_REGS 7
#define SMRAM_REG 0x72
#define SMRAM_RESET 0x02
#define SMRAM_WRITABLE (SMRAM_D_OPEN | SMRAM_D_CLS | SMRAM_D_LCK | SMRAM_G_SMRAME)

/* Bits of a PAM segment. Writable but not readable counts as both: KVM has no such mapping. */
#define PAM_READ 1
#define PAM_WRITE 2

#define PAM_SEGMENT_SIZE 0x4000
#define PAM_F_GPA 0xf0000
#define PAM_F_SIZE 0x10000

uint8_t host_bridge_get_smram(const struct machine *machine)
{
	return machine->pci.host_bridge.config[SMRAM_REG];
}

/* Segment 0 (0xf0000) is the high half of the first register; then come 16 KiB segments from
 * 0xc0000 on, low half first. */
static unsigned pam_of(const uint8_t *config, unsigned segment)
{
	uint8_t reg = config[PAM_REG + (segment + 1) / 2];

	return (segment & 1 ? reg : reg >> 4) & (PAM_READ | PAM_WRITE);
}

static int switch_pam(struct host_bridge *bridge, const uint8_t *config)
{
	unsigned pam;
	int rc = 0;

	for (unsigned i = 0; i < PAM_SEGMENTS && !rc; i++) {
		pam = pam_of(config, i);
		rc = kvmas_region_set_enabled(bridge->pam_ro[i], pam == PAM_READ);
		if (!rc)
			rc = kvmas_region_set_enabled(bridge->pam_rw[i], pam & PAM_WRITE);
	}
	return rc;
}

static int switch_smram(struct machine *machine)
{
	struct host_bridge *bridge = &machine->host_bridge;
	bool stays_open = machine->options->plant == PLANT_OPEN_SMRAM;
	uint8_t smram = host_bridge_get_smram(machine);
	int rc;

	rc = kvmas_region_set_enabled(bridge->vga_hole, !(smram & SMRAM_D_OPEN) && !stays_open);
	if (rc)
		return rc;
	return kvmas_region_set_enabled(bridge->smram, smram & SMRAM_G_SMRAME);
}

static int switch_regions(struct machine *machine)
{
	int rc = kvmas_begin(machine->kvmas);

	if (rc)
		return rc;
	rc = switch_pam(&machine->host_bridge, machine->pci.host_bridge.config);
	if (!rc)
		rc = switch_smram(machine);
	if (!rc)
		return kvmas_commit(machine->kvmas);
	kvmas_abort(machine->kvmas);
	return rc;
}

/* With D_LCK, D_OPEN goes and no bit can be written any more but D_CLS; only a reset unlocks. */
static void lock_smram(struct machine *machine)
{
	struct pci_function *function = &machine->pci.host_bridge;

	if (!(function->config[SMRAM_REG] & SMRAM_D_LCK))
		return;
	if (machine->options->plant == PLANT_NO_LOCK)
		return;
	function->config[SMRAM_REG] &= (uint8_t)~SMRAM_D_OPEN;
	function->writable[SMRAM_REG] = SMRAM_D_CLS;
}

static int config_written(struct machine *machine, unsigned first, unsigned last)
{
	if (first <= SMRAM_REG && last >= SMRAM_REG)
		lock_smram(machine);
	else if (last < PAM_REG || first >= PAM_REG + PAM_REGS)
		return 0;
	return switch_regions(machine);
}

static void reset_config(struct machine *machine)
{
	struct pci_function *function = &machine->pci.host_bridge;

	/* By its subsystem SeaBIOS knows a virtual machine of the kind that has a debug port. */
	function->devfn = 0;
	store_le(function->config + 0x00, 4, 0x12378086);
	store_le(function->config + 0x0a, 2, 0x0600);
	store_le(function->config + 0x2c, 4, 0x11001af4);
	function->config[SMRAM_REG] = SMRAM_RESET;
	memset(function->writable + PAM_REG, PAM_READ | PAM_WRITE | (PAM_READ | PAM_WRITE) << 4,
	       PAM_REGS);
	function->writable[SMRAM_REG] = SMRAM_WRITABLE;
	function->written = config_written;
}

static void map_segment(struct machine *machine, unsigned i)
{
	uint64_t gpa = i ? PAM_GPA + (i - 1) * PAM_SEGMENT_SIZE : PAM_F_GPA;
	char name[] = "pam-xxxxx-ro";
	struct kvmas_region_config config = {
		.struct_size = sizeof(config),
		.kind = KVMAS_REGION_ALIAS,
		.name = name,
		.size = i ? PAM_SEGMENT_SIZE : PAM_F_SIZE,
		.target = machine->ram_region,
		.target_offset = gpa,
	};

	snprintf(name, sizeof(name), "pam-%05" PRIx64 "-ro", gpa);
	machine->host_bridge.pam_ro[i] = map_region(machine, machine->system_root, gpa, 1, &config);
	snprintf(name, sizeof(name), "pam-%05" PRIx64 "-rw", gpa);
	machine->host_bridge.pam_rw[i] = map_region(machine, machine->system_root, gpa, 1, &config);
	if (!machine->map_error)
		machine->map_error =
			kvmas_region_set_readonly(machine->host_bridge.pam_ro[i], true);
}

static void map_smram(struct machine *machine)
{
	struct host_bridge *bridge = &machine->host_bridge;
	bool missing = machine->options->plant == PLANT_NO_SMRAM;

	bridge->vga_hole =
		map_region(machine, machine->system_root, SMRAM_GPA, 1,
			   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "vga-hole",
					.size = SMRAM_SIZE, .target = machine->pci_region,
					.target_offset = SMRAM_GPA));
	bridge->smram = map_region(machine, machine->smm_root, 0, 10,
				   KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER,
						.name = "smram", .size = FOUR_GIB));
	map_region(machine, bridge->smram, SMRAM_GPA, 0,
		   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "smram-low",
				.size = SMRAM_SIZE,
				.target = missing ? machine->pci_region : machine->ram_region,
				.target_offset = SMRAM_GPA));
}

void host_bridge_map(struct machine *machine)
{
	reset_config(machine);
	map_smram(machine);
	for (unsigned i = 0; i < PAM_SEGMENTS; i++)
		map_segment(machine, i);
	if (!machine->map_error)
		machine->map_error = switch_regions(machine);
}
