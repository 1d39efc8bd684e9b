/* SPDX-License-Identifier: MIT */
/*
 * Two VMs with the same slots, logged alike: one is the library's, the other's log is kept without
 * it (bare.c). What the library asks of KVM about slots and ways of logging, its ioctl hook has the
 * other VM do as well, host addresses included. So KVM's work is the same, and both guests
 * (writer.c) write to the same memory, in turns.
 *
 *     space 0   RAM from 0 on, in pieces that are never merged; the guest's code at 3 GiB
 *     space 1   if there is one: all of space 0, and SMRAM at 0xa0000
 *
 * Clients want the pages of RAM, not those of the code or of SMRAM.
 */
#include "twin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "stats.h"

#define SMRAM_GPA 0xa0000
#define SMRAM_SIZE 0x20000
#define RING_SIZE (1u << 20)

/* ---- what the library asks of KVM ---- */

static uint64_t first_page_of(const struct twin *twin, uint64_t hva)
{
	uint64_t start = (uintptr_t)kvmas_ram_get_hva(twin->ram);

	return hva >= start && hva - start < kvmas_ram_get_size(twin->ram)
		       ? (hva - start) / twin->page
		       : 0;
}

static void mirror(struct twin *twin, unsigned long request, void *arg)
{
	if (request == KVM_SET_USER_MEMORY_REGION) {
		const struct kvm_userspace_memory_region *region = arg;

		bare_set_slot(&twin->bare, region, first_page_of(twin, region->userspace_addr));
	} else if (request == KVM_ENABLE_CAP) {
		must(ioctl(twin->other.vm_fd, KVM_ENABLE_CAP, arg) ? -errno : 0);
		twin->caps++;
	}
}

static bool is_about_dirty_pages(unsigned long request)
{
	return request == KVM_GET_DIRTY_LOG || request == KVM_CLEAR_DIRTY_LOG ||
	       request == KVM_RESET_DIRTY_RINGS;
}

static int on_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct twin *twin = data;
	uint64_t start = twin->timed ? clock_ns() : 0;
	int result = ioctl(fd, request, arg);

	if (twin->timed)
		twin->ioctl_ns += clock_ns() - start;
	if (result < 0)
		return -errno;
	if (is_about_dirty_pages(request))
		twin->ioctls++;
	else
		mirror(twin, request, arg);
	return result;
}

/* ---- the tree ---- */

static struct kvmas_ram *make_block(const struct twin *twin, const char *name, uint64_t size)
{
	struct kvmas_ram *ram;

	must(kvmas_ram_new(twin->kvmas, KVMAS_CONFIG(ram, .name = name, .size = size), &ram));
	return ram;
}

static struct kvmas_region *make_region(const struct twin *twin,
					const struct kvmas_region_config *config)
{
	struct kvmas_region *region;

	must(kvmas_region_new(twin->kvmas, config, &region));
	return region;
}

static struct kvmas_region *make_container(const struct twin *twin, const char *name)
{
	return make_region(twin, KVMAS_CONFIG(region, .kind = KVMAS_REGION_CONTAINER, .name = name,
					      .size = KVMAS_SIZE_MAX));
}

static struct kvmas_region *make_memory(const struct twin *twin, struct kvmas_ram *ram)
{
	return make_region(twin, KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM,
					      .name = kvmas_ram_get_name(ram),
					      .size = kvmas_ram_get_size(ram), .ram = ram));
}

/* Containers hold what is put into them; nobody else needs it. */
static void put(struct kvmas_region *parent, struct kvmas_region *child, uint64_t gpa, int priority)
{
	must(kvmas_region_add(parent, child, gpa, priority));
	kvmas_region_unref(child);
}

static void put_piece(struct twin *twin, unsigned i)
{
	uint64_t size = twin->config.npages / twin->config.npieces * twin->page;
	struct kvmas_region *piece =
		make_region(twin, KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "piece",
					       .size = size, .target = twin->ram_region,
					       .target_offset = i * size));

	must(kvmas_region_set_unmergeable(piece, true));
	put(twin->root, piece, i * size, 0);
}

static void make_first_space(struct twin *twin)
{
	twin->ram = make_block(twin, "ram", twin->config.npages * twin->page);
	twin->code = make_block(twin, "code", twin->page);
	memcpy(kvmas_ram_get_hva(twin->code), writer_code, writer_code_size);
	twin->ram_region = make_memory(twin, twin->ram);
	twin->root = make_container(twin, "system");
	for (unsigned i = 0; i < twin->config.npieces; i++)
		put_piece(twin, i);
	put(twin->root, make_memory(twin, twin->code), WRITER_CODE_GPA, 0);
	must(kvmas_space_new(twin->kvmas, "system", twin->root, &twin->space));
	must(kvmas_kvm_bind(twin->kvm, twin->space, 0));
}

static void make_second_space(struct twin *twin)
{
	twin->smram = make_block(twin, "smram", SMRAM_SIZE);
	twin->smm_root = make_container(twin, "smm");
	put(twin->smm_root,
	    make_region(twin, KVMAS_CONFIG(region, .kind = KVMAS_REGION_ALIAS, .name = "all",
					   .size = KVMAS_SIZE_MAX, .target = twin->root)),
	    0, 0);
	put(twin->smm_root, make_memory(twin, twin->smram), SMRAM_GPA, 1);
	must(kvmas_space_new(twin->kvmas, "smm", twin->smm_root, &twin->smm));
	must(kvmas_kvm_bind(twin->kvm, twin->smm, 1));
}

/* ---- life ---- */

static int tie(struct twin *twin)
{
	bool ring = twin->config.log == KVMAS_KVM_LOG_RING;
	int err = kvmas_kvm_new(twin->kvmas,
				KVMAS_CONFIG(kvm, .vm_fd = twin->tied.vm_fd, .ioctl = on_ioctl,
					     .ioctl_data = twin, .log = twin->config.log,
					     .ring_size = ring ? RING_SIZE : 0),
				&twin->kvm);

	if (err == -EOPNOTSUPP)
		return err;
	must(err);
	if (twin->caps != (twin->config.log != KVMAS_KVM_LOG_AUTO))
		return -EOPNOTSUPP;
	return twin->config.second && kvmas_kvm_get_as_count(twin->kvm) < 2 ? -EOPNOTSUPP : 0;
}

static void add_vcpus(struct twin *twin, int kvm_fd)
{
	size_t ring_size = twin->config.log == KVMAS_KVM_LOG_RING ? RING_SIZE : 0;

	writer_add_vcpu(&twin->tied, kvm_fd, ring_size);
	writer_add_vcpu(&twin->other, kvm_fd, ring_size);
	if (ring_size)
		must(kvmas_vcpu_add(twin->kvm,
				    KVMAS_CONFIG(vcpu, .fd = twin->tied.vcpu_fd,
						 .run = twin->tied.run,
						 .run_size = twin->tied.run_size,
						 .dirty_ring = twin->tied.ring),
				    &twin->vcpu));
}

static struct kvmas_space *wanted_space(const struct twin *twin)
{
	return twin->config.log_second ? NULL : twin->space;
}

static void start_logging(struct twin *twin)
{
	must(kvmas_client_log_start(twin->clients[0], twin->ram_region, wanted_space(twin)));
}

void twin_take(struct twin *twin)
{
	for (unsigned i = 0; i < twin->nclients; i++)
		must((int)kvmas_client_take(twin->clients[i], twin->ram, 0, twin->config.npages,
					    twin->taken[i]));
}

/* All words of its bitmap are written and read once. */
static void add_client(struct twin *twin)
{
	unsigned i = twin->nclients++;

	must(kvmas_client_new(twin->kvmas, "client", &twin->clients[i]));
	twin->taken[i] = calloc(twin->config.npages / 64 + 1, sizeof(uint64_t));
	must(twin->taken[i] ? 0 : -ENOMEM);
	must(kvmas_ram_mark(twin->ram, 0, kvmas_ram_get_size(twin->ram)));
	twin_take(twin);
}

static void drop_client(struct twin *twin)
{
	unsigned i = --twin->nclients;

	kvmas_client_unref(twin->clients[i]);
	free(twin->taken[i]);
	must(kvmas_reclaim(twin->kvmas));
}

void twin_set_clients(struct twin *twin, unsigned count)
{
	bench_expect(count > 0 && count <= TWIN_MAX_CLIENTS);
	while (twin->nclients < count)
		add_client(twin);
	while (twin->nclients > count)
		drop_client(twin);
}

int twin_open(struct twin *twin, int kvm_fd, const struct twin_config *config)
{
	int err;

	*twin = (struct twin){.config = *config, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
	writer_open(&twin->tied, kvm_fd);
	writer_open(&twin->other, kvm_fd);
	bare_open(&twin->bare, &twin->other, config->npages);
	twin->bare.page = twin->page;
	twin->bare.manual =
		config->log == KVMAS_KVM_LOG_MANUAL || config->log == KVMAS_KVM_LOG_MANUAL_SET;
	must(kvmas_new(NULL, &twin->kvmas));
	err = tie(twin);
	if (err) {
		twin_close(twin);
		return err;
	}
	make_first_space(twin);
	if (config->second)
		make_second_space(twin);
	add_vcpus(twin, kvm_fd);
	twin_set_clients(twin, 1);
	start_logging(twin);
	return 0;
}

void twin_close(struct twin *twin)
{
	while (twin->nclients)
		drop_client(twin);
	kvmas_vcpu_del(twin->vcpu);
	kvmas_kvm_unref(twin->kvm);
	kvmas_space_unref(twin->smm);
	kvmas_space_unref(twin->space);
	kvmas_region_unref(twin->smm_root);
	kvmas_region_unref(twin->root);
	kvmas_region_unref(twin->ram_region);
	kvmas_ram_unref(twin->smram);
	kvmas_ram_unref(twin->code);
	kvmas_ram_unref(twin->ram);
	kvmas_unref(twin->kvmas);
	bare_close(&twin->bare);
	writer_close(&twin->other);
	writer_close(&twin->tied);
}

void twin_restart(struct twin *twin)
{
	must(kvmas_client_log_stop(twin->clients[0], twin->ram_region, wanted_space(twin)));
	twin_take(twin);
	start_logging(twin);
	twin->ioctls = 0;
}

/* ---- what is measured ---- */

static void sync_space(struct kvmas_space *space)
{
	must(kvmas_space_sync(space, 0, KVMAS_SIZE_MAX));
}

void twin_sync(struct twin *twin)
{
	sync_space(twin->space);
}

void twin_cycle(struct twin *twin)
{
	twin_sync(twin);
	twin_take(twin);
}

void twin_cycle_of_two(struct twin *twin)
{
	sync_space(twin->space);
	sync_space(twin->smm);
	twin_take(twin);
}

void twin_bare_cycle(struct twin *twin)
{
	if (twin->config.log == KVMAS_KVM_LOG_RING)
		bare_harvest_ring(&twin->bare);
	else
		bare_harvest(&twin->bare, 0);
}

void twin_expect(const struct twin *twin, const struct load *load)
{
	for (unsigned i = 0; i < twin->nclients; i++)
		bare_expect_bits(twin->taken[i], twin->config.npages, load);
}
