/* SPDX-License-Identifier: MIT */
/* Devices that keep what they are called with: see recorder.h. */
#include "recorder.h"

#include <sys/eventfd.h>
#include <unistd.h>

static void keep(struct recorder *recorder, const struct kvmas_access *access, uint64_t value,
		 bool read)
{
	assert_true(recorder->ncalls < MAX_CALLS);
	recorder->calls[recorder->ncalls++] = (struct call){
		.offset = access->offset,
		.value = value,
		.size = access->size,
		.read = read,
		.smm = access->smm,
		.space = access->space,
		.requester = access->requester,
	};
	if (recorder->then)
		recorder->then(recorder);
}

static int write_recorder(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	keep(opaque, access, value, false);
	return 0;
}

static int read_recorder(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	*value = 0;
	keep(opaque, access, 0, true);
	return 0;
}

struct recorder *recorder_new(struct guest *g, uint64_t size, struct kvmas_ops ops)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));

	assert_non_null(recorder);
	recorder->g = g;
	ops.struct_size = sizeof(ops);
	ops.read = read_recorder;
	ops.write = write_recorder;
	must(kvmas_region_new(g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "recorder",
					   .size = size, .ops = &ops, .opaque = recorder),
			      &recorder->region));
	return recorder;
}

void recorder_free(struct recorder *recorder)
{
	kvmas_region_unref(recorder->region);
	free(recorder);
}

const struct call *recorder_next(struct recorder *recorder)
{
	if (recorder->seen == recorder->ncalls)
		return NULL;
	return &recorder->calls[recorder->seen++];
}

void assert_written(struct recorder *recorder, uint64_t offset, unsigned size, uint64_t value)
{
	const struct call *call = recorder_next(recorder);

	assert_non_null(call);
	assert_false(call->read);
	assert_int_equal(call->offset, offset);
	assert_int_equal(call->size, size);
	assert_int_equal(call->value, value);
}

void assert_quiet(struct recorder *recorder)
{
	assert_null(recorder_next(recorder));
}

int event_new(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

uint64_t event_take(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		return count;
	assert_int_equal(errno, EAGAIN);
	return 0;
}

void put_event(struct kvmas_region *region, uint64_t offset, unsigned size, int fd)
{
	must(kvmas_region_add_ioeventfd(
		region, KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size, .fd = fd)));
}

void put_match(struct kvmas_region *region, uint64_t offset, unsigned size, uint64_t value, int fd)
{
	must(kvmas_region_add_ioeventfd(region,
					KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size,
						     .flags = KVMAS_CHANNEL_DATAMATCH,
						     .datamatch = value, .fd = fd)));
}

void take_event(struct kvmas_region *region, uint64_t offset, unsigned size)
{
	must(kvmas_region_del_ioeventfd(region,
					KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size)));
}

void put_zone(struct kvmas_region *region, uint64_t offset, uint64_t size)
{
	must(kvmas_region_add_coalesced(region, offset, size, 0));
}

void drain(struct guest *g)
{
	must(kvmas_kvm_drain(g->kvm, g->f->reader));
}
