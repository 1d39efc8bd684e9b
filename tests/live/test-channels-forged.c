/* SPDX-License-Identifier: MIT */
/*
 * The ring of coalesced writes, of a guest that runs, overwritten by somebody at random: its
 * indices, and what stands in it. The library says -EPROTO at most, and calls nobody with what no
 * vCPU could have written; when that has ended every access arrives once and in order, as before.
 *
 * KVMAS_SECONDS (3): how long.
 */
#include "board.h"
#include "knobs.h"

#include <sys/ioctl.h>
#include <time.h>

enum {
	CLEAN_STAGES = 3,
};

struct forger {
	struct guest *g;
	struct kvm_coalesced_mmio_ring *ring;
	pthread_t thread;
	bool entries; /* knob: entries too */
	_Atomic bool over;
	uint64_t seed;
	uint64_t writes;
};

static uint32_t chance(struct forger *forger, uint32_t n)
{
	forger->seed = forger->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(forger->seed >> 33) % n;
}

static uint32_t choose_index(struct forger *forger)
{
	static const uint32_t special[] = {0,   169,        170,        171,
					   255, 0x7fffffff, 0x80000000, UINT32_MAX};

	if (chance(forger, 3))
		return chance(forger, 172);
	return chance(forger, 2) ? special[chance(forger, LENGTH(special))]
				 : chance(forger, 0x7fffffff);
}

/* Anything, but at addresses of devices' or nobody's: it is not to write the guest's program. */
static void forge_entry(struct forger *forger)
{
	struct kvm_coalesced_mmio *entry = &forger->ring->coalesced_mmio[chance(forger, 170)];
	uint64_t address = ((uint64_t)1 << 20) + chance(forger, 8 * PAGE);

	if (chance(forger, 8) == 0)
		address = UINT64_MAX - chance(forger, 16);
	__atomic_store_n(&entry->phys_addr, address, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->len, chance(forger, 3) ? chance(forger, 12) : UINT32_MAX,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&entry->pio, chance(forger, 4) == 0, __ATOMIC_RELAXED);
}

static void *forger_main(void *arg)
{
	const struct timespec moment = {.tv_nsec = 20000};
	struct forger *forger = arg;

	while (!atomic_load(&forger->over)) {
		if (forger->entries && chance(forger, 2))
			forge_entry(forger);
		if (chance(forger, 2))
			__atomic_store_n(&forger->ring->first, choose_index(forger),
					 __ATOMIC_RELAXED);
		if (chance(forger, 2))
			__atomic_store_n(&forger->ring->last, choose_index(forger),
					 __ATOMIC_RELAXED);
		forger->writes++;
		if (forger->writes % 8 == 0)
			nanosleep(&moment, NULL);
	}
	return NULL;
}

static void rest(void)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	nanosleep(&moment, NULL);
}

static void change(struct board *board)
{
	int err;

	board_change(board, MAX_VCPUS);
	err = kvmas_kvm_drain(board->g->kvm, board->g->f->reader);
	assert_true(err == 0 || err == -EPROTO);
	rest();
}

static void run_forged(struct board *board, struct forger *forger)
{
	double end = now() + seconds(3) / 2.0;

	must(pthread_create(&forger->thread, NULL, forger_main, forger));
	board_start(board);
	for (;;) {
		board_wait(board, change);
		board_forget(board);
		assert_int_equal(atomic_load(&board->error), 0);
		if (now() > end)
			break;
		board_go_on(board);
	}
	atomic_store(&forger->over, true);
	pthread_join(forger->thread, NULL);
}

static uint64_t found(const struct board *board)
{
	uint64_t count = 0;

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		count += atomic_load(&board->g->vcpus[v].found_forged);
	return count;
}

/* What the ring says last may be wrong, once. */
static void run_clean(struct board *board)
{
	double end = now() + seconds(3) / 2.0;
	int err = kvmas_kvm_drain(board->g->kvm, board->g->f->reader);

	assert_true(err == 0 || err == -EPROTO);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		board->g->vcpus[v].forged = false;
	for (unsigned i = 0; i < CLEAN_STAGES || now() < end; i++) {
		const char *wrong;

		board_go_on(board);
		board_wait(board, change);
		wrong = board_check(board);
		if (wrong)
			fail_msg("%s", wrong);
	}
}

static void forged_ring_is_noticed_and_emptied(void **state, bool entries)
{
	struct board *board = board_make(state, NULL);
	const struct vcpu *vcpu = &board->g->vcpus[0];
	int page = ioctl(guest_system_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	struct forger forger = {.g = board->g, .entries = entries, .seed = 7};
	struct kvmas_kvm_stats stats;

	assert_true(page > 0);
	forger.ring = (void *)((char *)vcpu->run + (size_t)page * PAGE);
	for (unsigned v = 0; v < MAX_VCPUS; v++)
		board->g->vcpus[v].forged = true;
	run_forged(board, &forger);
	run_clean(board);
	stats = guest_stats(board->g);
	print_message(
		"forged: %llu times; %llu exits found it, %llu strays, %llu writes handed on; "
		"%llu accesses afterwards\n",
		(unsigned long long)forger.writes, (unsigned long long)found(board),
		(unsigned long long)stats.coalesced_strays,
		(unsigned long long)stats.coalesced_writes,
		(unsigned long long)board->ledger.accesses);
	assert_true(found(board) > 0);
	assert_true(!entries || stats.coalesced_strays > 0);
	board_end(board);
}

static void forged_indices_are_noticed_and_the_ring_goes_on(void **state)
{
	forged_ring_is_noticed_and_emptied(state, false);
}

static void forged_entries_do_no_harm(void **state)
{
	forged_ring_is_noticed_and_emptied(state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOARD_TEST(forged_indices_are_noticed_and_the_ring_goes_on),
		BOARD_TEST(forged_entries_do_no_harm),
	};

	return guest_main("live-channels-forged", tests, LENGTH(tests), 1);
}
