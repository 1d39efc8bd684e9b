/* SPDX-License-Identifier: MIT */
/*
 * All or nothing, for event channels: one commit that moves, hides and adds them in two spaces and
 * for ports, together with slots, while writes wait in the ring; with each of its ioctls refused,
 * with all from one on, with each allocation failing, and with a listener or a second tie that
 * refuses. Then all is as before: the trees, the views, what KVM has, what the counters say, and
 * what stores lead to; and when it is tried again it succeeds.
 */
#include "channel-fixture.h"

#include "kvm/vm.h"

enum { A, B, C, P };

struct scene {
	struct rig *r;
	struct kvmas_region *device[4];
	struct kvmas_region *ram;
	struct kvmas_region *smram;
	bool must; /* what is added must be in KVM */
	bool with_second;
};

static void set_second(struct scene *s)
{
	machine_add_tie(s->r->m, NULL);
	must(kvmas_kvm_bind(s->r->m->kvm2, s->r->m->space[NORMAL], NORMAL));
	must(kvmas_kvm_set_pio_space(s->r->m->kvm2, s->r->ports));
}

static void set(struct scene *s, struct rig *r)
{
	s->r = r;
	s->device[A] = put_device(r, "a", pages(8), pages(1));
	s->device[B] = put_device(r, "b", pages(10), pages(1));
	s->device[C] = put_device(r, "c", pages(12), pages(1));
	s->device[P] = put_ports(r, "p", 0x40, 0x40);
	for (unsigned i = 0; i < 4; i++)
		add_both(r, s->device[i], i);
	s->ram = put_ram(r->m, NORMAL, "ram", 0, 6);
	s->smram = make_ram(r->m->f, "smram", pages(2));
	add(r->m->root[SMM], s->smram, pages(8), 1);
	if (s->with_second)
		set_second(s);
}

/* a moves, b is hidden, c has other channels, and so have the ports; slots come, go and move. */
static int edit(struct scene *s)
{
	const unsigned flags = s->must ? KVMAS_CHANNEL_MUST : 0;
	struct rig *r = s->r;
	int err = kvmas_region_set_offset(s->device[A], pages(14));

	if (!err)
		err = kvmas_region_set_enabled(s->device[B], false);
	if (!err)
		err = del_event(s->device[C], 0, 4);
	if (!err)
		err = kvmas_region_add_coalesced(s->device[C], 0, 0x10, flags);
	if (!err)
		err = kvmas_region_add_ioeventfd(s->device[C],
						 KVMAS_CONFIG(ioeventfd, .offset = 0x40, .size = 2,
							      .fd = r->events[4], .flags = flags));
	if (!err)
		err = kvmas_region_set_offset(s->device[P], 0x60);
	if (!err)
		err = kvmas_region_add_coalesced(s->device[P], 4, 4, flags);
	if (!err)
		err = kvmas_region_set_offset(s->smram, pages(16));
	return err ? err : kvmas_region_set_offset(s->ram, pages(1));
}

static int change(struct scene *s)
{
	struct kvmas *kvmas = s->r->m->f->kvmas;
	int err = kvmas_begin(kvmas);

	if (err)
		return err;
	err = edit(s);
	if (!err)
		return kvmas_commit(kvmas);
	must(kvmas_abort(kvmas));
	return err;
}

static void store_all(struct scene *s)
{
	static const unsigned pages_of[] = {1, 8, 10, 12, 14, 16};

	for (unsigned i = 0; i < LENGTH(pages_of); i++) {
		for (unsigned offset = 0; offset < 0x48; offset += 4) {
			store(s->r, 0, NORMAL, pages(pages_of[i]) + offset, i, offset % 8 ? 4 : 2);
			store(s->r, 1, SMM, pages(pages_of[i]) + offset, i, 4);
		}
	}
	for (unsigned port = 0x40; port < 0xa0; port += 4)
		store(s->r, 0, PORTS, port, 7, 4);
}

/* What is heard of such stores. */
static char *answers(struct scene *s)
{
	struct rig *r = s->r;
	char *text;

	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	store_all(s);
	must(kvmas_kvm_drain(r->m->kvm, r->m->f->reader));
	for (unsigned i = 0; i < NEVENTFDS; i++)
		text_add(&r->words, "#%ux%u ", i, (unsigned)take_event(r, i));
	text = r->words;
	r->words = NULL;
	return text;
}

static void assert_answers(struct scene *s, const char *expected)
{
	char *text = answers(s);

	assert_string_equal(text, expected);
	free(text);
}

static void assert_channels(struct scene *s)
{
	const char *wrong = channels_wrong(s->r->m->kvm, s->r->m->vm);

	if (!wrong && s->with_second)
		wrong = channels_wrong(s->r->m->kvm2, s->r->m->vm2);
	if (wrong)
		fail_msg("%s", wrong);
}

/* What waits when the change begins, whatever becomes of it. */
static void store_some(struct scene *s)
{
	store(s->r, 0, NORMAL, pages(8) + 0x10, 1, 4);
	store(s->r, 1, SMM, pages(10) + 0x14, 2, 4);
	store(s->r, 0, PORTS, 0x54, 3, 4);
	store(s->r, 1, NORMAL, pages(12) + 0x18, 4, 4);
}

static void assert_some(struct scene *s)
{
	must(kvmas_kvm_drain(s->r->m->kvm, s->r->m->f->reader));
	glance(s->r, "a+10/4=1 b+14/4=2 p+14/4=3 c+18/4=4 ");
}

/* What is heard before the change, and after it. */
struct expected {
	char *before;
	char *after;
};

static struct expected expect(struct scene like)
{
	struct expected expected;
	struct scene s = like;

	set(&s, rig_new(NULL));
	expected.before = answers(&s);
	must(change(&s));
	assert_channels(&s);
	expected.after = answers(&s);
	assert_string_not_equal(expected.before, expected.after);
	rig_free(s.r);
	return expected;
}

static void drop(struct expected *expected)
{
	free(expected->before);
	free(expected->after);
}

/* ---- one ioctl ---- */

static void assert_as_before(struct scene *s, const struct expected *expected, char *text,
			     struct fake_kvm *vm)
{
	char *now = rig_text(s->r);

	assert_string_equal(now, text);
	assert_true(fake_kvm_equal_slots(s->r->m->vm, vm));
	assert_channels(s);
	assert_some(s);
	assert_answers(s, expected->before);
	free(now);
}

static void succeed(struct scene *s, const struct expected *expected)
{
	must(change(s));
	assert_channels(s);
	assert_answers(s, expected->after);
	assert_right(s->r->m);
}

/* True if there was a k-th call. */
static bool refuse_one(struct scene like, const struct expected *expected, unsigned k, int error)
{
	struct scene s = like;
	struct fake_kvm *before;
	bool hit;
	char *text;
	int err;

	set(&s, rig_new(NULL));
	before = fake_kvm_snapshot(s.r->m->vm);
	text = rig_text(s.r);
	store_some(&s);
	fake_kvm_fail_at(s.r->m->vm, k, error);
	err = change(&s);
	hit = s.r->m->vm->fail.hits;
	fake_kvm_fail_never(s.r->m->vm);
	if (err) {
		assert_true(hit);
		assert_true(err == -error || err == -EOPNOTSUPP);
		assert_as_before(&s, expected, text, before);
		succeed(&s, expected);
	} else {
		assert_channels(&s);
		assert_some(&s);
		assert_answers(&s, expected->after);
	}
	free(text);
	fake_kvm_free(before);
	rig_free(s.r);
	return hit;
}

static void refuse_each(struct scene s)
{
	static const int errors[] = {ENOMEM, ENOSPC, EINVAL};
	struct expected expected = expect(s);

	for (size_t i = 0; i < LENGTH(errors); i++) {
		unsigned k = 1;

		while (refuse_one(s, &expected, k, errors[i]))
			k++;
		assert_true(k > 15);
	}
	drop(&expected);
}

static void refused_ioctl_leaves_all_as_before(void **state)
{
	(void)state;
	refuse_each((struct scene){0});
}

static void refused_ioctl_leaves_all_as_before_with_musts(void **state)
{
	(void)state;
	refuse_each((struct scene){.must = true});
}

static void refused_ioctl_leaves_all_as_before_in_two_vms(void **state)
{
	(void)state;
	refuse_each((struct scene){.must = true, .with_second = true});
}

/* ---- all ioctls from one on: what cannot be undone ---- */

static void assert_stray_is_dumped(struct scene *s)
{
	char *text = state_text(s->r->m->f);

	assert_non_null(strstr(text, ", in KVM, a stray\n"));
	free(text);
}

/* Views and trees are as before, and so is what stores lead to; KVM may have less. What it has must
 * be right all the same. */
static bool refuse_from(struct scene like, const struct expected *expected, unsigned k,
			unsigned *strays)
{
	struct scene s = like;
	char *before, *after;
	bool hit;
	int err;

	set(&s, rig_new(NULL));
	before = space_text(s.r->m->f, s.r->m->space[SMM]);
	store_some(&s);
	fake_kvm_fail_from(s.r->m->vm, k, ENOMEM);
	err = change(&s);
	hit = s.r->m->vm->fail.hits;
	fake_kvm_fail_never(s.r->m->vm);
	if (s.r->m->kvm->channel_strays.count) {
		assert_int_equal(err, -ENOTRECOVERABLE);
		assert_stray_is_dumped(&s);
		*strays += 1;
	}
	if (err) {
		after = space_text(s.r->m->f, s.r->m->space[SMM]);
		assert_string_equal(after, before);
		free(after);
		must(kvmas_begin(s.r->m->f->kvmas));
		must(kvmas_commit(s.r->m->f->kvmas));
		assert_channels(&s);
		assert_some(&s);
		assert_answers(&s, expected->before);
		succeed(&s, expected);
	} else {
		assert_channels(&s);
		assert_some(&s);
		assert_answers(&s, expected->after);
	}
	free(before);
	rig_free(s.r);
	return hit;
}

/* How often KVM kept what was not to be. */
static unsigned refuse_all(struct scene s)
{
	struct expected expected = expect(s);
	unsigned k = 1, strays = 0;

	while (refuse_from(s, &expected, k, &strays))
		k++;
	assert_true(k > 15);
	drop(&expected);
	return strays;
}

static void refused_undoing_leaves_channels_to_dispatch(void **state)
{
	(void)state;
	assert_int_equal(refuse_all((struct scene){0}), 0);
}

static void refused_undoing_of_musts_is_made_good_by_the_next_commit(void **state)
{
	(void)state;
	assert_int_equal(refuse_all((struct scene){.must = true}), 2);
}

/* ---- others who refuse ---- */

static int refuse_to_prepare(void *data, const struct kvmas_changes *changes)
{
	const bool *refuses = data;

	(void)changes;
	return *refuses ? -EDOM : 0;
}

static void listener_that_refuses_leaves_all_as_before(void **state)
{
	struct scene s = {.must = true};
	struct expected expected = expect(s);
	struct kvmas_listener *listener;
	struct fake_kvm *before;
	bool refuses = true;
	char *text;

	(void)state;
	set(&s, rig_new(NULL));
	before = fake_kvm_snapshot(s.r->m->vm);
	must(kvmas_listener_add(
		s.r->m->space[SMM],
		KVMAS_CONFIG(listener, .prepare = refuse_to_prepare, .data = &refuses), &listener));
	text = rig_text(s.r);
	store_some(&s);
	assert_int_equal(change(&s), -EDOM);
	assert_as_before(&s, &expected, text, before);
	refuses = false;
	succeed(&s, &expected);
	must(kvmas_listener_del(listener));
	free(text);
	fake_kvm_free(before);
	rig_free(s.r);
	drop(&expected);
}

/* The first tie has done all it has to, then the second is refused each of its calls. */
static bool refuse_second(const struct scene *like, const struct expected *expected, unsigned k)
{
	struct scene s = *like;
	struct fake_kvm *before, *before2;
	bool hit;
	char *text;

	set(&s, rig_new(NULL));
	before = fake_kvm_snapshot(s.r->m->vm);
	before2 = fake_kvm_snapshot(s.r->m->vm2);
	text = rig_text(s.r);
	store_some(&s);
	fake_kvm_fail_at(s.r->m->vm2, k, ENOMEM);
	if (change(&s)) {
		fake_kvm_fail_never(s.r->m->vm2);
		assert_true(fake_kvm_equal_slots(s.r->m->vm2, before2));
		assert_as_before(&s, expected, text, before);
		succeed(&s, expected);
		hit = true;
	} else {
		hit = s.r->m->vm2->fail.hits;
		fake_kvm_fail_never(s.r->m->vm2);
		assert_channels(&s);
		assert_some(&s);
		assert_answers(&s, expected->after);
	}
	free(text);
	fake_kvm_free(before);
	fake_kvm_free(before2);
	rig_free(s.r);
	return hit;
}

static void second_tie_that_is_refused_takes_back_the_first(void **state)
{
	struct scene s = {.must = true, .with_second = true};
	struct expected expected = expect(s);
	unsigned k = 1;

	(void)state;
	while (refuse_second(&s, &expected, k))
		k++;
	assert_true(k > 10);
	drop(&expected);
}

/* ---- allocations ---- */

static int change_scene(struct fixture *f)
{
	return change(f->with);
}

/* Room for what may wait is kept. */
static void warm_up(struct scene *s)
{
	must(kvmas_region_set_enabled(s->device[B], false));
	must(kvmas_region_set_enabled(s->device[B], true));
}

static void failed_allocation_leaves_all_as_before(void **state)
{
	struct scene s = {.must = true, .with_second = true};
	struct expected expected = expect(s);

	(void)state;
	set(&s, rig_new(NULL));
	s.r->m->f->with = &s;
	warm_up(&s);
	assert_true(fail_each_allocation(s.r->m->f, change_scene) > 20);
	assert_channels(&s);
	assert_answers(&s, expected.after);
	rig_free(s.r);
	drop(&expected);
}

static void failed_allocation_loses_nothing_of_what_waits(void **state)
{
	struct scene s = {0};
	struct expected expected = expect(s);
	struct fake_kvm *before;
	unsigned failed = 0;
	struct heap *heap;
	char *text;

	(void)state;
	set(&s, rig_new(NULL));
	heap = &s.r->m->f->heap;
	before = fake_kvm_snapshot(s.r->m->vm);
	text = rig_text(s.r);
	for (;;) {
		store_some(&s);
		heap->failed = false;
		heap->fail_in = ++failed;
		if (change(&s) == 0)
			break;
		assert_true(heap->failed);
		assert_as_before(&s, &expected, text, before);
	}
	heap->fail_in = 0;
	assert_true(failed > 20);
	assert_some(&s);
	assert_answers(&s, expected.after);
	free(text);
	fake_kvm_free(before);
	rig_free(s.r);
	drop(&expected);
}

/* Each edit as a transaction of its own. */
static int do_edit(struct fixture *f)
{
	struct scene *s = f->with;

	return edit(s);
}

static int add_edits(struct fixture *f)
{
	struct scene *s = f->with;
	int err = add_event(s->r, s->device[A], 0x40, 4, 5);

	if (err)
		return err;
	err = kvmas_region_add_coalesced(s->device[A], 0x50, 4, 0);
	if (!err)
		err = kvmas_region_del_coalesced(s->device[A], 0x50, 4);
	else
		goto del_event;
	if (err) { /* nothing is allocated for a table that was there before: try as before */
		f->heap.fail_in = 0;
		must(kvmas_region_del_coalesced(s->device[A], 0x50, 4));
		goto del_event;
	}
	return 0;
del_event:
	f->heap.fail_in = 0;
	must(del_event(s->device[A], 0x40, 4));
	return err;
}

static void failed_allocation_of_an_edit_leaves_all_as_before(void **state)
{
	struct scene s = {0};

	(void)state;
	set(&s, rig_new(NULL));
	s.r->m->f->with = &s;
	assert_true(fail_each_allocation(s.r->m->f, add_edits) > 10);
	must(do_edit(s.r->m->f));
	assert_channels(&s);
	rig_free(s.r);
}

/* ---- the dry run ---- */

static int foretell(struct fixture *f)
{
	struct scene *s = f->with;
	struct kvmas *kvmas = f->kvmas;
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan)};
	int err = kvmas_begin(kvmas);

	if (err)
		return err;
	err = edit(s);
	if (!err)
		err = kvmas_kvm_dry_run(s->r->m->kvm, NULL, NULL, &plan);
	if (!err)
		assert_int_equal(plan.channel_unmakes, 7);
	if (!err)
		assert_int_equal(plan.channel_makes, 7);
	must(kvmas_abort(kvmas));
	return err;
}

static void dry_run_tells_what_the_commit_does(void **state)
{
	struct scene s = {0};
	struct kvmas_kvm_stats before, after;

	(void)state;
	set(&s, rig_new(NULL));
	s.r->m->f->with = &s;
	before = stats_of(s.r->m);
	assert_true(fail_each_allocation(s.r->m->f, foretell) > 10);
	must(change(&s));
	after = stats_of(s.r->m);
	assert_int_equal(after.channel_unmakes - before.channel_unmakes, 7);
	assert_int_equal(after.channel_makes - before.channel_makes, 7);
	rig_free(s.r);
}

/* The first must comes, the second is refused, and so is the first's going, as often as asked. */
static bool refuse_from_the_second_on(struct machine *m, unsigned long request, int *result)
{
	unsigned *nchannels = m->data;

	*result = -ENOMEM;
	return request == KVM_IOEVENTFD && (*nchannels)++ > 0;
}

static void must_that_stays_leaves_other_channels_in_kvm(void **state)
{
	struct rig *r = rig_new(NULL);
	struct kvmas *kvmas = r->m->f->kvmas;
	struct kvmas_region *a = put_both(r, "a", pages(8), 0);
	unsigned nchannels = 0;

	(void)state;
	put_ram(r->m, NORMAL, "ram", 0, 1);
	must(kvmas_begin(kvmas));
	for (unsigned i = 0; i < 2; i++)
		must(kvmas_region_add_ioeventfd(a, KVMAS_CONFIG(ioeventfd, .offset = 0x40 + 8 * i,
								.size = 4, .fd = r->events[1],
								.flags = KVMAS_CHANNEL_MUST)));
	r->m->data = &nchannels;
	r->m->answer = refuse_from_the_second_on;
	assert_int_equal(kvmas_commit(kvmas), -ENOTRECOVERABLE);
	r->m->answer = NULL;
	assert_int_equal(stats_of(r->m).channels_in_kvm, 2 + 1);
	assert_int_equal(stats_of(r->m).channels_by_hand, 0);
	must(kvmas_region_set_offset(a, pages(9)));
	assert_placed(r, 2, 0);
	store_both(r, NORMAL, pages(9));
	look(r, "a+10/4=2 #0x1 ");
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_ioctl_leaves_all_as_before),
		cmocka_unit_test(refused_ioctl_leaves_all_as_before_with_musts),
		cmocka_unit_test(refused_ioctl_leaves_all_as_before_in_two_vms),
		cmocka_unit_test(refused_undoing_leaves_channels_to_dispatch),
		cmocka_unit_test(refused_undoing_of_musts_is_made_good_by_the_next_commit),
		cmocka_unit_test(must_that_stays_leaves_other_channels_in_kvm),
		cmocka_unit_test(listener_that_refuses_leaves_all_as_before),
		cmocka_unit_test(second_tie_that_is_refused_takes_back_the_first),
		cmocka_unit_test(failed_allocation_leaves_all_as_before),
		cmocka_unit_test(failed_allocation_loses_nothing_of_what_waits),
		cmocka_unit_test(failed_allocation_of_an_edit_leaves_all_as_before),
		cmocka_unit_test(dry_run_tells_what_the_commit_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
