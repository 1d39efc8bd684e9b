/* SPDX-License-Identifier: MIT */
/* Views of one root over time: what is shared, what is kept alive, and for how long. */
#include "root.h"
#include "fixture.h"
#include "validate.h"

enum { NREGIONS = 400, NVIEWS = 40 };

/* Devices in a row, with holes between them, so that none is joined with its neighbour. */
struct row {
	struct fixture *f;
	struct kvmas_region *root;
	struct kvmas_region *regions[NREGIONS];
	struct kvmas_space *space;
	uint64_t random;
};

static uint64_t draw(struct row *row, uint64_t n)
{
	row->random = row->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (row->random >> 33) % n;
}

static void set_up(struct fixture *f, struct row *row)
{
	*row = (struct row){.f = f, .root = make_container(f, "root", KVMAS_SIZE_MAX)};
	must(kvmas_begin(f->kvmas));
	for (unsigned i = 0; i < NREGIONS; i++) {
		row->regions[i] = make_mmio(f, "device", 0x800);
		add(row->root, row->regions[i], i * UINT64_C(0x1000), 0);
	}
	row->space = make_space(f, "s", row->root);
	must(kvmas_commit(f->kvmas));
}

static void assert_valid(struct fixture *f)
{
	const char *fault = validate(f->kvmas);

	if (fault)
		fail_msg("%s", fault);
}

static void toggle(struct row *row)
{
	struct kvmas_region *region = row->regions[draw(row, NREGIONS)];

	must(kvmas_region_set_enabled(region, !region->state.enabled));
}

static void spaces_with_one_root_share_its_views(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_mmio(f, "root", 0x1000);
	struct kvmas_space *one = make_space(f, "one", root);
	struct kvmas_space *two = make_space(f, "two", root);
	const struct kvmas_view *first = kvmas_view_acquire(f->reader, one);
	const struct kvmas_view *second = kvmas_view_acquire(f->reader, two);

	assert_ptr_equal(first, second);
	kvmas_view_release(f->reader, first);
	kvmas_view_release(f->reader, second);
	must(kvmas_region_set_size(root, 0x2000));
	drop_space(f, one);
	must(kvmas_reclaim(f->kvmas));
	assert_view(f, two, "0000-1fff mmio root+0x0\n");
	assert_valid(f);
}

static void small_change_shares_all_pages_but_one(void **state)
{
	struct fixture *f = *state;
	struct row row;
	const struct kvmas_view *before;
	const struct kvmas_view *after;
	size_t shared = 0;

	set_up(f, &row);
	before = kvmas_view_acquire(f->reader, row.space);
	must(kvmas_region_set_offset(row.regions[NREGIONS / 2], NREGIONS / 2 * 0x1000 + 0x400));
	after = kvmas_view_acquire(f->reader, row.space);
	assert_true(before->npages >= NREGIONS / KAS_PAGE_RANGES);
	assert_int_equal(after->npages, before->npages);
	for (size_t i = 0; i < after->npages; i++)
		shared += after->pages[i] == before->pages[i];
	assert_int_equal(shared, after->npages - 1);
	kvmas_view_release(f->reader, before);
	kvmas_view_release(f->reader, after);
}

/* Many pinned views, let go in an order of their own: each shows to the end what it showed first.
 */
static void pinned_views_stay_as_they_were_in_any_order_of_release(void **state)
{
	struct fixture *f = *state;
	const struct kvmas_view *views[NVIEWS] = {NULL};
	char *texts[NVIEWS] = {NULL};
	struct row row;

	set_up(f, &row);
	for (int step = 0; step < 2000; step++) {
		unsigned i = (unsigned)draw(&row, NVIEWS);
		char *now;

		toggle(&row);
		if (!views[i]) {
			views[i] = kvmas_view_acquire(f->reader, row.space);
			texts[i] = view_text(views[i]);
			continue;
		}
		now = view_text(views[i]);
		assert_string_equal(now, texts[i]);
		free(now);
		free(texts[i]);
		kvmas_view_release(f->reader, views[i]);
		views[i] = NULL;
		must(kvmas_reclaim(f->kvmas));
		assert_valid(f);
	}
	for (unsigned i = 0; i < NVIEWS; i++) {
		if (views[i]) {
			kvmas_view_release(f->reader, views[i]);
			free(texts[i]);
		}
	}
}

static void views_that_nobody_pins_are_freed_though_an_old_one_is_pinned(void **state)
{
	struct fixture *f = *state;
	const struct kvmas_view *old;
	struct row row;
	size_t bytes;

	set_up(f, &row);
	for (int i = 0; i < 1000; i++)
		toggle(&row);
	old = kvmas_view_acquire(f->reader, row.space);
	for (int i = 0; i < 1000; i++)
		toggle(&row);
	must(kvmas_reclaim(f->kvmas));
	bytes = f->heap.bytes;
	for (int i = 0; i < 10000; i++)
		toggle(&row);
	must(kvmas_reclaim(f->kvmas));
	/* Pages fill and empty: the two views may differ by some of them, not by thousands. */
	assert_true(f->heap.bytes < bytes + 10 * sizeof(struct page));
	kvmas_view_release(f->reader, old);
}

static void pinned_view_keeps_no_region_that_it_does_not_show(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *root = make_container(f, "root", 0x10000);
	struct kvmas_region *first = make_mmio(f, "first", 0x1000);
	struct kvmas_region *second = make_mmio(f, "second", 0x1000);
	struct kvmas_space *space = make_space(f, "s", root);
	const struct kvmas_view *old;

	add(root, first, 0, 0);
	old = kvmas_view_acquire(f->reader, space);
	add(root, second, 0x1000, 0);
	must(kvmas_region_del(first));
	must(kvmas_region_del(second));
	drop_region(f, first);
	drop_region(f, second);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy second\n");
	kvmas_view_release(f->reader, old);
	must(kvmas_reclaim(f->kvmas));
	assert_notes(f, "destroy first\n");
}

static void views_outlive_their_space(void **state)
{
	struct fixture *f = *state;
	const struct kvmas_view *view;
	struct row row;
	char *before;
	char *after;

	set_up(f, &row);
	view = kvmas_view_acquire(f->reader, row.space);
	before = view_text(view);
	toggle(&row);
	drop_space(f, row.space);
	must(kvmas_reclaim(f->kvmas));
	assert_null(row.root->root);
	after = view_text(view);
	assert_string_equal(after, before);
	free(before);
	free(after);
	kvmas_view_release(f->reader, view);
}

static void validate_sees_planted_faults(void **state)
{
	struct fixture *f = *state;
	struct kvmas_view *view;
	struct page *page;
	struct row row;

	set_up(f, &row);
	assert_valid(f);
	view = row.root->root->view;
	page = view->pages[1];
	view->lasts[1]--;
	assert_string_equal(validate(f->kvmas), "view I4: a view's lasts");
	view->lasts[1]++;
	page->lasts[3]++;
	assert_string_equal(validate(f->kvmas), "view I4: a page's lasts");
	page->lasts[3]--;
	page->ranges[2].range.first -= 0x1000;
	assert_string_equal(validate(f->kvmas), "view I1: out of order");
	page->ranges[2].range.first += 0x1000;
	view->count++;
	assert_string_equal(validate(f->kvmas), "view: a wrong count");
	view->count--;
	view->dropped = page;
	assert_string_equal(validate(f->kvmas), "view I3: the newest has dropped pages");
	view->dropped = NULL;
	row.root->root->changes.nadds = 1;
	assert_string_equal(validate(f->kvmas), "root I2: changes are left");
	row.root->root->changes.nadds = 0;
	assert_valid(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(spaces_with_one_root_share_its_views),
		TEST(small_change_shares_all_pages_but_one),
		TEST(pinned_views_stay_as_they_were_in_any_order_of_release),
		TEST(views_that_nobody_pins_are_freed_though_an_old_one_is_pinned),
		TEST(pinned_view_keeps_no_region_that_it_does_not_show),
		TEST(views_outlive_their_space),
		TEST(validate_sees_planted_faults),
	};

	return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
