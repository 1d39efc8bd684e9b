/* SPDX-License-Identifier: MIT */
/*
 * The first serial port, 0x3f8 to 0x3ff: an 8250 that is always ready to send. What the guest sends
 * goes to stdout.
 * Not here: receiving, FIFOs, speed, interrupts.
 */
#include "machine.h"

#define PORT 0x3f8
#define NPORTS 8

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

#define LCR_DLAB 0x80 /* DATA and IER are the divisor */
#define IER_THRE 0x02
#define IIR_NONE 0x01
#define IIR_THRE 0x02
#define LSR_READY 0x60 /* both transmit registers are empty */
#define MSR_READY 0xb0 /* carrier, data set ready, clear to send */

static bool is_divisor(const struct serial *serial, unsigned reg)
{
	return serial->lcr & LCR_DLAB && reg <= IER;
}

static uint8_t read_register(const struct serial *serial, unsigned reg)
{
	if (is_divisor(serial, reg))
		return serial->divisor[reg];
	switch (reg) {
	case DATA:
		return 0;
	case IER:
		return serial->ier;
	case IIR:
		return serial->ier & IER_THRE ? IIR_THRE : IIR_NONE;
	case LCR:
		return serial->lcr;
	case MCR:
		return serial->mcr;
	case LSR:
		return LSR_READY;
	case MSR:
		return MSR_READY;
	default:
		return serial->scratch;
	}
}

static void send(struct machine *machine, uint8_t value)
{
	if (!output_guest(&machine->serial.tail, machine->options->until, value))
		return;
	machine->until_seen = true;
	machine_end(machine, 0);
}

static void write_register(struct machine *machine, unsigned reg, uint8_t value)
{
	struct serial *serial = &machine->serial;

	if (is_divisor(serial, reg)) {
		serial->divisor[reg] = value;
		return;
	}
	switch (reg) {
	case DATA:
		send(machine, value);
		break;
	case IER:
		serial->ier = value & 0x0f;
		break;
	case LCR:
		serial->lcr = value;
		break;
	case MCR:
		serial->mcr = value & 0x1f;
		break;
	case SCRATCH:
		serial->scratch = value;
		break;
	default:
		break; /* FIFO control, and status registers that cannot be written */
	}
}

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	const struct machine *machine = opaque;

	*value = read_register(&machine->serial, (unsigned)access->offset);
	return 0;
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	write_register(opaque, (unsigned)access->offset, (uint8_t)value);
	return 0;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.read = read,
	.write = write,
	.impl = {.max = 1},
};

void serial_map(struct machine *machine)
{
	map_ports(machine, "serial", PORT, NPORTS, &ops);
}
