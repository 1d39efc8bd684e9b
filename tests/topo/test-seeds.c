/* SPDX-License-Identifier: MIT */
/*
 * Usage: test-seeds FILE-OR-FOLDER...
 *
 * The fuzzer's check over files that are known: each file alone, and the files of each folder one
 * after the other, in alphabetical order, as one series. Ends with 0 if all hold (else in abort)
 * and enough was compared to mean something.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

struct bytes {
	uint8_t *bytes;
	size_t size;
};

static int append_file(struct bytes *to, const char *path)
{
	FILE *stream = fopen(path, "re");
	uint8_t *bytes;
	size_t got;

	if (!stream)
		return -errno;
	do {
		bytes = realloc(to->bytes, to->size + BUFSIZ);
		if (!bytes) {
			fclose(stream);
			return -ENOMEM;
		}
		to->bytes = bytes;
		got = fread(to->bytes + to->size, 1, BUFSIZ, stream);
		to->size += got;
	} while (got);
	fclose(stream);
	return 0;
}

static void check(const struct bytes *bytes, const char *name, struct check_result *sum)
{
	struct check_result result = check_bytes(bytes->bytes, bytes->size);

	printf("%s: %u steps, %u ranges, %u views painted\n", name, result.steps, result.ranges,
	       result.painted);
	sum->steps += result.steps;
	sum->ranges += result.ranges;
	sum->painted += result.painted;
}

static int check_path(const char *path, struct check_result *sum);

/* What the tool should print is no input. */
static bool is_output(const char *name)
{
	const char *ending = strrchr(name, '.');

	return ending && !strcmp(ending, ".flat");
}

static int check_entry(const char *folder, const char *name, struct bytes *all,
		       struct check_result *sum)
{
	char path[4096];
	int err;

	if (name[0] == '.' || is_output(name))
		return 0;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	err = check_path(path, sum);
	/* What is no file, but a folder in turn, is a series of its own. */
	if (!err)
		append_file(all, path);
	return err;
}

static int check_folder(const char *path, struct check_result *sum)
{
	struct dirent **entries;
	struct bytes all = {0};
	int n = scandir(path, &entries, NULL, alphasort);
	int err = n < 0 ? -errno : 0;

	for (int i = 0; i < n; i++) {
		if (!err)
			err = check_entry(path, entries[i]->d_name, &all, sum);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	if (!err)
		check(&all, path, sum);
	free(all.bytes);
	return err;
}

static int check_path(const char *path, struct check_result *sum)
{
	struct bytes bytes = {0};
	DIR *folder = opendir(path);
	int err;

	if (folder) {
		closedir(folder);
		return check_folder(path, sum);
	}
	err = append_file(&bytes, path);
	if (!err)
		check(&bytes, path, sum);
	free(bytes.bytes);
	return err;
}

int main(int argc, char **argv)
{
	struct check_result sum = {0};
	int err;

	for (int i = 1; i < argc; i++) {
		err = check_path(argv[i], &sum);
		if (err) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-err));
			return 1;
		}
	}
	printf("all: %u steps, %u ranges, %u views painted\n", sum.steps, sum.ranges, sum.painted);
	return sum.steps > 100 && sum.ranges > 500 && sum.painted > 100 ? 0 : 1;
}
