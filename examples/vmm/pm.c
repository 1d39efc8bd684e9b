/* SPDX-License-Identifier: MIT */
/*
 * Power management, 00:01.3 (82371AB PIIX4): the 64 I/O ports at PMBASE with the ACPI timer, and
 * the APM ports 0xb2 and 0xb3, where a write raises an SMI. The PMBASE window is a region of the
 * I/O space that the configuration registers move and enable.
 * Not here: interrupts (no SCI is raised), sleep states but soft-off.
 *
 * An SMI needs both APMC_EN (register 0x58) and SMI_EN (GLBCTL), as in the PIIX4 data sheet.
 */
#include <time.h>

#include "machine.h"

/* Configuration registers. */
#define PMBASE 0x40
#define PMBASE_MASK 0xffc0
#define DEVACTB 0x58
#define DEVACTB_APMC_EN (1u << 25)
#define PMREGMISC 0x80
#define PMREGMISC_PMIOSE 0x01

/* Ports from PMBASE on. */
#define PM1_STS 0x00
#define PM1_STS_SIZE 2
#define PM1_CNT 0x04
#define PM1_CNT_SCI_EN 0x0001
#define PM1_CNT_SLP_EN 0x2000
#define PM1_CNT_SLP_TYP 0x1c00 /* 0: soft-off */
#define PM_TIMER 0x08
#define PM_TIMER_SIZE 4
#define PM_TIMER_HZ 3579545
#define PM_TIMER_MASK 0xffffff
#define GLBCTL 0x28
#define GLBCTL_SMI_EN 0x01

#define APM_PORT 0xb2
#define APM_COMMAND 0 /* port 0xb2 */
#define APM_ACPI_ENABLE 0xf1
#define APM_ACPI_DISABLE 0xf0

static uint32_t timer_now(void)
{
	struct timespec now;
	uint64_t ticks;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ticks = (uint64_t)now.tv_sec * PM_TIMER_HZ;
	ticks += (uint64_t)now.tv_nsec * PM_TIMER_HZ / 1000000000;
	return ticks & PM_TIMER_MASK;
}

static int read_window(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;

	store_le(machine->pm.regs + PM_TIMER, PM_TIMER_SIZE, timer_now());
	*value = load_le(machine->pm.regs + access->offset, access->size);
	return 0;
}

static void write_byte(struct pm *pm, unsigned reg, uint8_t value)
{
	if (reg < PM1_STS + PM1_STS_SIZE)
		pm->regs[reg] &= (uint8_t)~value; /* written ones clear */
	else if (reg < PM_TIMER || reg >= PM_TIMER + PM_TIMER_SIZE)
		pm->regs[reg] = value;
}

static int write_window(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;
	struct pm *pm = &machine->pm;
	uint64_t control;

	for (unsigned i = 0; i < access->size; i++)
		write_byte(pm, (unsigned)access->offset + i, (uint8_t)(value >> 8 * i));
	control = load_le(pm->regs + PM1_CNT, 2);
	if (!(control & PM1_CNT_SLP_EN))
		return 0;
	/* SLP_EN is an order, not a state. */
	store_le(pm->regs + PM1_CNT, 2, control & ~(uint64_t)PM1_CNT_SLP_EN);
	if (!(control & PM1_CNT_SLP_TYP)) {
		machine->guest_ended = true;
		machine_end(machine, 0);
	}
	return 0;
}

static const struct kvmas_ops window_ops = {
	.struct_size = sizeof(window_ops),
	.read = read_window,
	.write = write_window,
};

static bool smi_enabled(const struct machine *machine)
{
	const uint8_t *config = machine->pci.pm.config;

	return load_le(config + DEVACTB, 4) & DEVACTB_APMC_EN &&
	       machine->pm.regs[GLBCTL] & GLBCTL_SMI_EN;
}

static void command(struct machine *machine, uint8_t value)
{
	uint8_t *control = &machine->pm.regs[PM1_CNT];

	if (value == APM_ACPI_ENABLE)
		*control |= PM1_CNT_SCI_EN;
	else if (value == APM_ACPI_DISABLE)
		*control &= (uint8_t)~PM1_CNT_SCI_EN;
	else if (smi_enabled(machine))
		vcpu_raise_smi(machine);
}

static int read_apm(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;

	*value = machine->pm.apm[access->offset];
	return 0;
}

/* The SMI is taken when the vCPU runs on: its handler reads both bytes in place. */
static int write_apm(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	machine->pm.apm[access->offset] = (uint8_t)value;
	if (access->offset == APM_COMMAND)
		command(machine, (uint8_t)value);
	return 0;
}

static const struct kvmas_ops apm_ops = {
	.struct_size = sizeof(apm_ops),
	.read = read_apm,
	.write = write_apm,
	.impl = {.max = 1},
};

static int place_window(struct machine *machine)
{
	const uint8_t *config = machine->pci.pm.config;
	struct kvmas_region *window = machine->pm.window;
	int rc = kvmas_begin(machine->kvmas);

	if (rc)
		return rc;
	rc = kvmas_region_set_offset(window, load_le(config + PMBASE, 2) & PMBASE_MASK);
	if (!rc)
		rc = kvmas_region_set_enabled(window, config[PMREGMISC] & PMREGMISC_PMIOSE);
	if (!rc)
		return kvmas_commit(machine->kvmas);
	kvmas_abort(machine->kvmas);
	return rc;
}

static int config_written(struct machine *machine, unsigned first, unsigned last)
{
	bool moved = first <= PMBASE + 1 && last >= PMBASE;
	bool switched = first <= PMREGMISC && last >= PMREGMISC;

	return moved || switched ? place_window(machine) : 0;
}

static void reset_config(struct machine *machine)
{
	struct pci_function *function = &machine->pci.pm;

	function->devfn = 1 << 3 | 3;
	store_le(function->config + 0x00, 4, 0x71138086);
	store_le(function->config + 0x0a, 2, 0x0680);
	function->config[0x3d] = 1;
	function->config[PMBASE] = 1; /* "these are I/O ports" */
	store_le(function->writable + PMBASE, 2, PMBASE_MASK);
	store_le(function->writable + DEVACTB, 4, UINT32_MAX);
	function->writable[0x3c] = 0xff;
	function->writable[PMREGMISC] = PMREGMISC_PMIOSE;
	function->written = config_written;
	/* Set from the start, it tells SeaBIOS to leave SMM alone. */
	if (machine->options->no_smm)
		store_le(function->config + DEVACTB, 4, DEVACTB_APMC_EN);
}

void pm_map(struct machine *machine)
{
	reset_config(machine);
	map_ports(machine, "apm", APM_PORT, sizeof(machine->pm.apm), &apm_ops);
	machine->pm.window = map_ports(machine, "pm", 0, sizeof(machine->pm.regs), &window_ops);
	if (!machine->map_error)
		machine->map_error = place_window(machine);
}
