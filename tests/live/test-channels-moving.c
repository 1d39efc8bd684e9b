/* SPDX-License-Identifier: MIT */
/*
 * Two vCPUs that write to ioeventfds and coalesced zones, in memory and ports, with accesses to
 * other devices in between, while the regions move, are hidden, deleted and put back, lose their
 * channels and get them back: by commits of another thread, and of a device that they write to.
 * Every access arrives once, in its vCPU's order, at who was there: board.h, ledger.h.
 *
 * KVMAS_SECONDS (3): how long.
 */
#include "board.h"
#include "knobs.h"

#include <sys/ioctl.h>
#include <time.h>

enum { PATIENCE = 60 }; /* seconds */

static void rest(struct board *board, uint32_t most_us)
{
	struct timespec moment = {.tv_nsec =
					  (long)(board->seeds[MAX_VCPUS] >> 33) % (most_us * 1000)};

	nanosleep(&moment, NULL);
}

/* And a thread that is no vCPU hands on, now and then. */
static void change_and_rest(struct board *board)
{
	board_change(board, MAX_VCPUS);
	if (board->changes % 3 == 0)
		assert_int_equal(kvmas_kvm_drain(board->g->kvm, board->g->f->reader), 0);
	rest(board, 1000);
}

static void print(const struct board *board, const char *name)
{
	struct kvmas_kvm_stats stats = guest_stats(board->g);

	print_message("%s: %llu accesses, %llu callbacks, %llu signals (%llu by dispatch), %llu "
		      "coalesced, %llu exits, %llu changes; %llu channels made, %llu unmade; "
		      "%llu accesses open\n",
		      name, (unsigned long long)board->ledger.accesses,
		      (unsigned long long)board->ledger.arrived, (unsigned long long)board->signals,
		      (unsigned long long)stats.events, (unsigned long long)stats.coalesced_writes,
		      (unsigned long long)(stats.mmio_exits + stats.pio_exits),
		      (unsigned long long)board->changes, (unsigned long long)stats.channel_makes,
		      (unsigned long long)stats.channel_unmakes,
		      (unsigned long long)board->ledger.open);
}

/* Whether enough has happened: on a slow machine it may take longer. */
static bool is_busy(const struct board *board)
{
	struct kvmas_kvm_stats stats = guest_stats(board->g);

	return board->changes > 100 && stats.coalesced_writes > 100 && stats.events > 0 &&
	       board->signals > stats.events;
}

/* Until something is wrong, which is returned, or the time is over. */
static const char *run(struct board *board)
{
	double end = now() + seconds(3);

	board_start(board);
	for (;;) {
		const char *wrong;

		board_wait(board, change_and_rest);
		wrong = board_check(board);
		if (wrong || now() > end + (is_busy(board) ? 0 : PATIENCE))
			return wrong;
		board_go_on(board);
	}
}

static void accesses_arrive_once_and_in_order_while_devices_move(void **state)
{
	struct board *board = board_make(state, NULL);
	const char *wrong = run(board);

	print(board, "moving");
	if (wrong)
		fail_msg("%s", wrong);
	assert_true(is_busy(board));
	assert_int_equal(guest_stats(board->g).coalesced_strays, 0);
	assert_int_equal(guest_stats(board->g).unassigned, 0);
	board_end(board);
}

/* ---- controls: what the ledger must see ---- */

/* KVM keeps what it is told to let go of. */
static bool keep_zones(struct guest *g, unsigned long request, void *arg, int *result)
{
	(void)g;
	(void)arg;
	*result = 0;
	return request == KVM_UNREGISTER_COALESCED_MMIO;
}

static bool keep_events(struct guest *g, unsigned long request, void *arg, int *result)
{
	const struct kvm_ioeventfd *event = arg;

	(void)g;
	*result = 0;
	return request == KVM_IOEVENTFD && event->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
}

/* KVM has every ioeventfd for another eventfd's. */
static bool swap_events(struct guest *g, unsigned long request, void *arg, int *result)
{
	struct board *board = g->data;
	struct kvm_ioeventfd event;

	if (request != KVM_IOEVENTFD)
		return false;
	event = *(struct kvm_ioeventfd *)arg;
	event.fd = board->decoy;
	*result = ioctl(g->vm, request, &event) < 0 ? -errno : 0;
	return true;
}

static void expect_wrong(void **state, guest_meddle_fn *meddle)
{
	struct board *board = board_make(state, meddle);
	const char *wrong = run(board);

	assert_non_null(wrong);
	print_message("control: %s\n", wrong);
	board_end(board);
}

static void zone_that_stays_behind_is_found(void **state)
{
	expect_wrong(state, keep_zones);
}

static void ioeventfd_that_stays_behind_is_found(void **state)
{
	expect_wrong(state, keep_events);
}

static void ioeventfd_for_another_is_found(void **state)
{
	expect_wrong(state, swap_events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOARD_TEST(accesses_arrive_once_and_in_order_while_devices_move),
		BOARD_TEST(zone_that_stays_behind_is_found),
		BOARD_TEST(ioeventfd_that_stays_behind_is_found),
		BOARD_TEST(ioeventfd_for_another_is_found),
	};

	return guest_main("live-channels-moving", tests, LENGTH(tests), 1);
}
