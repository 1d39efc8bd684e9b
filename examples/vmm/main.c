/* SPDX-License-Identifier: MIT */
/*
 * kvmas-vmm: boots firmware with SMM on an i440fx machine, as an example of a VMM on libkvmas.
 * One vCPU, no disks, no display, no network: what SeaBIOS needs to come to "No bootable device".
 *
 * Where to look: machine.c makes the map, host-bridge.c switches it, vcpu.c hands exits to the
 * library. The rest are small devices on I/O ports, and checks of what the guest did.
 *
 * Read boot first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"

/* The status is that of the run, of the report or of the checks, the first that is not 0. */
static int boot(struct machine *machine, const struct options *options)
{
	int status, checked;

	if (machine_new(machine, options))
		return 1;
	status = vcpu_run(machine);
	if (report_at_end(machine) && !status)
		status = 1;
	checked = check_run(machine);
	return status ? status : checked;
}

static int probe(void)
{
	struct vm vm;
	bool enough;

	if (vm_open(&vm))
		return 1;
	enough = vm.spaces >= 2 && vm.smm;
	output_line("kvm: %d address space%s, SMM %s", vm.spaces, vm.spaces == 1 ? "" : "s",
		    vm.smm ? "yes" : "no");
	vm_close(&vm);
	return !enough;
}

int main(int argc, char **argv)
{
	struct options options;
	struct machine *machine;
	int status;

	/* The guest's bytes are to be seen as they come, in the order of all other lines. */
	setvbuf(stdout, NULL, _IONBF, 0);
	switch (options_parse(&options, argc, argv)) {
	case OPTIONS_HELPED:
		return 0;
	case OPTIONS_BAD:
		return 1;
	case OPTIONS_RUN:
		break;
	}
	if (options.probe)
		return probe();
	machine = calloc(1, sizeof(*machine));
	if (!machine) {
		complain("out of memory");
		return 1;
	}
	status = boot(machine, &options);
	machine_free(machine);
	free(machine);
	return status;
}
