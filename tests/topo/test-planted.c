/* SPDX-License-Identifier: MIT */
/*
 * Tests of the checker: check_bytes must end in abort() when the library is wrong. Functions of the
 * library are defined here once more, in front of it, and do each their own thing wrong when they
 * are told to; a small machine of three steps, the last of which is a loop, needs all of them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kvmas.h>

#include "check.h"

static const char machine[] = "topo 1\n"
			      "region 1 container 10000000000000000 1 0 0 - 0 system\n"
			      "region 2 ram 4000 1 0 0 - 0 ram\n"
			      "region 3 mmio 1000 1 0 0 - 0 dev\n"
			      "region 4 romd 1000 1 0 0 - 0 flash\n"
			      "region 5 alias 2000 1 0 0 2 1000 window\n"
			      "region 7 mmio 100 1 0 0 - 0 mover\n"
			      "region 8 container 1000 1 0 0 - 0 bus\n"
			      "sub 1 8 30000 0\n"
			      "sub 8 7 40 0\n"
			      "sub 1 2 0 0\n"
			      "sub 1 3 1000 1\n"
			      "sub 1 4 8000 0\n"
			      "sub 1 5 10000 0\n"
			      "as 0 1 memory\n"
			      "end\n"
			      "topo 1\n"
			      "region 1 container 10000000000000000 1 0 0 - 0 system\n"
			      "region 2 ram 3000 1 0 1 - 0 ram\n"
			      "region 3 mmio 1000 1 0 0 - 0 dev\n"
			      "region 4 mmio 1000 1 0 0 - 0 flash\n"
			      "region 5 alias 2000 1 1 0 2 800 window\n"
			      "region 6 mmio 100 0 0 0 - 0 disabled\n"
			      "region 7 mmio 100 1 0 0 - 0 mover\n"
			      "region 8 container 1000 1 0 0 - 0 bus\n"
			      "sub 1 8 30000 0\n"
			      "sub 1 7 40000 0\n"
			      "sub 1 2 0 2\n"
			      "sub 1 3 1000 1\n"
			      "sub 1 4 9000 0\n"
			      "sub 1 5 10000 0\n"
			      "sub 1 6 20000 0\n"
			      "as 0 1 memory\n"
			      "end\n"
			      "topo 1\n"
			      "region 1 container 10000000000000000 1 0 0 - 0 system\n"
			      "region 9 alias 2000 1 0 0 1 0 legal\n"
			      "region 10 alias 2000 1 0 0 1 4000 loop\n"
			      "sub 1 9 2000 0\n"
			      "sub 1 10 5000 0\n"
			      "as 0 1 memory\n"
			      "end\n";

/* Which function is wrong; NULL: none. */
static const char *planted;

static bool is_planted(const char *function)
{
	return planted && !strcmp(planted, function);
}

/* A setter of the library's that forgets to set. */
#define FORGETFUL(name, type)                                                                      \
	int name(struct kvmas_region *region, type value)                                          \
	{                                                                                          \
		int (*real)(struct kvmas_region * region, type value) = dlsym(RTLD_NEXT, #name);   \
                                                                                                   \
		return is_planted(#name) ? 0 : real(region, value);                                \
	}

FORGETFUL(kvmas_region_set_enabled, bool)
FORGETFUL(kvmas_region_set_readonly, bool)
FORGETFUL(kvmas_region_set_nonvolatile, bool)
FORGETFUL(kvmas_region_set_romd, bool)
FORGETFUL(kvmas_region_set_offset, uint64_t)
FORGETFUL(kvmas_region_set_size, uint64_t)
FORGETFUL(kvmas_region_set_priority, int)

int kvmas_region_set_alias(struct kvmas_region *alias, struct kvmas_region *target,
			   uint64_t target_offset)
{
	int (*real)(struct kvmas_region * alias, struct kvmas_region * target,
		    uint64_t target_offset) = dlsym(RTLD_NEXT, "kvmas_region_set_alias");

	return is_planted("kvmas_region_set_alias") ? 0 : real(alias, target, target_offset);
}

int kvmas_region_del(struct kvmas_region *region)
{
	int (*real)(struct kvmas_region * region) = dlsym(RTLD_NEXT, "kvmas_region_del");

	return is_planted("kvmas_region_del") ? 0 : real(region);
}

/* Sees loops where there are none, or none where there are. */
int kvmas_region_add(struct kvmas_region *parent, struct kvmas_region *child, uint64_t offset,
		     int priority)
{
	int (*real)(struct kvmas_region * parent, struct kvmas_region * child, uint64_t offset,
		    int priority) = dlsym(RTLD_NEXT, "kvmas_region_add");

	int err;

	if (is_planted("kvmas_region_add"))
		return -ELOOP;
	err = real(parent, child, offset, priority);
	return err == -ELOOP && is_planted("kvmas_region_add of a loop") ? 0 : err;
}

/* Ends a walk before the last range. */
int kvmas_view_next(const struct kvmas_view *view, struct kvmas_section *section)
{
	int (*real)(const struct kvmas_view *view, struct kvmas_section *section) =
		dlsym(RTLD_NEXT, "kvmas_view_next");
	int err = real(view, section);

	return is_planted("kvmas_view_next") && section->gpa == 0x10000 ? -ENOENT : err;
}

static const char *const plants[] = {
	"kvmas_region_set_enabled",  "kvmas_region_set_readonly",  "kvmas_region_set_nonvolatile",
	"kvmas_region_set_romd",     "kvmas_region_set_offset",    "kvmas_region_set_size",
	"kvmas_region_set_priority", "kvmas_region_set_alias",     "kvmas_region_del",
	"kvmas_region_add",          "kvmas_region_add of a loop", "kvmas_view_next",
};

/* How the check ends in a process of its own: 0, a signal, or -1 for anything else. */
static int end_of_check(void)
{
	const struct rlimit no_core = {0};
	pid_t child = fork();
	int status;

	if (child == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		check_bytes((const uint8_t *)machine, sizeof(machine) - 1);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	if (WIFSIGNALED(status))
		return WTERMSIG(status);
	return WEXITSTATUS(status) ? -1 : 0;
}

int main(void)
{
	int failed = 0;

	if (end_of_check() != 0) {
		printf("FAILED: nothing planted, and the check does not pass\n");
		failed = 1;
	}
	for (unsigned i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
		planted = plants[i];
		if (end_of_check() == SIGABRT)
			continue;
		printf("FAILED: a wrong %s is not seen\n", planted);
		failed = 1;
	}
	return failed;
}
