/* SPDX-License-Identifier: MIT */
/*
 * Port 0x80: POST codes, by which firmware tells how far it has come. Here they are counted, and
 * nobody needs the code itself: so an ioeventfd does it, and a write to the port does not end
 * KVM_RUN. Whoever waits for such a write, the thread behind a doorbell say, would poll(2) the fd.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"

#define PORT 0x80

/* With --no-channels. */
static int write_code(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct machine *machine = opaque;

	(void)access;
	(void)value;
	machine->post.codes++;
	return 0;
}

static const struct kvmas_ops ops = {
	.struct_size = sizeof(ops),
	.write = write_code,
};

void post_map(struct machine *machine)
{
	struct kvmas_region *region = map_ports(machine, "post", PORT, 1, &ops);
	struct post *post = &machine->post;

	if (machine->map_error || machine->options->no_channels)
		return;
	post->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (post->fd < 0)
		machine->map_error = -errno;
	else
		machine->map_error = kvmas_region_add_ioeventfd(
			region, KVMAS_CONFIG(ioeventfd, .size = 1, .fd = post->fd));
}

uint64_t post_count(struct machine *machine)
{
	struct post *post = &machine->post;
	uint64_t more;

	if (post->fd >= 0 && read(post->fd, &more, sizeof(more)) == sizeof(more))
		post->codes += more;
	return post->codes;
}
