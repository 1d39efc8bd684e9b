/* SPDX-License-Identifier: MIT */
/*
 * KVM exits, answered in the space that the vCPU was in: a struct kvm_run is filled as KVM would,
 * and given to a vCPU. Devices read as 0x8877665544332211 and note what they are asked.
 */
#include "kvm-fixture.h"

#include <sys/wait.h>
#include <unistd.h>

enum { RUN_PAGES = 2, DATA_OFFSET = 4096 };

struct guest {
	struct machine *m;
	struct kvm_run *run;
	struct kvmas_vcpu *vcpu;
};

static int guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));
	size_t size = RUN_PAGES * 4096;

	assert_non_null(g);
	g->m = machine_new(NULL);
	g->run = aligned_alloc(4096, size);
	assert_non_null(g->run);
	memset(g->run, 0, size);
	must(kvmas_vcpu_add(
		g->m->kvm,
		KVMAS_CONFIG(vcpu, .fd = -1, .run = g->run, .run_size = size, .requester = g),
		&g->vcpu));
	*state = g;
	return 0;
}

static int guest_teardown(void **state)
{
	struct guest *g = *state;

	kvmas_vcpu_del(g->vcpu);
	machine_free(g->m);
	free(g->run);
	free(g);
	return 0;
}

#define EXIT_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)

static void enter(struct guest *g, unsigned as_id)
{
	g->run->flags = as_id == SMM ? KVM_RUN_X86_SMM : 0;
}

static int exit_mmio(struct guest *g, uint64_t gpa, unsigned size, bool write)
{
	g->run->exit_reason = KVM_EXIT_MMIO;
	g->run->mmio.phys_addr = gpa;
	g->run->mmio.len = size;
	g->run->mmio.is_write = write;
	return kvmas_vcpu_handle_exit(g->vcpu);
}

static void assert_reads(struct guest *g, uint64_t gpa, unsigned size, uint64_t expected)
{
	uint64_t value = 0;

	memset(g->run->mmio.data, 0x5a, sizeof(g->run->mmio.data));
	assert_int_equal(exit_mmio(g, gpa, size, false), 1);
	memcpy(&value, g->run->mmio.data, size);
	assert_int_equal(value, expected);
	for (unsigned i = size; i < sizeof(g->run->mmio.data); i++)
		assert_int_equal(g->run->mmio.data[i], 0x5a);
}

static void write_mmio(struct guest *g, uint64_t gpa, unsigned size, uint64_t value)
{
	memcpy(g->run->mmio.data, &value, sizeof(value));
	assert_int_equal(exit_mmio(g, gpa, size, true), 1);
}

static unsigned char *io_data(struct guest *g)
{
	return (unsigned char *)g->run + DATA_OFFSET;
}

static int exit_io(struct guest *g, unsigned port, unsigned size, unsigned count, bool out)
{
	g->run->exit_reason = KVM_EXIT_IO;
	g->run->io.direction = out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	g->run->io.port = (uint16_t)port;
	g->run->io.size = (uint8_t)size;
	g->run->io.count = count;
	g->run->io.data_offset = DATA_OFFSET;
	return kvmas_vcpu_handle_exit(g->vcpu);
}

/* ---- MMIO ---- */

static void mmio_read_is_answered_by_the_device_in_every_size(void **state)
{
	static const uint64_t values[] = {
		[1] = 0x11, [2] = 0x2211, [4] = 0x44332211, [8] = UINT64_C(0x8877665544332211)};
	static const unsigned sizes[] = {1, 2, 4, 8};
	struct guest *g = *state;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	for (size_t i = 0; i < LENGTH(sizes); i++)
		assert_reads(g, pages(4) + 16, sizes[i], values[sizes[i]]);
	assert_notes(g->m->f, "read dev+0x10 1\n"
			      "read dev+0x10 2\n"
			      "read dev+0x10 4\n"
			      "read dev+0x10 8\n");
}

static void mmio_write_reaches_the_device_in_every_size(void **state)
{
	static const unsigned sizes[] = {1, 2, 4, 8};
	struct guest *g = *state;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	for (size_t i = 0; i < LENGTH(sizes); i++)
		write_mmio(g, pages(4) + 8, sizes[i], UINT64_C(0x0102030405060708));
	assert_notes(g->m->f, "write dev+0x8 1 = 0x8\n"
			      "write dev+0x8 2 = 0x708\n"
			      "write dev+0x8 4 = 0x5060708\n"
			      "write dev+0x8 8 = 0x102030405060708\n");
}

static void vcpu_in_smm_is_answered_in_the_space_bound_to_one(void **state)
{
	struct guest *g = *state;

	put_mmio(g->m, NORMAL, "normal", 4, 1);
	put_mmio(g->m, SMM, "smm", 4, 1);
	for (unsigned as_id = 0; as_id < NSPACES; as_id++) {
		enter(g, as_id);
		assert_int_equal(kvmas_vcpu_get_as_id(g->vcpu), as_id);
		write_mmio(g, pages(4), 1, 7);
		assert_reads(g, pages(4), 1, 0x11);
	}
	assert_notes(g->m->f, "write normal+0x0 1 = 0x7\n"
			      "read normal+0x0 1\n"
			      "write smm+0x0 1 = 0x7\n"
			      "read smm+0x0 1\n");
}

static void device_in_one_space_is_ram_in_the_other(void **state)
{
	struct guest *g = *state;
	struct kvmas_client *client = make_client(g->m, "c");
	struct kvmas_region *smram = put_ram(g->m, SMM, "smram", 3, 2);
	unsigned char *memory = kvmas_ram_get_hva(block_of(smram));

	put_mmio(g->m, NORMAL, "vga", 4, 2);
	enter(g, SMM);
	write_mmio(g, pages(4) + 8, 4, 0x12345678);
	assert_int_equal(memory[pages(1) + 9], 0x56);
	assert_reads(g, pages(4) + 8, 4, 0x12345678);
	assert_taken(client, block_of(smram), "1 ");
	assert_notes(g->m->f, "");
	enter(g, NORMAL);
	assert_reads(g, pages(4) + 8, 4, 0x44332211);
	assert_notes(g->m->f, "read vga+0x8 4\n");
}

static void write_to_readonly_memory_is_dropped(void **state)
{
	struct guest *g = *state;
	struct kvmas_client *client = make_client(g->m, "c");
	struct kvmas_region *ram = make_ram(g->m->f, "ram", pages(4));

	must(kvmas_region_set_readonly(put_alias(g->m, NORMAL, ram, 4, 0, 4), true));
	put_alias(g->m, SMM, ram, 4, 0, 4);
	write_mmio(g, pages(4), 4, 0x12345678);
	assert_reads(g, pages(4), 4, 0);
	assert_taken(client, block_of(ram), "");
	enter(g, SMM);
	write_mmio(g, pages(4), 4, 0x12345678);
	enter(g, NORMAL);
	assert_reads(g, pages(4), 4, 0x12345678);
	assert_taken(client, block_of(ram), "0 ");
}

struct seen {
	struct kvmas_access access;
	unsigned count;
};

static int see(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct seen *seen = opaque;

	(void)value;
	seen->access = *access;
	seen->count++;
	return 0;
}

static const struct kvmas_ops seeing = {.struct_size = sizeof(seeing), .write = see};

static void device_is_told_space_smm_and_requester(void **state)
{
	struct guest *g = *state;
	struct seen seen = {.count = 0};
	struct kvmas_region *region;

	must(kvmas_region_new(g->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "seeing",
					   .size = pages(1), .ops = &seeing, .opaque = &seen),
			      &region));
	add(g->m->root[NORMAL], make_alias(g->m->f, "alias", region, 0, pages(1)), 0, 0);
	add(g->m->root[SMM], make_alias(g->m->f, "alias", region, 0, pages(1)), pages(1), 0);
	kvmas_region_unref(region);
	for (unsigned as_id = 0; as_id < NSPACES; as_id++) {
		enter(g, as_id);
		write_mmio(g, pages(as_id) + 4, 2, 0);
		assert_int_equal(seen.count, as_id + 1);
		assert_int_equal(seen.access.offset, 4);
		assert_int_equal(seen.access.size, 2);
		assert_int_equal(seen.access.smm, as_id == SMM);
		assert_ptr_equal(seen.access.space, g->m->space[as_id]);
		assert_ptr_equal(seen.access.requester, g);
	}
}

static void where_nothing_answers_reads_give_ones(void **state)
{
	struct guest *g = *state;

	assert_reads(g, pages(4), 1, 0xff);
	assert_reads(g, pages(4), 8, UINT64_MAX);
	assert_reads(g, -UINT64_C(8), 8, UINT64_MAX);
	write_mmio(g, pages(4), 4, 1);
	assert_int_equal(stats_of(g->m).unassigned, 4);
	assert_int_equal(stats_of(g->m).mmio_exits, 4);
}

static void where_no_space_is_bound_reads_give_ones(void **state)
{
	struct guest *g = *state;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	put_mmio(g->m, SMM, "dev", 4, 1);
	must(kvmas_kvm_unbind(g->m->kvm, SMM));
	enter(g, SMM);
	assert_reads(g, pages(4), 4, 0xffffffff);
	write_mmio(g, pages(4), 4, 1);
	assert_notes(g->m->f, "");
	assert_int_equal(stats_of(g->m).unassigned, 2);
	enter(g, NORMAL);
	assert_reads(g, pages(4), 4, 0x44332211);
	forget_notes(g->m->f);
}

static void smm_on_a_vm_of_one_space_is_answered_by_nobody(void **state)
{
	struct guest *g = *state;
	struct machine *m = machine_new_unbound(&(struct fake_kvm_config){.spaces = 1});
	struct kvmas_vcpu *vcpu;

	must(kvmas_kvm_bind(m->kvm, m->space[NORMAL], 0));
	put_mmio(m, NORMAL, "dev", 4, 1);
	must(kvmas_vcpu_add(m->kvm, KVMAS_CONFIG(vcpu, .run = g->run, .run_size = RUN_PAGES * 4096),
			    &vcpu));
	enter(g, SMM);
	exit_mmio(g, pages(4), 4, false);
	memset(g->run->mmio.data, 0, 8);
	assert_int_equal(kvmas_vcpu_handle_exit(vcpu), 1);
	assert_int_equal(g->run->mmio.data[3], 0xff);
	assert_notes(m->f, "");
	kvmas_vcpu_del(vcpu);
	machine_free(m);
}

/* ---- ports ---- */

static void port_in_and_out_are_answered_in_the_pio_space(void **state)
{
	static const uint32_t values[] = {[1] = 0x11, [2] = 0x2211, [4] = 0x44332211};
	static const unsigned sizes[] = {1, 2, 4};
	struct guest *g = *state;
	struct kvmas_region *ports = make_container(g->m->f, "ports", 0x10000);

	add(ports, make_mmio(g->m->f, "dev", 8), 0x60, 0);
	must(kvmas_kvm_set_pio_space(g->m->kvm, make_space(g->m->f, "pio", ports)));
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint32_t value = 0;

		assert_int_equal(exit_io(g, 0x64, sizes[i], 1, false), 1);
		memcpy(&value, io_data(g), sizes[i]);
		assert_int_equal(value, values[sizes[i]]);
		memcpy(io_data(g), &(uint32_t){0x01020304}, 4);
		enter(g, SMM); /* ports are the same in SMM */
		assert_int_equal(exit_io(g, 0x60, sizes[i], 1, true), 1);
		enter(g, NORMAL);
	}
	assert_notes(g->m->f, "read dev+0x4 1\n"
			      "write dev+0x0 1 = 0x4\n"
			      "read dev+0x4 2\n"
			      "write dev+0x0 2 = 0x304\n"
			      "read dev+0x4 4\n"
			      "write dev+0x0 4 = 0x1020304\n");
	assert_int_equal(stats_of(g->m).pio_exits, 6);
	assert_int_equal(stats_of(g->m).unassigned, 0);
}

static void string_io_goes_to_one_port_element_by_element(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *ports = make_container(g->m->f, "ports", 0x10000);

	add(ports, make_mmio(g->m->f, "dev", 2), 0x1f0, 0);
	must(kvmas_kvm_set_pio_space(g->m->kvm, make_space(g->m->f, "pio", ports)));
	memcpy(io_data(g), "\1\2\3\4\5\6", 6);
	assert_int_equal(exit_io(g, 0x1f0, 2, 3, true), 1);
	assert_notes(g->m->f, "write dev+0x0 2 = 0x201\n"
			      "write dev+0x0 2 = 0x403\n"
			      "write dev+0x0 2 = 0x605\n");
	memset(io_data(g), 0, 8);
	assert_int_equal(exit_io(g, 0x1f0, 2, 3, false), 1);
	assert_memory_equal(io_data(g), "\x11\x22\x11\x22\x11\x22\0\0", 8);
	forget_notes(g->m->f);
	/* All that the second page holds. */
	assert_int_equal(exit_io(g, 0x1f0, 1, 4096, false), 1);
	assert_int_equal(io_data(g)[4095], 0x11);
	forget_notes(g->m->f);
}

static void remove_oneself(struct thing *thing)
{
	must(kvmas_region_del(thing->region));
}

/* Each element is an access of its own, by the map of its moment. */
static void string_io_sees_the_map_change(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *ports = make_container(g->m->f, "ports", 0x10000);
	struct kvmas_region *dev = make_mmio(g->m->f, "dev", 2);

	add(ports, dev, 0x1f0, 0);
	must(kvmas_kvm_set_pio_space(g->m->kvm, make_space(g->m->f, "pio", ports)));
	thing_of(dev)->on_access = remove_oneself;
	assert_int_equal(exit_io(g, 0x1f0, 2, 3, false), 1);
	assert_memory_equal(io_data(g), "\x11\x22\xff\xff\xff\xff", 6);
	assert_notes(g->m->f, "read dev+0x0 2\n");
	assert_int_equal(stats_of(g->m).unassigned, 2);
}

static void what_a_device_refuses_is_counted_apart(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *dev = put_mmio(g->m, NORMAL, "dev", 4, 1);

	thing_of(dev)->result = -ENODEV;
	assert_reads(g, pages(4), 4, UINT32_MAX);
	write_mmio(g, pages(4), 4, 1);
	assert_int_equal(stats_of(g->m).refused, 2);
	assert_int_equal(stats_of(g->m).unassigned, 0);
	forget_notes(g->m->f);
}

static void exits_allocate_nothing(void **state)
{
	struct guest *g = *state;
	unsigned long calls;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	put_ram(g->m, NORMAL, "ram", 8, 1);
	calls = g->m->f->heap.calls;
	for (unsigned gfn = 3; gfn < 10; gfn++) {
		write_mmio(g, pages(gfn) - 3, 8, 1);
		assert_int_equal(exit_mmio(g, pages(gfn) - 3, 8, false), 1);
	}
	assert_int_equal(exit_io(g, 0x60, 4, 4, false), 1);
	assert_int_equal(g->m->f->heap.calls, calls);
	forget_notes(g->m->f);
}

static void access_past_the_last_address_does_not_wrap(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *dev = put_mmio(g->m, NORMAL, "dev", 0, 1);

	assert_reads(g, UINT64_MAX - 3, 8, UINT64_MAX);
	write_mmio(g, UINT64_MAX, 8, 0);
	assert_notes(g->m->f, "");
	assert_int_equal(thing_of(dev)->destroyed, 0);
	assert_int_equal(stats_of(g->m).unassigned, 4);
}

static void without_a_pio_space_ports_read_ones(void **state)
{
	struct guest *g = *state;

	memset(io_data(g), 0, 8);
	assert_int_equal(exit_io(g, 0x60, 2, 3, false), 1);
	assert_memory_equal(io_data(g), "\xff\xff\xff\xff\xff\xff\0\0", 8);
	assert_int_equal(exit_io(g, 0x60, 4, 1, true), 1);
	assert_int_equal(stats_of(g->m).unassigned, 4);
}

static void pio_space_can_be_taken_away(void **state)
{
	struct guest *g = *state;
	struct kvmas_space *pio = make_space(g->m->f, "pio", make_mmio(g->m->f, "dev", 0x100));

	must(kvmas_kvm_set_pio_space(g->m->kvm, pio));
	drop_space(g->m->f, pio); /* the tie holds it */
	assert_int_equal(exit_io(g, 0x60, 1, 1, false), 1);
	assert_int_equal(io_data(g)[0], 0x11);
	must(kvmas_kvm_set_pio_space(g->m->kvm, NULL));
	assert_int_equal(exit_io(g, 0x60, 1, 1, false), 1);
	assert_int_equal(io_data(g)[0], 0xff);
	forget_notes(g->m->f);
}

/* ---- others, and nonsense ---- */

static void other_exits_are_the_vmms_own(void **state)
{
	static const uint32_t reasons[] = {KVM_EXIT_UNKNOWN,      KVM_EXIT_HLT,
					   KVM_EXIT_SHUTDOWN,     KVM_EXIT_FAIL_ENTRY,
					   KVM_EXIT_SYSTEM_EVENT, KVM_EXIT_INTERNAL_ERROR};
	struct guest *g = *state;

	for (size_t i = 0; i < LENGTH(reasons); i++) {
		g->run->exit_reason = reasons[i];
		assert_int_equal(kvmas_vcpu_handle_exit(g->vcpu), 0);
	}
}

static void mmio_of_a_size_that_cannot_be_is_einval(void **state)
{
	static const unsigned sizes[] = {0, 9, 255, UINT32_MAX};
	struct guest *g = *state;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		assert_int_equal(exit_mmio(g, pages(4), sizes[i], false), -EINVAL);
		must(kvmas_kvm_unbind(g->m->kvm, NORMAL));
		assert_int_equal(exit_mmio(g, pages(4), sizes[i], false), -EINVAL);
		must(kvmas_kvm_bind(g->m->kvm, g->m->space[NORMAL], NORMAL));
	}
	assert_int_equal(stats_of(g->m).mmio_exits, 0);
	assert_notes(g->m->f, "");
}

static void port_data_outside_of_kvm_run_is_einval(void **state)
{
	static const struct {
		unsigned size;
		unsigned count;
		uint64_t offset;
	} table[] = {
		{0, 1, 4096},          {1, 1, 8192},
		{1, 1, 8193},          {2, 1, 8191},
		{4, 2, 8188},          {1, 1, UINT64_MAX},
		{4, UINT32_MAX, 4096}, {255, UINT32_MAX, 0},
		{1, 4097, 4096},       {1, 1, UINT64_C(1) << 63},
	};
	struct guest *g = *state;

	for (unsigned with_space = 0; with_space < 2; with_space++) {
		for (size_t i = 0; i < LENGTH(table); i++) {
			g->run->exit_reason = KVM_EXIT_IO;
			g->run->io.direction = KVM_EXIT_IO_IN;
			g->run->io.size = (uint8_t)table[i].size;
			g->run->io.count = table[i].count;
			g->run->io.data_offset = table[i].offset;
			assert_int_equal(kvmas_vcpu_handle_exit(g->vcpu), -EINVAL);
		}
		must(kvmas_kvm_set_pio_space(g->m->kvm, g->m->space[NORMAL]));
	}
	assert_int_equal(stats_of(g->m).pio_exits, 0);
}

/* ---- when answers change ---- */

static void assert_answers(struct guest *g, uint64_t expected)
{
	enter(g, SMM);
	assert_reads(g, pages(4), 2, expected);
	forget_notes(g->m->f);
}

static void answers_change_when_the_commit_has_succeeded(void **state)
{
	struct guest *g = *state;
	struct kvmas *kvmas = g->m->f->kvmas;

	put_mmio(g->m, SMM, "dev", 4, 1);
	put_ram(g->m, SMM, "ram", 8, 1);
	must(kvmas_begin(kvmas));
	must(kvmas_kvm_unbind(g->m->kvm, SMM));
	assert_answers(g, 0x2211);
	must(kvmas_commit(kvmas));
	assert_answers(g, 0xffff);
	must(kvmas_begin(kvmas));
	must(kvmas_kvm_bind(g->m->kvm, g->m->space[SMM], SMM));
	assert_answers(g, 0xffff);
	must(kvmas_abort(kvmas));
	assert_answers(g, 0xffff);
	fake_kvm_fail_at(g->m->vm, 1, ENOMEM);
	assert_int_equal(kvmas_kvm_bind(g->m->kvm, g->m->space[SMM], SMM), -ENOMEM);
	assert_answers(g, 0xffff);
	must(kvmas_kvm_bind(g->m->kvm, g->m->space[SMM], SMM));
	assert_answers(g, 0x2211);
	must(kvmas_begin(kvmas));
	must(kvmas_kvm_unbind(g->m->kvm, SMM));
	must(kvmas_abort(kvmas));
	assert_answers(g, 0x2211);
}

static void flip(struct thing *thing)
{
	struct guest *g = thing->fixture->with;

	must(kvmas_begin(thing->fixture->kvmas));
	must(kvmas_region_del(thing->region));
	must(kvmas_kvm_unbind(g->m->kvm, NORMAL));
	must(kvmas_commit(thing->fixture->kvmas));
}

static void device_may_remove_itself_and_its_binding(void **state)
{
	struct guest *g = *state;
	struct kvmas_region *dev = put_mmio(g->m, NORMAL, "dev", 4, 1);

	put_ram(g->m, NORMAL, "ram", 0, 4);
	g->m->f->with = g;
	thing_of(dev)->on_access = flip;
	assert_reads(g, pages(4), 4, 0x44332211);
	assert_reads(g, pages(4), 4, 0xffffffff);
	assert_slots(g->m, "");
	forget_notes(g->m->f);
}

/* ---- vCPUs ---- */

static void vcpu_without_a_kvm_run_is_einval(void **state)
{
	struct guest *g = *state;
	const struct kvmas_vcpu_config configs[] = {
		{.struct_size = sizeof(configs[0]), .run_size = 4096},
		{.struct_size = sizeof(configs[0]), .run = g->run},
		{.struct_size = sizeof(configs[0]),
		 .run = g->run,
		 .run_size = sizeof(struct kvm_run) - 1},
		{.struct_size = 0, .run = g->run, .run_size = 4096},
	};
	struct kvmas_vcpu *vcpu = NULL;

	for (size_t i = 0; i < LENGTH(configs); i++)
		assert_int_equal(kvmas_vcpu_add(g->m->kvm, &configs[i], &vcpu), -EINVAL);
	g->m->f->heap.fail_in = 1;
	assert_int_equal(kvmas_vcpu_add(g->m->kvm,
					KVMAS_CONFIG(vcpu, .run = g->run, .run_size = 4096), &vcpu),
			 -ENOMEM);
	assert_null(vcpu);
	kvmas_vcpu_del(NULL);
}

static void vcpu_keeps_the_tie(void **state)
{
	struct guest *g = *state;
	struct kvmas_kvm *kvm = g->m->kvm;

	put_mmio(g->m, NORMAL, "dev", 4, 1);
	g->m->kvm = NULL;
	kvmas_kvm_unref(kvm);
	must(kvmas_reclaim(g->m->f->kvmas));
	assert_reads(g, pages(4), 4, 0x44332211);
	forget_notes(g->m->f);
}

static void exit_in_a_forked_child_is_eio(void **state)
{
	struct guest *g = *state;
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(exit_mmio(g, 0, 1, false) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EXIT_TEST(mmio_read_is_answered_by_the_device_in_every_size),
		EXIT_TEST(mmio_write_reaches_the_device_in_every_size),
		EXIT_TEST(vcpu_in_smm_is_answered_in_the_space_bound_to_one),
		EXIT_TEST(device_in_one_space_is_ram_in_the_other),
		EXIT_TEST(write_to_readonly_memory_is_dropped),
		EXIT_TEST(device_is_told_space_smm_and_requester),
		EXIT_TEST(where_nothing_answers_reads_give_ones),
		EXIT_TEST(where_no_space_is_bound_reads_give_ones),
		EXIT_TEST(smm_on_a_vm_of_one_space_is_answered_by_nobody),
		EXIT_TEST(port_in_and_out_are_answered_in_the_pio_space),
		EXIT_TEST(string_io_goes_to_one_port_element_by_element),
		EXIT_TEST(string_io_sees_the_map_change),
		EXIT_TEST(what_a_device_refuses_is_counted_apart),
		EXIT_TEST(exits_allocate_nothing),
		EXIT_TEST(access_past_the_last_address_does_not_wrap),
		EXIT_TEST(without_a_pio_space_ports_read_ones),
		EXIT_TEST(pio_space_can_be_taken_away),
		EXIT_TEST(other_exits_are_the_vmms_own),
		EXIT_TEST(mmio_of_a_size_that_cannot_be_is_einval),
		EXIT_TEST(port_data_outside_of_kvm_run_is_einval),
		EXIT_TEST(answers_change_when_the_commit_has_succeeded),
		EXIT_TEST(device_may_remove_itself_and_its_binding),
		EXIT_TEST(vcpu_without_a_kvm_run_is_einval),
		EXIT_TEST(vcpu_keeps_the_tie),
		EXIT_TEST(exit_in_a_forked_child_is_eio),
	};

	return cmocka_run_group_tests_name("exit", tests, NULL, NULL);
}
