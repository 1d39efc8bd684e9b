/* SPDX-License-Identifier: MIT */
/*
 * The firmware: found, checked, and copied into the ROM's block of memory.
 * Not here: where the ROM shows (machine.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

#define SEABIOS "/usr/share/seabios/bios-256k.bin"
#define MAX_SIZE (16 << 20)

/* The build puts own.bin beside this program's folder: it is found wherever the build lies. */
static int find_own(char *path, size_t size)
{
	static const char beside[] = "/../firmware/own.bin";
	ssize_t length = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	if (length < 0)
		return -errno;
	path[length] = '\0';
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) + sizeof(beside) > size)
		return -ENAMETOOLONG;
	memcpy(slash, beside, sizeof(beside));
	return 0;
}

static int open_firmware(const char *name, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	complain("cannot open the firmware %s: %s; %s", path, strerror(errno),
		 !strcmp(name, "seabios") ? "install the package seabios, or name a file"
		 : !strcmp(name, "own")   ? "build it: ninja -C BUILD-FOLDER"
					  : "give --firmware own, seabios or a readable file");
	return -errno;
}

static int check_size(const char *path, const struct stat *st)
{
	const char *wrong = NULL;

	if (!S_ISREG(st->st_mode))
		wrong = "is not a file";
	else if (!st->st_size)
		wrong = "is empty";
	else if (st->st_size > MAX_SIZE)
		wrong = "is larger than 16 MiB";
	else if (st->st_size & 0xfff)
		wrong = "is not a multiple of 4 KiB";
	if (!wrong)
		return 0;
	complain("the firmware %s %s; give a ROM image of 4 KiB to 16 MiB, in steps of 4 KiB", path,
		 wrong);
	return -EINVAL;
}

static int read_all(int fd, uint8_t *bytes, size_t size)
{
	ssize_t got;

	for (size_t done = 0; done < size; done += (size_t)got) {
		got = read(fd, bytes + done, size - done);
		if (got < 0)
			return -errno;
		if (!got)
			return -EIO;
	}
	return 0;
}

static int load(struct machine *machine, const char *path, int fd)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st))
		return -errno;
	if (check_size(path, &st))
		return -EINVAL;
	rc = kvmas_ram_new(machine->kvmas,
			   KVMAS_CONFIG(ram, .name = "rom", .size = (uint64_t)st.st_size),
			   &machine->rom);
	if (!rc)
		rc = read_all(fd, kvmas_ram_get_hva(machine->rom), (size_t)st.st_size);
	if (rc)
		complain("cannot read the firmware %s: %s; try again", path, strerror(-rc));
	return rc;
}

int firmware_load(struct machine *machine)
{
	const char *name = machine->options->firmware;
	char own[PATH_MAX];
	const char *path = name;
	int fd, rc;

	if (!strcmp(name, "seabios"))
		path = SEABIOS;
	if (!strcmp(name, "own")) {
		rc = find_own(own, sizeof(own));
		if (rc) {
			complain("/proc/self/exe: %s; mount /proc, or name own.bin's path",
				 strerror(-rc));
			return rc;
		}
		path = own;
	}
	fd = open_firmware(name, path);
	if (fd < 0)
		return fd;
	rc = load(machine, path, fd);
	close(fd);
	return rc;
}
