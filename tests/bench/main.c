/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench SUBCOMMAND [OPTION]...: what the library costs, one subcommand for each thing that is
 * done often. A subcommand is a file of its own and a line of the table here; what they share:
 *
 *     stats    the clock; medians and percentiles of many single samples
 *     meter    how many bytes the library holds, and how often it asked for more
 *     scene    a tree of any size, spaces that show it, a listener on each, maybe a KVM
 *     field    addresses in such a tree, and ways to look them up
 *     pair     two VMs of a real KVM with the same slots, one of them the library's
 *     twin     the same with a guest in each, that writes, and their logs
 *
 * Figures of two machines, or of two hours on a busy one, cannot be compared: compare those of one
 * run.
 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} subcommands[] = {
	{"commit", bench_commit, "one change of the tree, committed; memory held"},
	{"lookup", bench_lookup, "who answers an address, beside other ways to find out"},
	{"slots", bench_slots, "KVM's slots changed, beside the bare ioctls"},
#ifdef __x86_64__ /* their guests are a few instructions of x86 */
	{"dirty", bench_dirty, "dirty pages found out, beside the bare ioctls"},
	{"exit", bench_exit, "a vCPU's exits answered, beside a bare loop"},
#endif
};

enum { NSUBCOMMANDS = sizeof(subcommands) / sizeof(subcommands[0]) };

static int usage(void)
{
	fprintf(stderr, "usage: kvmas-bench SUBCOMMAND [OPTION]...\n");
	for (size_t i = 0; i < NSUBCOMMANDS; i++)
		fprintf(stderr, "  %-8s %s\n", subcommands[i].name, subcommands[i].help);
	return BENCH_FAILED;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < NSUBCOMMANDS; i++) {
		if (!strcmp(argv[1], subcommands[i].name))
			return subcommands[i].run(argc - 1, argv + 1);
	}
	return usage();
}
