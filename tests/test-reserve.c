/* SPDX-License-Identifier: MIT */
/* What cannot be mapped, or not whole: ranges that are reserved or the kernel's own, the end of the
 * guest's addresses, the largest slot. Through the public interface, on a double. */
#include "kvm-fixture.h"

static void reserve_range_refuses(void **state)
{
	struct machine *m = *state;
	const struct {
		uint64_t gpa;
		uint64_t size;
	} table[] = {
		{0, 0},
		{1, pages(1)},
		{1, pages(1) - 1},
		{0, 1},
		{pages(1), pages(1) + 1},
		{-pages(1), pages(2)},
		{pages(1), KVMAS_SIZE_MAX},
		{pages(1), UINT64_MAX - page_size() + 2},
	};

	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(kvmas_kvm_reserve_range(m->kvm, table[i].gpa, table[i].size),
				 -EINVAL);
}

static void reserved_range_is_free_of_slots_in_every_space(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = put_ram(m, NORMAL, "ram", 0, 16);

	put_alias(m, SMM, ram, 0, 0, 16);
	must(kvmas_kvm_reserve_range(m->kvm, pages(4), pages(2)));
	assert_slots(m, "0:0 0-3 ram+0\n"
			"0:1 6-15 ram+6\n"
			"1:0 0-3 ram+0\n"
			"1:1 6-15 ram+6\n");
	must(kvmas_kvm_reserve_range(m->kvm, -pages(1), pages(1)));
	must(kvmas_kvm_reserve_range(m->kvm, 0, pages(4)));
	must(kvmas_kvm_reserve_range(m->kvm, pages(6), -pages(7)));
	assert_slots(m, "");
}

static void reservation_of_what_is_reserved_returns_eexist(void **state)
{
	/* Pages 8-11 are. */
	static const struct {
		unsigned gfn;
		unsigned npages;
		int result;
	} table[] = {
		{8, 4, -EEXIST},  {9, 1, -EEXIST}, {0, 9, -EEXIST}, {11, 9, -EEXIST},
		{0, 64, -EEXIST}, {4, 4, 0},       {12, 1, 0},
	};
	struct machine *m = *state;

	put_ram(m, NORMAL, "ram", 0, 16);
	must(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(4)));
	for (size_t i = 0; i < LENGTH(table); i++)
		assert_int_equal(kvmas_kvm_reserve_range(m->kvm, pages(table[i].gfn),
							 pages(table[i].npages)),
				 table[i].result);
	assert_slots(m, "0:0 0-3 ram+0\n"
			"0:1 13-15 ram+13\n");
	assert_int_equal(kvmas_kvm_reserve_range(m->kvm, 0, KVMAS_SIZE_MAX), -EEXIST);
	must(kvmas_kvm_reserve_ids(m->kvm, NORMAL, 4, 2));
	assert_int_equal(kvmas_kvm_reserve_ids(m->kvm, NORMAL, 5, 2), -EEXIST);
	assert_int_equal(kvmas_kvm_reserve_ids(m->kvm, NORMAL, 0, 1), -EBUSY);
	must(kvmas_kvm_reserve_ids(m->kvm, NORMAL, 6, 1));
	must(kvmas_kvm_reserve_ids(m->kvm, SMM, 5, 2));
}

/* An abort frees the range for others. */
static void aborted_reservation_is_none(void **state)
{
	struct machine *m = *state;

	must(kvmas_begin(m->f->kvmas));
	must(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(4)));
	assert_int_equal(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(4)), -EEXIST);
	must(kvmas_abort(m->f->kvmas));
	must(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(4)));
}

static void collision_with_a_slot_of_the_kernels_is_eexist_until_reserved(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(16));
	struct fake_kvm *before;

	must(fake_kvm_add_private(m->vm, 2, pages(8), pages(1)));
	before = fake_kvm_snapshot(m->vm);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, 0, 0), -EEXIST);
		assert_true(fake_kvm_equal(m->vm, before));
		assert_right(m);
		assert_view(m->f, m->space[NORMAL], "");
	}
	must(kvmas_kvm_reserve_range(m->kvm, pages(8), pages(1)));
	must(kvmas_region_add(m->root[NORMAL], ram, 0, 0));
	assert_slots(m, "0:0 0-7 ram+0\n"
			"0:1 9-15 ram+9\n");
	fake_kvm_free(before);
}

static void ram_past_the_last_gfn_is_refused_with_kvms_errno(void **state)
{
	struct machine *m = *state;
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(4));
	uint64_t top = pages(m->vm->config.max_gfn + 1);

	assert_int_equal(kvmas_region_add(m->root[NORMAL], ram, top - pages(2), 0), -EINVAL);
	assert_right(m);
	must(kvmas_region_add(m->root[NORMAL], ram, top - pages(4), 0));
	assert_right(m);
}

/* The same, where the VMM has said how many bits there are: before KVM is asked. */
static void ram_past_the_last_gpa_is_erange_before_the_first_ioctl(void **state)
{
	struct machine *m = machine_new_with(NULL, KVMAS_CONFIG(kvm, .gpa_bits = 32));
	struct kvmas_region *ram = make_ram(m->f, "ram", pages(4));
	struct kvmas_kvm_plan plan;
	char *text;

	(void)state;
	must(kvmas_region_add(m->root[NORMAL], ram, (UINT64_C(1) << 32) - pages(4), 0));
	assert_int_equal(m->nioctls, 1);
	must(kvmas_begin(m->f->kvmas));
	must(kvmas_region_set_offset(ram, (UINT64_C(1) << 32) - pages(3)));
	text = dry_run_text(m->kvm, &plan);
	assert_string_equal(text, "-34\n");
	free(text);
	assert_int_equal(kvmas_commit(m->f->kvmas), -ERANGE);
	assert_int_equal(m->nioctls, 1);
	machine_free(m);
}

/* ---- size ---- */

/* KVM takes 2^31 - 1 pages at the most. There is no memory at that address: nobody touches it. */
static void mapping_larger_than_a_slot_is_cut(void **state)
{
	struct machine *m = *state;
	uint64_t npages = UINT64_C(5) << 29;
	struct kvmas_ram *block;
	struct kvmas_region *region;

	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = "large", .source = KVMAS_RAM_CALLER,
					.hva = (void *)(uintptr_t)(UINT64_C(1) << 32),
					.size = pages(npages)),
			   &block));
	must(kvmas_region_new(m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_RAM, .name = "large",
					   .size = pages(npages), .ram = block),
			      &region));
	must(kvmas_region_add(m->root[NORMAL], region, 0, 0));
	assert_slots(m, "0:0 0-1073741823 large+0\n0:1 1073741824-2147483647 large+1073741824\n"
			"0:2 2147483648-2684354559 large+2147483648\n");
	must(kvmas_region_del(region));
	kvmas_region_unref(region);
	kvmas_ram_unref(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(reserve_range_refuses),
		KVM_TEST(reserved_range_is_free_of_slots_in_every_space),
		KVM_TEST(reservation_of_what_is_reserved_returns_eexist),
		KVM_TEST(aborted_reservation_is_none),
		KVM_TEST(collision_with_a_slot_of_the_kernels_is_eexist_until_reserved),
		KVM_TEST(ram_past_the_last_gfn_is_refused_with_kvms_errno),
		cmocka_unit_test(ram_past_the_last_gpa_is_erange_before_the_first_ioctl),
		KVM_TEST(mapping_larger_than_a_slot_is_cut),
	};

	return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
