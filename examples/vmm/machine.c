/* SPDX-License-Identifier: MIT */
/*
 * The machine put together: KVM VM, memory blocks, and the map, made in one transaction.
 * Not here: what moves in the map later (host-bridge.c, pm.c), devices (a file each).
 *
 *   system (KVM address space 0)                                                    priority
 *     pci        0 .. 4 GiB, answers nothing: reads give ones                              -1
 *       rom      ends at 4 GiB
 *       isa-rom  its last 128 KiB again, ends at 1 MiB
 *       text     0xb8000, the text screen                                 (text.c)
 *     ram-low    0 .. 0xbffff                                                               0
 *     ram-high   1 MiB .. end of RAM                                                        0
 *     vga-hole   0xa0000 .. 0xbffff, of pci, while SMRAM is closed     (host-bridge.c)      1
 *     pam-*      0xc0000 .. 1 MiB, RAM in 13 segments, where enabled   (host-bridge.c)      1
 *   smm (KVM address space 1)
 *     smm-system all of system: what the chipset does there shows here by itself            0
 *     smram      holds smram-low, RAM at 0xa0000 .. 0xbffff            (host-bridge.c)     10
 *   pio (the 64 Ki I/O ports)
 *
 * pci is an MMIO region and not a container because of closed SMRAM: in a container's hole, the RAM
 * below it would show.
 *
 * Read machine_new first.
 */
#include "machine.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ISA_ROM_MAX 0x20000

uint64_t load_le(const uint8_t *bytes, unsigned size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | bytes[size];
	return value;
}

void store_le(uint8_t *bytes, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
}

void machine_end(struct machine *machine, int status)
{
	if (machine->ended)
		return;
	machine->ended = true;
	machine->status = status;
}

static struct kvmas_region *make_region(struct machine *machine,
					const struct kvmas_region_config *config)
{
	struct kvmas_region *region = NULL;

	if (!machine->map_error)
		machine->map_error = kvmas_region_new(machine->kvmas, config, &region);
	return region;
}

struct kvmas_region *map_region(struct machine *machine, struct kvmas_region *parent,
				uint64_t offset, int priority,
				const struct kvmas_region_config *config)
{
	struct kvmas_region *region = make_region(machine, config);

	if (!region)
		return NULL;
	machine->map_error = kvmas_region_add(parent, region, offset, priority);
	/* The container holds it now; if it does not, nobody does. */
	kvmas_region_unref(region);
	return machine->map_error ? NULL : region;
}

struct kvmas_region *map_ports(struct machine *machine, const char *name, uint16_t port,
			       uint16_t count, const struct kvmas_ops *ops)
{
	return map_region(machine, machine->pio_root, port, 0,
			  KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = name,
				       .size = count, .ops = ops, .opaque = machine));
}

void coalesce(struct machine *machine, struct kvmas_region *region, uint64_t size)
{
	if (!machine->map_error && !machine->options->no_channels)
		machine->map_error = kvmas_region_add_coalesced(region, 0, size, 0);
}

static struct kvmas_region *make_container(struct machine *machine, const char *name, uint64_t size)
{
	return make_region(machine, KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER,
						 .name = name, .size = size));
}

static void map_rom(struct machine *machine)
{
	uint64_t size = kvmas_ram_get_size(machine->rom);
	uint64_t isa_size = size < ISA_ROM_MAX ? size : ISA_ROM_MAX;
	struct kvmas_region *rom;

	rom = map_region(machine, machine->pci_region, FOUR_GIB - size, 0,
			 KVMAS_CONFIG(region, .kind = KVMAS_REGION_ROM, .name = "rom", .size = size,
				      .ram = machine->rom));
	map_region(machine, machine->pci_region, ONE_MIB - isa_size, 0,
		   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "isa-rom",
				.size = isa_size, .target = rom, .target_offset = size - isa_size));
}

static void map_ram(struct machine *machine)
{
	uint64_t size = kvmas_ram_get_size(machine->ram);

	machine->ram_region =
		make_region(machine, KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "ram",
						  .size = size, .ram = machine->ram));
	map_region(machine, machine->system_root, 0, 0,
		   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "ram-low",
				.size = PAM_GPA, .target = machine->ram_region));
	if (size == ONE_MIB)
		return;
	map_region(machine, machine->system_root, ONE_MIB, 0,
		   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "ram-high",
				.size = size - ONE_MIB, .target = machine->ram_region,
				.target_offset = ONE_MIB));
}

static void map_memory(struct machine *machine)
{
	machine->system_root = make_container(machine, "system", FOUR_GIB);
	machine->pci_region = map_region(
		machine, machine->system_root, 0, -1,
		KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "pci", .size = FOUR_GIB));
	map_rom(machine);
	map_ram(machine);
	machine->smm_root = make_container(machine, "smm", FOUR_GIB);
	map_region(machine, machine->smm_root, 0, 0,
		   KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "smm-system",
				.size = FOUR_GIB, .target = machine->system_root));
}

static void map_devices(struct machine *machine)
{
	machine->pio_root = make_container(machine, "pio", 0x10000);
	pci_map(machine);
	host_bridge_map(machine);
	pm_map(machine);
	rtc_map(machine);
	serial_map(machine);
	debugcon_map(machine);
	port92_map(machine);
	text_map(machine);
	post_map(machine);
}

static struct kvmas_space *make_space(struct machine *machine, struct kvmas_region *root)
{
	struct kvmas_space *space = NULL;

	if (!machine->map_error)
		machine->map_error =
			kvmas_space_new(machine->kvmas, kvmas_region_get_name(root), root, &space);
	return space;
}

static void bind(struct machine *machine, struct kvmas_space *space, unsigned as_id)
{
	if (!machine->map_error)
		machine->map_error = kvmas_kvm_bind(machine->tie, space, as_id);
}

static void map_spaces(struct machine *machine)
{
	machine->system = make_space(machine, machine->system_root);
	bind(machine, machine->system, 0);
	if (!machine->options->no_smm) {
		machine->smm = make_space(machine, machine->smm_root);
		bind(machine, machine->smm, 1);
	}
	machine->pio = make_space(machine, machine->pio_root);
	if (!machine->map_error)
		machine->map_error = kvmas_kvm_set_pio_space(machine->tie, machine->pio);
}

/* One transaction: KVM gets its first slots when all is in place. */
static int make_map(struct machine *machine)
{
	int rc = kvmas_begin(machine->kvmas);

	if (!rc) {
		map_memory(machine);
		map_devices(machine);
		map_spaces(machine);
		rc = machine->map_error;
		if (rc)
			kvmas_abort(machine->kvmas);
		else
			rc = kvmas_commit(machine->kvmas);
	}
	if (rc)
		complain("cannot make the memory map: %s; try less --memory", strerror(-rc));
	return rc;
}

static void log_line(void *data, enum kvmas_log_level level, const char *message)
{
	(void)data;
	(void)level;
	complain("libkvmas: %s", message);
}

static int make_context(struct machine *machine)
{
	const struct kvmas_config config = {.struct_size = sizeof(config), .log = log_line};
	int rc = kvmas_new(&config, &machine->kvmas);

	if (rc)
		complain("cannot begin: %s", strerror(-rc));
	return rc;
}

static int set_merging_of(struct machine *machine, unsigned as_id)
{
	const struct options *options = machine->options;
	int rc = kvmas_kvm_set_merge(machine->tie, as_id, options->merge);

	for (unsigned i = 0; !rc && i < options->nboundaries; i++)
		rc = kvmas_kvm_add_boundary(machine->tie, as_id, options->boundaries[i]);
	return rc;
}

/* Before there are slots: one made across a boundary would have to be cut. */
static int set_merging(struct machine *machine)
{
	int rc = set_merging_of(machine, 0);

	return rc || machine->options->no_smm ? rc : set_merging_of(machine, 1);
}

static int make_tie(struct machine *machine)
{
	const struct options *options = machine->options;
	bool is_ring = options->log == KVMAS_KVM_LOG_RING;
	int rc = kvmas_kvm_new(
		machine->kvmas,
		KVMAS_CONFIG(kvm, .vm_fd = machine->vm.fd,
			     .trace = options->trace_slots ? report_slot_operation : NULL,
			     .log = options->log, .ring_size = is_ring ? RING_SIZE : 0),
		&machine->tie);

	if (!rc)
		rc = vm_reserve(machine->tie);
	if (!rc)
		rc = set_merging(machine);
	if (rc)
		complain("cannot tie libkvmas to the VM: %s%s", strerror(-rc),
			 options->log ? "; see whether --dirty-log auto can be had" : "");
	return rc;
}

static int make_ram(struct machine *machine)
{
	int rc = kvmas_ram_new(machine->kvmas,
			       KVMAS_CONFIG(ram, .name = "ram", .size = machine->options->memory),
			       &machine->ram);

	if (rc)
		complain("no memory for the guest's RAM: %s; try less --memory", strerror(-rc));
	return rc;
}

static int open_vm(struct machine *machine)
{
	struct vm *vm = &machine->vm;
	int rc = vm_open(vm);

	if (rc || machine->options->no_smm || (vm->spaces >= 2 && vm->smm))
		return rc;
	complain("this KVM has %d address space(s) and %s SMM; give --no-smm, or use "
		 "examples/boot.sh, which boots in a lab that has two and SMM",
		 vm->spaces, vm->smm ? "has" : "no");
	return -EOPNOTSUPP;
}

static int setup_vm(struct machine *machine)
{
	return vm_setup(&machine->vm);
}

/* What needs no KVM first, so that a wrong file is told even where there is none. */
int machine_new(struct machine *machine, const struct options *options)
{
	static int (*const steps[])(struct machine *) = {
		make_context, firmware_load, make_ram, open_vm,   make_tie,
		setup_vm,     make_map,      vcpu_new, watch_new,
	};
	int rc = 0;

	machine->options = options;
	machine->vm = (struct vm){.kvm_fd = -1, .fd = -1};
	machine->vcpu.fd = -1;
	machine->post.fd = -1;
	for (size_t i = 0; !rc && i < sizeof(steps) / sizeof(steps[0]); i++)
		rc = steps[i](machine);
	return rc;
}

/* Whatever machine_new got to. The VM goes with its file, so its slots need no undoing. */
void machine_free(struct machine *machine)
{
	watch_free(machine);
	vcpu_free(machine);
	kvmas_kvm_unref(machine->tie);
	kvmas_space_unref(machine->pio);
	kvmas_space_unref(machine->smm);
	kvmas_space_unref(machine->system);
	kvmas_region_unref(machine->pio_root);
	kvmas_region_unref(machine->smm_root);
	kvmas_region_unref(machine->system_root);
	kvmas_region_unref(machine->ram_region);
	kvmas_ram_unref(machine->rom);
	kvmas_ram_unref(machine->ram);
	kvmas_unref(machine->kvmas);
	if (machine->post.fd >= 0)
		close(machine->post.fd);
	vm_close(&machine->vm);
}
