/* SPDX-License-Identifier: MIT */
/*
 * The test double of KVM: what hangs on a VM's buses besides its slots, ioeventfds and coalesced
 * zones: the ioctls, and which of them takes a write (virt/kvm/eventfd.c, coalesced_mmio.c and the
 * kvm_io_bus functions of kvm_main.c; Linux 6.1 to 6.18). Buses belong to the VM and know no
 * address spaces. What a vCPU does with them is in fake-kvm-store.c.
 *
 *     buses[bus]   [ zone 0x1000+32 | event 0x1008/4 =1 | event 0x1008/4 =2 | zone 0x2000+8 ]
 *                  in the kernel's order: by address, as far as what overlaps can be ordered
 *     event   ---> a file that was found behind a descriptor, whatever becomes of that
 *     zone    ---> the one ring of the VM
 *
 * KVM_IOEVENTFD, in the kernel's order:
 *    1  EINVAL  a length that is none of 0, 1, 2, 4 and 8
 *    2  EINVAL  an address that wraps
 *    3  EINVAL  unknown flags; one is known and does nothing
 *    4  EINVAL  a value to match, of no length
 *    5  EBADF, EINVAL  the descriptor: closed, or not of an eventfd
 *    6  EEXIST  one that would take the same write
 *    7  ENOSPC  as many other devices are on the bus as it has room for; eventfds take none
 * What is taken away is not checked so, but for 5; ENOENT if there is no such thing. Without length
 * it also has a place on the fast MMIO bus, where a processor may look first.
 *
 * A zone is not checked at all, and may be there twice. What is taken away is every zone that holds
 * the whole of the range; none is no error.
 *
 * The comparison by which a bus is sorted and searched is that of the kernel: where devices overlap
 * it orders nothing, and a search can miss what is there. So it is done as the kernel does it,
 * step by step.
 *
 * Invariants (fake_kvm_validate):
 *   I9   A bus counts its eventfds; without them it has no more devices than there is room for.
 *   I10  No two eventfds of a bus take the same write; those without length are on both MMIO buses.
 *   I11  Every vCPU shows the one ring of the VM.
 *
 * Left out: what a bus loses when there is no memory for its smaller copy (all of it).
 *
 * Read fake_kvm_ioeventfd first, then fake_kvm_bus_takes.
 */
#include "fake-kvm-inner.h"
#include "fake-kvm-uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MATCHES(flags) (!!((flags)&KVM_IOEVENTFD_FLAG_DATAMATCH))

/* ---- eventfds ---- */

/* The number of the eventfd behind a descriptor (eventfd_ctx_fdget). */
static int event_id(int fd, uint64_t *ret)
{
	char path[64], line[128];
	unsigned long long id;
	int r = -EINVAL;
	FILE *info;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	if (!info)
		abort();
	while (r != 0 && fgets(line, sizeof(line), info))
		if (sscanf(line, "eventfd-id: %llu", &id) == 1) {
			*ret = id;
			r = 0;
		}
	fclose(info);
	return r;
}

/* The file of an eventfd lives as long as the descriptor that is kept of it. */
static struct fake_kvm_event *new_event(uint64_t id, int fd)
{
	struct fake_kvm_event *event = fake_kvm_allocate(1, sizeof(*event));

	event->id = id;
	event->refs = 1;
	event->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (event->fd < 0)
		abort();
	return event;
}

static struct fake_kvm_event *find_event(const struct fake_kvm *kvm, uint64_t id)
{
	for (unsigned i = 0; i < FAKE_KVM_NBUSES; i++)
		for (unsigned j = 0; j < kvm->buses[i].ndevices; j++) {
			struct fake_kvm_event *event = kvm->buses[i].devices[j].event;

			if (event && event->id == id)
				return event;
		}
	return NULL;
}

static struct fake_kvm_event *get_event(struct fake_kvm *kvm, uint64_t id, int fd)
{
	struct fake_kvm_event *event = find_event(kvm, id);

	if (!event)
		return new_event(id, fd);
	event->refs++;
	return event;
}

static void put_event(struct fake_kvm_event *event)
{
	if (!event || --event->refs > 0)
		return;
	close(event->fd);
	free(event);
}

/* eventfd_signal: one that is as high as can be stays so, and nobody waits. */
static void signal_event(const struct fake_kvm_event *event)
{
	const uint64_t one = 1;
	struct pollfd room = {.fd = event->fd, .events = POLLOUT};

	if (poll(&room, 1, 0) == 1 && write(event->fd, &one, sizeof(one)) < 0)
		abort();
}

/* ---- what a bus has ---- */

/* kvm_io_bus_cmp. Lengths are signed, and sums wrap. */
static int compare(const struct fake_kvm_device *a, const struct fake_kvm_device *b)
{
	uint64_t left = a->addr, right = b->addr;

	if (left < right)
		return -1;
	if (b->len) {
		left += (uint64_t)(int64_t)a->len;
		right += (uint64_t)(int64_t)b->len;
	}
	return left > right;
}

/* kvm_io_bus_register_dev: before the first that comes later. */
static int put_on(struct fake_kvm *kvm, enum fake_kvm_bus_id id,
		  const struct fake_kvm_device *device)
{
	struct fake_kvm_bus *bus = &kvm->buses[id];
	unsigned i = 0;

	if (bus->ndevices - bus->nevents >= kvm->config.bus_devices)
		return -ENOSPC;
	if (bus->ndevices == bus->size) {
		bus->size = bus->size ? 2 * bus->size : 16;
		bus->devices = realloc(bus->devices, bus->size * sizeof(*bus->devices));
		if (!bus->devices)
			abort();
	}
	while (i < bus->ndevices && compare(&bus->devices[i], device) <= 0)
		i++;
	memmove(&bus->devices[i + 1], &bus->devices[i],
		(bus->ndevices - i) * sizeof(*bus->devices));
	bus->devices[i] = *device;
	bus->ndevices++;
	bus->nevents += device->event != NULL;
	return 0;
}

static void take_off(struct fake_kvm_bus *bus, unsigned i)
{
	bus->nevents -= bus->devices[i].event != NULL;
	put_event(bus->devices[i].event);
	bus->ndevices--;
	memmove(&bus->devices[i], &bus->devices[i + 1],
		(bus->ndevices - i) * sizeof(*bus->devices));
}

void fake_kvm_copy_buses(const struct fake_kvm *from, struct fake_kvm *to)
{
	for (unsigned i = 0; i < FAKE_KVM_NBUSES; i++) {
		const struct fake_kvm_bus *bus = &from->buses[i];
		struct fake_kvm_bus *copy = &to->buses[i];

		*copy = *bus;
		copy->devices = fake_kvm_allocate(bus->size, sizeof(*bus->devices));
		copy->ndevices = 0; /* find_event looks at what is there */
		for (unsigned j = 0; j < bus->ndevices; j++) {
			struct fake_kvm_device device = bus->devices[j];

			if (device.event)
				device.event = get_event(to, device.event->id, device.event->fd);
			copy->devices[copy->ndevices++] = device;
		}
	}
	if (from->coalesced)
		memcpy(fake_kvm_coalesced(to), from->coalesced, from->page_size);
}

void fake_kvm_free_buses(struct fake_kvm *kvm)
{
	for (unsigned i = 0; i < FAKE_KVM_NBUSES; i++) {
		while (kvm->buses[i].ndevices)
			take_off(&kvm->buses[i], kvm->buses[i].ndevices - 1);
		free(kvm->buses[i].devices);
	}
	if (!kvm->coalesced)
		return;
	munmap(kvm->coalesced, kvm->page_size);
	close(kvm->coalesced_fd);
}

/* ---- KVM_IOEVENTFD ---- */

/* ioeventfd_bus_from_flags. */
static enum fake_kvm_bus_id bus_of(uint32_t flags)
{
	if (flags & KVM_IOEVENTFD_FLAG_PIO)
		return FAKE_KVM_PIO_BUS;
	return flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY ? FAKE_KVM_CCW_BUS : FAKE_KVM_MMIO_BUS;
}

static bool is_fast_too(const struct kvm_ioeventfd *args)
{
	return args->len == 0 && bus_of(args->flags) == FAKE_KVM_MMIO_BUS;
}

static bool has_valid_length(const struct fake_kvm *kvm, uint32_t len)
{
	if (len == 0)
		return !kvm->config.no_any_length;
	return len <= 8 && !(len & (len - 1));
}

/* ioeventfd_check_collision. */
bool fake_kvm_collides(const struct fake_kvm_device *a, const struct fake_kvm_device *b)
{
	if (!a->event || !b->event || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (a->wildcard || b->wildcard || a->datamatch == b->datamatch);
}

/* kvm_assign_ioeventfd_idx: 5 to 7. */
static int assign_to(struct fake_kvm *kvm, enum fake_kvm_bus_id id,
		     const struct kvm_ioeventfd *args)
{
	const struct fake_kvm_bus *bus = &kvm->buses[id];
	struct fake_kvm_device device = {
		.addr = args->addr,
		.len = (int32_t)args->len,
		.wildcard = !MATCHES(args->flags),
		.datamatch = MATCHES(args->flags) ? args->datamatch : 0,
	};
	uint64_t event;
	int r = event_id(args->fd, &event);

	if (r < 0)
		return r;
	device.event = get_event(kvm, event, args->fd);
	for (unsigned i = 0; i < bus->ndevices && r == 0; i++)
		if (fake_kvm_collides(&bus->devices[i], &device))
			r = -EEXIST;
	if (r == 0)
		r = put_on(kvm, id, &device);
	if (r < 0)
		put_event(device.event);
	return r;
}

/* kvm_deassign_ioeventfd_idx. */
static int deassign_from(struct fake_kvm *kvm, enum fake_kvm_bus_id id,
			 const struct kvm_ioeventfd *args)
{
	struct fake_kvm_bus *bus = &kvm->buses[id];
	bool wildcard = !MATCHES(args->flags);
	uint64_t event;
	int r = event_id(args->fd, &event);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < bus->ndevices; i++) {
		const struct fake_kvm_device *device = &bus->devices[i];

		if (!device->event || device->event->id != event || device->addr != args->addr ||
		    (uint32_t)device->len != args->len || device->wildcard != wildcard ||
		    (!wildcard && device->datamatch != args->datamatch))
			continue;
		take_off(bus, i);
		return 0;
	}
	return -ENOENT;
}

static int deassign(struct fake_kvm *kvm, const struct kvm_ioeventfd *args)
{
	int r = deassign_from(kvm, bus_of(args->flags), args);

	if (is_fast_too(args))
		deassign_from(kvm, FAKE_KVM_FAST_BUS, args);
	return r;
}

static int assign(struct fake_kvm *kvm, const struct kvm_ioeventfd *args)
{
	int r;

	if (!has_valid_length(kvm, args->len))
		return -EINVAL;
	if (args->addr + args->len < args->addr)
		return -EINVAL;
	if (args->flags & ~(uint32_t)KVM_IOEVENTFD_VALID_FLAG_MASK)
		return -EINVAL;
	if (args->len == 0 && MATCHES(args->flags))
		return -EINVAL;
	r = assign_to(kvm, bus_of(args->flags), args);
	if (r < 0 || !is_fast_too(args))
		return r;
	r = assign_to(kvm, FAKE_KVM_FAST_BUS, args);
	if (r < 0)
		deassign_from(kvm, FAKE_KVM_MMIO_BUS, args);
	return r;
}

int fake_kvm_ioeventfd(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	if (kvm->config.no_ioeventfd)
		return -ENOSYS;
	return call->op == FAKE_KVM_DEASSIGN ? deassign(kvm, arg) : assign(kvm, arg);
}

/* ---- coalesced zones ---- */

bool fake_kvm_has_zones(const struct fake_kvm_config *config)
{
	return !config->no_coalesced_mmio;
}

/* coalesced_mmio_in_range. */
static bool holds(const struct fake_kvm_device *zone, uint64_t addr, int32_t len)
{
	uint64_t end = addr + (uint64_t)(int64_t)len;

	return len >= 0 && end >= addr && addr >= zone->addr &&
	       end <= zone->addr + (uint32_t)zone->len;
}

/* A kernel that does not know of ports takes what says so for padding. */
static int bus_of_zone(const struct fake_kvm *kvm, const struct kvm_coalesced_mmio_zone *zone)
{
	if (kvm->config.no_coalesced_pio)
		return FAKE_KVM_MMIO_BUS;
	if (zone->pio > 1)
		return -EINVAL;
	return zone->pio ? FAKE_KVM_PIO_BUS : FAKE_KVM_MMIO_BUS;
}

int fake_kvm_register_zone(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_coalesced_mmio_zone *zone = arg;
	const struct fake_kvm_device device = {.addr = zone->addr, .len = (int32_t)zone->size};
	int bus = bus_of_zone(kvm, zone);

	(void)call;
	return bus < 0 ? bus : put_on(kvm, (enum fake_kvm_bus_id)bus, &device);
}

int fake_kvm_unregister_zone(struct fake_kvm *kvm, void *arg, struct fake_kvm_call *call)
{
	const struct kvm_coalesced_mmio_zone *zone = arg;
	int id = bus_of_zone(kvm, zone);
	struct fake_kvm_bus *bus;

	(void)call;
	if (id < 0)
		return id;
	bus = &kvm->buses[id];
	for (unsigned i = bus->ndevices; i-- > 0;)
		if (!bus->devices[i].event &&
		    holds(&bus->devices[i], zone->addr, (int32_t)zone->size))
			take_off(bus, i);
	return 0;
}

/* ---- the ring ---- */

/* KVM_COALESCED_MMIO_MAX, which asks for a constant. */
uint32_t fake_kvm_coalesced_max(const struct fake_kvm *kvm)
{
	return (uint32_t)((kvm->page_size - sizeof(struct kvm_coalesced_mmio_ring)) /
			  sizeof(struct kvm_coalesced_mmio));
}

struct kvm_coalesced_mmio_ring *fake_kvm_coalesced(struct fake_kvm *kvm)
{
	if (kvm->coalesced)
		return kvm->coalesced;
	kvm->coalesced_fd = memfd_create("coalesced ring", MFD_CLOEXEC);
	if (kvm->coalesced_fd < 0 || ftruncate(kvm->coalesced_fd, (off_t)kvm->page_size) < 0)
		abort();
	kvm->coalesced = mmap(NULL, kvm->page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			      kvm->coalesced_fd, 0);
	if (kvm->coalesced == MAP_FAILED)
		abort();
	return kvm->coalesced;
}

void *fake_kvm_map_run(struct fake_kvm *kvm)
{
	const int protection = PROT_READ | PROT_WRITE;
	char *run = mmap(NULL, FAKE_KVM_RUN_PAGES * kvm->page_size, protection,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *ring = run + FAKE_KVM_RING_PAGE * kvm->page_size;

	fake_kvm_coalesced(kvm);
	if (run == MAP_FAILED || mmap(ring, kvm->page_size, protection, MAP_SHARED | MAP_FIXED,
				      kvm->coalesced_fd, 0) == MAP_FAILED)
		abort();
	return run;
}

/*
 * One entry always stays free. Up to 6.11 the distance is taken of numbers that wrap at 2^32, which
 * is no multiple of the ring: it then looks full once 85 entries are in it, unless it goes round.
 */
static bool has_room(const struct fake_kvm *kvm, uint32_t first, uint32_t last)
{
	const uint32_t max = fake_kvm_coalesced_max(kvm);

	if (last >= max)
		return false;
	return kvm->config.version < FAKE_KVM_6_12 ? (first - last - 1) % max != 0
						   : (last + 1) % max != first;
}

/* coalesced_mmio_write. Both indices are what user space and guests have made of them. */
static bool coalesce(struct fake_kvm *kvm, const struct fake_kvm_device *zone,
		     const struct fake_kvm_write *write, bool pio)
{
	struct kvm_coalesced_mmio_ring *ring = fake_kvm_coalesced(kvm);
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	struct kvm_coalesced_mmio *entry;

	if (!holds(zone, write->addr, (int32_t)write->len) ||
	    !has_room(kvm, __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE), last))
		return false;
	entry = &ring->coalesced_mmio[last];
	entry->phys_addr = write->addr;
	entry->len = write->len;
	memcpy(entry->data, write->bytes, write->len);
	entry->pio = pio;
	__atomic_store_n(&ring->last, (last + 1) % fake_kvm_coalesced_max(kvm), __ATOMIC_RELEASE);
	return true;
}

/* ---- who takes a write ---- */

/* ioeventfd_in_range. */
static bool matches(const struct fake_kvm_device *device, const struct fake_kvm_write *write)
{
	uint64_t value = 0;

	if (device->addr != write->addr)
		return false;
	if (device->len == 0)
		return true;
	if ((uint32_t)device->len != write->len)
		return false;
	memcpy(&value, write->bytes, write->len);
	return device->wildcard || value == device->datamatch;
}

/* bsearch of lib/bsearch.c: any that compares equal, or none. */
static int search(const struct fake_kvm_bus *bus, const struct fake_kvm_device *key)
{
	unsigned base = 0, n = bus->ndevices;

	while (n > 0) {
		unsigned pivot = base + n / 2;
		int order = compare(key, &bus->devices[pivot]);

		if (order == 0)
			return (int)pivot;
		if (order > 0) {
			base = pivot + 1;
			n--;
		}
		n /= 2;
	}
	return -1;
}

static bool takes(struct fake_kvm *kvm, const struct fake_kvm_device *device,
		  const struct fake_kvm_write *write, enum fake_kvm_bus_id id)
{
	if (!device->event)
		return coalesce(kvm, device, write, id == FAKE_KVM_PIO_BUS);
	if (!matches(device, write))
		return false;
	signal_event(device->event);
	return true;
}

/* __kvm_io_bus_write: from the first of the neighbours that compare equal on. */
bool fake_kvm_bus_takes(struct fake_kvm *kvm, enum fake_kvm_bus_id id,
			const struct fake_kvm_write *write)
{
	const struct fake_kvm_bus *bus = &kvm->buses[id];
	const struct fake_kvm_device key = {.addr = write->addr, .len = (int32_t)write->len};
	int i = search(bus, &key);

	if (i < 0)
		return false;
	while (i > 0 && compare(&key, &bus->devices[i - 1]) == 0)
		i--;
	for (; i < (int)bus->ndevices && compare(&key, &bus->devices[i]) == 0; i++)
		if (takes(kvm, &bus->devices[i], write, id))
			return true;
	return false;
}
