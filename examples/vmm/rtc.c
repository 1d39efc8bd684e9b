/* SPDX-License-Identifier: MIT */
/*
 * The real-time clock and CMOS memory, ports 0x70 and 0x71: the host's time in BCD, and the cells
 * from which SeaBIOS learns the size of memory when there is no fw_cfg.
 * Not here: alarms, periodic interrupts, setting the clock.
 */
#include <time.h>

#include "machine.h"

#define PORT 0x70
#define INDEX_MASK 0x7f /* bit 7 gates NMIs */

/* Cells of the MC146818 and of the PC. */
#define STATUS_A 0x0a
#define STATUS_B 0x0b
#define STATUS_C 0x0c
#define STATUS_D 0x0d
#define BASE_KIB 0x15
#define ABOVE_1M_KIB 0x17
#define ABOVE_1M_KIB_AGAIN 0x30
#define ABOVE_16M_64KIB 0x34
#define CENTURY 0x32

static uint8_t bcd(int value)
{
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static void update_time(uint8_t *cmos)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	cmos[0x00] = bcd(tm.tm_sec);
	cmos[0x02] = bcd(tm.tm_min);
	cmos[0x04] = bcd(tm.tm_hour);
	cmos[0x06] = bcd(tm.tm_wday + 1);
	cmos[0x07] = bcd(tm.tm_mday);
	cmos[0x08] = bcd(tm.tm_mon + 1);
	cmos[0x09] = bcd(tm.tm_year);
	cmos[CENTURY] = bcd((tm.tm_year + 1900) / 100);
}

static int read(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct machine *machine = opaque;

	update_time(machine->rtc.cmos);
	*value = UINT64_MAX;
	if (access->offset == 1)
		*value = machine->rtc.cmos[machine->rtc.index];
	return 0;
}

static bool is_readonly(uint8_t index)
{
	return index == STATUS_C || index == STATUS_D;
}

static int write(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;
	struct rtc *rtc = &machine->rtc;

	if (!access->offset)
		rtc->index = value & INDEX_MASK;
	else if (!is_readonly(rtc->index))
		rtc->cmos[rtc->index] = (uint8_t)value;
	return 0;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.read = read,
	.write = write,
	.impl = {.max = 1},
};

static uint64_t at_most_16_bits(uint64_t value)
{
	return value < UINT16_MAX ? value : UINT16_MAX;
}

static void reset_memory_size(uint8_t *cmos, uint64_t memory)
{
	uint64_t above_1m = at_most_16_bits((memory - ONE_MIB) >> 10);
	uint64_t sixteen_mib = UINT64_C(16) << 20;

	store_le(cmos + BASE_KIB, 2, 640);
	store_le(cmos + ABOVE_1M_KIB, 2, above_1m);
	store_le(cmos + ABOVE_1M_KIB_AGAIN, 2, above_1m);
	if (memory > sixteen_mib)
		store_le(cmos + ABOVE_16M_64KIB, 2, at_most_16_bits((memory - sixteen_mib) >> 16));
}

/* All other cells are 0: one processor (0x5f), no boot order (0x38, 0x3d), nothing above 4 GiB. */
void rtc_map(struct machine *machine)
{
	uint8_t *cmos = machine->rtc.cmos;

	cmos[STATUS_A] = 0x26; /* 32768 Hz, no update in progress */
	cmos[STATUS_B] = 0x02; /* BCD, 24 hours */
	cmos[STATUS_D] = 0x80; /* the battery is good */
	reset_memory_size(cmos, machine->options->memory);
	map_ports(machine, "rtc", PORT, 2, &ops);
}
