/* SPDX-License-Identifier: MIT */
#include "channel-fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvm/vm.h"

/* ---- devices ---- */

struct device *device_of(struct kvmas_region *region)
{
	return kvmas_region_get_opaque(region);
}

static void call(struct device *device, const struct kvmas_access *access)
{
	device->ncalls++;
	device->last = *access;
	if (device->inside)
		device->inside(device, access);
}

static int read_device(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct device *device = opaque;

	text_add(&device->rig->words, "%s?%" PRIx64 "/%u ", device->name, access->offset,
		 access->size);
	*value = UINT64_C(0x8877665544332211);
	call(device, access);
	return 0;
}

static int write_device(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct device *device = opaque;

	text_add(&device->rig->words, "%s+%" PRIx64 "/%u=%" PRIx64 " ", device->name,
		 access->offset, access->size, value);
	call(device, access);
	return 0;
}

struct kvmas_region *make_device_with(struct rig *r, const char *name, uint64_t size,
				      struct kvmas_ops ops)
{
	struct device *device = &r->devices[r->ndevices++];

	assert_true(r->ndevices <= NDEVICES);
	ops.struct_size = sizeof(ops);
	ops.read = read_device;
	ops.write = write_device;
	device->rig = r;
	device->name = name;
	must(kvmas_region_new(r->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = name,
					   .size = size, .ops = &ops, .opaque = device),
			      &device->region));
	return device->region;
}

struct kvmas_region *make_device(struct rig *r, const char *name, uint64_t size)
{
	return make_device_with(r, name, size, (struct kvmas_ops){0});
}

struct kvmas_region *put_device(struct rig *r, const char *name, uint64_t gpa, uint64_t size)
{
	struct kvmas_region *device = make_device(r, name, size);

	add(r->m->root[NORMAL], device, gpa, 0);
	return device;
}

struct kvmas_region *put_ports(struct rig *r, const char *name, uint64_t port, uint64_t size)
{
	struct kvmas_region *device = make_device(r, name, size);

	add(r->port_root, device, port, 0);
	return device;
}

/* ---- channels ---- */

int add_event(struct rig *r, struct kvmas_region *region, uint64_t offset, unsigned size,
	      unsigned event)
{
	return kvmas_region_add_ioeventfd(
		region,
		KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size, .fd = r->events[event]));
}

int add_match(struct rig *r, struct kvmas_region *region, uint64_t offset, unsigned size,
	      uint64_t value, unsigned event)
{
	return kvmas_region_add_ioeventfd(
		region, KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size, .datamatch = value,
				     .flags = KVMAS_CHANNEL_DATAMATCH, .fd = r->events[event]));
}

int del_event(struct kvmas_region *region, uint64_t offset, unsigned size)
{
	return kvmas_region_del_ioeventfd(
		region, KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size, .fd = -1));
}

int del_match(struct kvmas_region *region, uint64_t offset, unsigned size, uint64_t value)
{
	return kvmas_region_del_ioeventfd(
		region, KVMAS_CONFIG(ioeventfd, .offset = offset, .size = size, .datamatch = value,
				     .flags = KVMAS_CHANNEL_DATAMATCH, .fd = -1));
}

void add_both(struct rig *r, struct kvmas_region *device, unsigned event)
{
	must(add_event(r, device, 0, 4, event));
	must(kvmas_region_add_coalesced(device, 0x10, 0x10, 0));
}

struct kvmas_region *put_both(struct rig *r, const char *name, uint64_t gpa, unsigned event)
{
	struct kvmas_region *device = put_device(r, name, gpa, pages(1));

	add_both(r, device, event);
	return device;
}

/* ---- guests ---- */

bool store(struct rig *r, unsigned cpu, unsigned as_id, uint64_t address, uint64_t value,
	   unsigned size)
{
	struct guest_vcpu *guest = &r->cpus[cpu];
	int result = as_id == PORTS ? fake_kvm_vcpu_out(guest->cpu, (uint16_t)address, &value, size)
				    : fake_kvm_vcpu_store(guest->cpu, as_id, address, &value, size);

	assert_true(result == 0 || result == 1);
	r->exits += (unsigned)result;
	if (result)
		assert_int_equal(kvmas_vcpu_handle_exit(guest->vcpu), 1);
	return result;
}

uint64_t load(struct rig *r, unsigned cpu, unsigned as_id, uint64_t address, unsigned size)
{
	struct guest_vcpu *guest = &r->cpus[cpu];
	uint64_t value = 0;
	int result;

	if (as_id == PORTS) {
		assert_int_equal(fake_kvm_vcpu_in(guest->cpu, (uint16_t)address, size), 1);
		assert_int_equal(kvmas_vcpu_handle_exit(guest->vcpu), 1);
		memcpy(&value,
		       (char *)guest->cpu->run + FAKE_KVM_PIO_PAGE * guest->cpu->kvm->page_size,
		       size);
		return value;
	}
	result = fake_kvm_vcpu_load(guest->cpu, as_id, address, &value, size);
	assert_true(result == 0 || result == 1);
	if (result) {
		assert_int_equal(kvmas_vcpu_handle_exit(guest->vcpu), 1);
		memcpy(&value, guest->cpu->run->mmio.data, size);
	}
	return value;
}

void store_both(struct rig *r, unsigned as_id, uint64_t gpa)
{
	store(r, 0, as_id, gpa, 1, 4);
	store(r, 1, as_id, gpa + 0x10, 2, 4);
}

uint64_t take_event(struct rig *r, unsigned event)
{
	uint64_t count = 0;

	if (read(r->events[event], &count, sizeof(count)) < 0)
		assert_int_equal(errno, EAGAIN);
	return count;
}

/* ---- looking ---- */

void glance(struct rig *r, const char *expected)
{
	for (unsigned i = 0; i < NEVENTFDS; i++) {
		uint64_t count = take_event(r, i);

		if (count)
			text_add(&r->words, "#%ux%" PRIu64 " ", i, count);
	}
	assert_string_equal(r->words ? r->words : "", expected);
	free(r->words);
	r->words = NULL;
}

void look(struct rig *r, const char *expected)
{
	const char *wrong = channels_wrong(r->m->kvm, r->m->vm);

	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	glance(r, expected);
	if (wrong)
		fail_msg("%s", wrong);
	assert_right(r->m);
}

void assert_counted(struct rig *r, unsigned in_kvm, unsigned by_hand)
{
	struct kvmas_kvm_stats stats = stats_of(r->m);

	assert_int_equal(stats.channels_in_kvm, in_kvm);
	assert_int_equal(stats.channels_by_hand, by_hand);
}

void assert_placed(struct rig *r, unsigned in_kvm, unsigned by_hand)
{
	struct kvmas_kvm_stats stats = stats_of(r->m);

	if (r->is_complete)
		assert_counted(r, in_kvm, by_hand);
	assert_int_equal(stats.channels_in_kvm + stats.channels_by_hand, in_kvm + by_hand);
}

void assert_exits(struct rig *r, unsigned exits)
{
	if (r->is_complete)
		assert_int_equal(r->exits, exits);
	r->exits = 0;
}

char *rig_text(struct rig *r)
{
	struct kvmas_kvm_stats stats = stats_of(r->m);
	char *text = state_text(r->m->f);

	text_add(&text, "%" PRIu64 " in KVM, %" PRIu64 " by hand\n", stats.channels_in_kvm,
		 stats.channels_by_hand);
	return text;
}

/* ---- life ---- */

static void add_cpu(struct rig *r, unsigned index)
{
	struct guest_vcpu *guest = &r->cpus[index];

	guest->cpu = fake_kvm_add_vcpu(r->m->vm);
	must(kvmas_vcpu_add(r->m->kvm,
			    KVMAS_CONFIG(vcpu, .fd = guest->cpu->fd, .run = guest->cpu->run,
					 .run_size = guest->cpu->run_size, .requester = guest),
			    &guest->vcpu));
}

struct rig *rig_new(const struct fake_kvm_config *config)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->m = machine_new(config);
	r->is_complete = !config;
	r->mirror = make_alias(r->m->f, "mirror", r->m->root[NORMAL], 0, KVMAS_SIZE_MAX);
	add(r->m->root[SMM], r->mirror, 0, -1);
	r->port_root = make_container(r->m->f, "ports", 0x10000);
	r->ports = make_space(r->m->f, "ports", r->port_root);
	must(kvmas_kvm_set_pio_space(r->m->kvm, r->ports));
	for (unsigned i = 0; i < NEVENTFDS; i++) {
		r->events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(r->events[i] >= 0);
	}
	for (unsigned i = 0; i < NCPUS; i++)
		add_cpu(r, i);
	return r;
}

void rig_free(struct rig *r)
{
	for (unsigned i = 0; i < NCPUS; i++)
		kvmas_vcpu_del(r->cpus[i].vcpu);
	for (unsigned i = 0; i < r->ndevices; i++)
		kvmas_region_unref(r->devices[i].region);
	machine_free(r->m);
	for (unsigned i = 0; i < NEVENTFDS; i++)
		close(r->events[i]);
	free(r->words);
	free(r);
}

int rig_setup(void **state)
{
	*state = rig_new(NULL);
	return 0;
}

int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* The first of them has all. */
void play(void (*scene)(struct rig *r))
{
	static const struct fake_kvm_config kvms[] = {
		{0},
		{.no_ioeventfd = true, .no_coalesced_mmio = true},
		{.no_ioeventfd = true},
		{.no_coalesced_mmio = true},
		{.no_coalesced_pio = true},
		{.no_any_length = true},
		{.bus_devices = 1},
		{.bus_devices = 2},
		{.version = FAKE_KVM_6_12},
	};

	for (size_t i = 0; i < LENGTH(kvms); i++) {
		struct rig *r = rig_new(&kvms[i]);

		r->is_complete = i == 0 || kvms[i].version;
		scene(r);
		look(r, "");
		rig_free(r);
	}
}
