/* SPDX-License-Identifier: MIT */
/*
 * The command line: from strings to a struct options, each value checked.
 * Not here: what can be known of a value only by trying it (is the firmware there, has KVM SMM).
 *
 * Read options_parse first.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define MIN_MEMORY (UINT64_C(1) << 20)
#define MAX_MEMORY (UINT64_C(3) << 30)
#define MAX_SECONDS 86400
#define MAX_GPA UINT64_C(0xffffffff) /* the machine's spaces end at 4 GiB */

static const char help[] =
	"Usage: kvmas-vmm [OPTION]...\n"
	"Boot firmware on an i440fx machine whose memory is kept by libkvmas.\n"
	"\n"
	"  --firmware own|seabios|FILE  the ROM (default seabios): own.bin of this build,\n"
	"                               /usr/share/seabios/bios-256k.bin, or a file\n"
	"  --memory SIZE        1M to 3G, suffixes K, M, G (default 64M)\n"
	"  --no-smm             one address space, no SMIs: for a KVM without SMM\n"
	"  --no-channels        have every write of the guest's to a device end KVM_RUN: no\n"
	"                       coalesced writes, no ioeventfds\n"
	"  --merge sticky|eager|none  when neighbouring KVM slots are merged: once, always or\n"
	"                       never (default sticky)\n"
	"  --boundary GPA       have no slot, of either space, across this address; may be\n"
	"                       given again\n"
	"  --until STRING       stop when the guest's debug or serial port printed it\n"
	"  --timeout SECONDS    stop, with status 1, when the time is up\n"
	"  --watch-dirty SECONDS  print every so many seconds, and at the end, how many pages\n"
	"                       were written, by space and by client\n"
	"  --dirty-log auto|manual|manual-set|ring  how KVM logs what is written: bitmaps that\n"
	"                       reading clears (default), or that are cleared when pages are\n"
	"                       taken, those all dirty at first; or a ring for each vCPU,\n"
	"                       which cannot tell spaces apart\n"
	"  --trace-slots        print a line for each operation on a KVM memory slot\n"
	"  --dump               print spaces, views and slots at the end\n"
	"  --stats              print counters at the end\n"
	"  --check own|seabios  verify at the end, from the host's side, what this firmware\n"
	"                       must have done; status 1 if any of it is missing\n"
	"  --plant FAULT        plant a fault, to prove that --check own finds it:\n"
	"                         no-smram    space 1 shows the bus in place of SMRAM\n"
	"                         open-smram  space 0 shows SMRAM always\n"
	"                         no-lock     the lock bit of SMRAM has no effect\n"
	"  --probe              say what this KVM can do; status 0 if it has two address\n"
	"                       spaces and SMM\n"
	"  --help               print this\n"
	"\n"
	"The guest's debug port (0x402) and serial port (0x3f8) go to stdout. A guest ends\n"
	"the run with its status written to port 0x501, or by powering off.\n";

struct word {
	const char *word;
	int value;
};

static const struct word checks[] = {
	{"own", CHECK_OWN},
	{"seabios", CHECK_SEABIOS},
	{NULL, 0},
};

static const struct word merges[] = {
	{"sticky", KVMAS_MERGE_STICKY},
	{"eager", KVMAS_MERGE_EAGER},
	{"none", KVMAS_MERGE_NONE},
	{NULL, 0},
};

static const struct word logs[] = {
	{"auto", KVMAS_KVM_LOG_AUTO},
	{"manual", KVMAS_KVM_LOG_MANUAL},
	{"manual-set", KVMAS_KVM_LOG_MANUAL_SET},
	{"ring", KVMAS_KVM_LOG_RING},
	{NULL, 0},
};

static const struct word plants[] = {
	{"no-smram", PLANT_NO_SMRAM},
	{"open-smram", PLANT_OPEN_SMRAM},
	{"no-lock", PLANT_NO_LOCK},
	{NULL, 0},
};

static int find_word(const struct word *words, const char *arg)
{
	for (; words->word; words++)
		if (!strcmp(words->word, arg))
			return words->value;
	return -EINVAL;
}

/* The number at the head of arg, what follows it in end; numbers with a sign are none. */
static int parse_number(const char *arg, uint64_t *ret, const char **end)
{
	int base = !strncmp(arg, "0x", 2) ? 16 : 10;
	char *stop;

	if (*arg < '0' || *arg > '9')
		return -EINVAL;
	errno = 0;
	*ret = strtoull(arg, &stop, base);
	*end = stop;
	return -errno;
}

static int parse_size(const char *arg, uint64_t *ret)
{
	static const char suffixes[] = "KMG";
	const char *end, *suffix;
	uint64_t number;
	unsigned shift = 0;

	if (parse_number(arg, &number, &end))
		return -EINVAL;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (number > UINT64_MAX >> shift)
		return -EINVAL;
	*ret = number << shift;
	return 0;
}

static int set_firmware(struct options *options, const char *arg)
{
	options->firmware = arg;
	if (*arg)
		return 0;
	complain("--firmware needs own, seabios or the path of a file");
	return -EINVAL;
}

static int set_memory(struct options *options, const char *arg)
{
	uint64_t size;

	if (!parse_size(arg, &size) && size >= MIN_MEMORY && size <= MAX_MEMORY &&
	    !(size & 0xfff)) {
		options->memory = size;
		return 0;
	}
	complain("--memory %s: give a size from 1M to 3G that is a multiple of 4K, as in 64M", arg);
	return -EINVAL;
}

static int set_merge(struct options *options, const char *arg)
{
	int value = find_word(merges, arg);

	if (value < 0) {
		complain("--merge %s: give sticky, eager or none", arg);
		return value;
	}
	options->merge = (enum kvmas_merge)value;
	return 0;
}

static int set_boundary(struct options *options, const char *arg)
{
	uint64_t gpa;

	if (parse_size(arg, &gpa) || !gpa || gpa > MAX_GPA || gpa & 0xfff) {
		complain("--boundary %s: give an address above 0 and below 4G that is a multiple "
			 "of 4K, as in 0xe8000",
			 arg);
		return -EINVAL;
	}
	if (options->nboundaries == OPTIONS_MAX_BOUNDARIES) {
		complain("--boundary %s: give no more than %d", arg, OPTIONS_MAX_BOUNDARIES);
		return -EINVAL;
	}
	options->boundaries[options->nboundaries++] = gpa;
	return 0;
}

static int set_until(struct options *options, const char *arg)
{
	options->until = arg;
	if (*arg && strlen(arg) <= OUTPUT_MAX_UNTIL)
		return 0;
	complain("--until needs a string of 1 to %d bytes", OUTPUT_MAX_UNTIL);
	return -EINVAL;
}

static int set_seconds(unsigned *seconds, const char *option, const char *arg)
{
	const char *end;
	uint64_t number;

	if (!parse_number(arg, &number, &end) && !*end && number && number <= MAX_SECONDS) {
		*seconds = (unsigned)number;
		return 0;
	}
	complain("%s %s: give whole seconds, 1 to %d", option, arg, MAX_SECONDS);
	return -EINVAL;
}

static int set_timeout(struct options *options, const char *arg)
{
	return set_seconds(&options->timeout, "--timeout", arg);
}

static int set_watch(struct options *options, const char *arg)
{
	return set_seconds(&options->watch, "--watch-dirty", arg);
}

static int set_log(struct options *options, const char *arg)
{
	int value = find_word(logs, arg);

	if (value < 0) {
		complain("--dirty-log %s: give auto, manual, manual-set or ring", arg);
		return value;
	}
	options->log = (enum kvmas_kvm_log)value;
	return 0;
}

static int set_check(struct options *options, const char *arg)
{
	int value = find_word(checks, arg);

	if (value < 0) {
		complain("--check %s: give own or seabios", arg);
		return value;
	}
	options->check = (enum check)value;
	return 0;
}

static int set_plant(struct options *options, const char *arg)
{
	int value = find_word(plants, arg);

	if (value < 0) {
		complain("--plant %s: give no-smram, open-smram or no-lock", arg);
		return value;
	}
	options->plant = (enum plant)value;
	return 0;
}

/* Options with a value: getopt_long returns the index here, plus FIRST_VALUE. */
static int (*const value_setters[])(struct options *options, const char *arg) = {
	set_firmware, set_memory, set_until,    set_timeout, set_check,
	set_plant,    set_merge,  set_boundary, set_watch,   set_log,
};

enum { HELP = 1, FIRST_VALUE };

static const struct option value_options[] = {
	{"firmware", required_argument, NULL, FIRST_VALUE},
	{"memory", required_argument, NULL, FIRST_VALUE + 1},
	{"until", required_argument, NULL, FIRST_VALUE + 2},
	{"timeout", required_argument, NULL, FIRST_VALUE + 3},
	{"check", required_argument, NULL, FIRST_VALUE + 4},
	{"plant", required_argument, NULL, FIRST_VALUE + 5},
	{"merge", required_argument, NULL, FIRST_VALUE + 6},
	{"boundary", required_argument, NULL, FIRST_VALUE + 7},
	{"watch-dirty", required_argument, NULL, FIRST_VALUE + 8},
	{"dirty-log", required_argument, NULL, FIRST_VALUE + 9},
	{"help", no_argument, NULL, HELP},
};

#define NVALUE_OPTIONS (sizeof(value_options) / sizeof(value_options[0]))
#define NFLAGS 6

/* getopt_long writes a flag by itself, through an int. */
struct flag {
	const char *name;
	bool *target;
	int given;
};

/* There are no short options: of one, getopt gives the letter; of a long one, optind the place. */
static void complain_of_option(int found, char **argv)
{
	const char *what = found == ':' ? "needs a value" : "no such option";

	if (isprint(optopt))
		complain("-%c: %s; see --help", optopt, what);
	else
		complain("%s: %s; see --help", argv[optind - 1], what);
}

static int parse_all(struct options *options, struct flag *flags, int argc, char **argv)
{
	struct option table[NVALUE_OPTIONS + NFLAGS + 1] = {{0}};
	int found;

	memcpy(table, value_options, sizeof(value_options));
	for (unsigned i = 0; i < NFLAGS; i++)
		table[NVALUE_OPTIONS + i] =
			(struct option){flags[i].name, no_argument, &flags[i].given, 1};
	/* getopt's own messages do not say what to do. */
	opterr = 0;
	while ((found = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (found == '?' || found == ':') {
			complain_of_option(found, argv);
			return OPTIONS_BAD;
		}
		if (found == HELP) {
			fputs(help, stdout);
			return OPTIONS_HELPED;
		}
		if (found >= FIRST_VALUE && value_setters[found - FIRST_VALUE](options, optarg))
			return OPTIONS_BAD;
	}
	for (unsigned i = 0; i < NFLAGS; i++)
		*flags[i].target = flags[i].given;
	return OPTIONS_RUN;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
	struct flag flags[NFLAGS] = {
		{"no-smm", &options->no_smm, 0},
		{"no-channels", &options->no_channels, 0},
		{"trace-slots", &options->trace_slots, 0},
		{"dump", &options->dump, 0},
		{"stats", &options->stats, 0},
		{"probe", &options->probe, 0},
	};
	int result;

	*options = (struct options){.firmware = "seabios", .memory = UINT64_C(64) << 20};
	result = parse_all(options, flags, argc, argv);
	if (result != OPTIONS_RUN)
		return result;
	if (optind == argc)
		return OPTIONS_RUN;
	complain("%s: unexpected; every argument is an option, see --help", argv[optind]);
	return OPTIONS_BAD;
}
