/* SPDX-License-Identifier: MIT */
/*
 * Stages of a board (board.h): both vCPUs make their accesses so many times and wait; then it is
 * looked at where all of them have arrived. Read board_check first.
 */
#include "board.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void doze(void)
{
	const struct timespec moment = {.tv_nsec = 100000};

	nanosleep(&moment, NULL);
}

/* On the vCPU's thread, at the end of a stage. */
static void turn(struct vcpu *vcpu)
{
	struct board *board = vcpu->guest->data;
	unsigned stage = atomic_load(&board->stage);

	atomic_fetch_add(&board->parked, 1);
	while (atomic_load(&board->stage) == stage && !atomic_load(&vcpu->stop))
		doze();
}

void board_start(struct board *board)
{
	const uint32_t turn_every[MAX_VCPUS] = {1, 1};

	for (unsigned v = 0; v < MAX_VCPUS; v++)
		board->g->vcpus[v].turn = turn;
	ledger_begin(&board->ledger);
	guest_start(board->g, turn_every);
}

void board_wait(struct board *board, void (*fn)(struct board *board))
{
	while (atomic_load(&board->parked) < MAX_VCPUS) {
		const char *wrong = guest_wrong(board->g);

		if (wrong)
			fail_msg("%s", wrong);
		fn(board);
	}
}

static uint64_t signals_of(const struct board *board, unsigned mover, unsigned vcpu, unsigned entry)
{
	uint64_t count = 0;

	if (board->fds[mover][vcpu][entry] < 0 ||
	    read(board->fds[mover][vcpu][entry], &count, sizeof(count)) < 0)
		return 0;
	return count;
}

static bool check_signals(struct board *board, unsigned vcpu, unsigned entry)
{
	struct ledger *ledger = &board->ledger;
	uint32_t least = ledger->signalled[vcpu][entry];
	uint64_t sum = 0;
	bool good = true;

	for (unsigned i = 0; i < NMOVERS; i++) {
		uint64_t count = signals_of(board, i, vcpu, entry);

		good = good && count >= ledger->least[vcpu][entry][SIGNAL + i] &&
		       count <= ledger->most[vcpu][entry][SIGNAL + i];
		sum += count;
	}
	board->signals += sum;
	if (good && sum >= least && sum <= least + ledger->most[vcpu][entry][RAM])
		return true;
	snprintf(ledger->wrong, sizeof(ledger->wrong),
		 "vCPU %u's entry %u has signalled %llu times, not %u", vcpu, entry,
		 (unsigned long long)sum, least);
	return false;
}

const char *board_check(struct board *board)
{
	if (atomic_load(&board->error))
		fail_msg("a commit or an edit: %s", strerror(-atomic_load(&board->error)));
	must(kvmas_kvm_drain(board->g->kvm, board->g->f->reader));
	if (!ledger_check(&board->ledger))
		return board->ledger.wrong;
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned entry = 0; entry < board->nentries; entry++) {
			if (!check_signals(board, v, entry))
				return board->ledger.wrong;
		}
	}
	return NULL;
}

void board_forget(struct board *board)
{
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned entry = 0; entry < board->nentries; entry++) {
			for (unsigned i = 0; i < NMOVERS; i++)
				signals_of(board, i, v, entry);
		}
	}
}

/* The next stage begins with the map that this one ended with. */
void board_go_on(struct board *board)
{
	board->maps[0] = board->maps[board->ledger.nmaps - 1];
	ledger_begin(&board->ledger);
	atomic_store(&board->parked, 0);
	atomic_fetch_add(&board->stage, 1);
}

void board_end(struct board *board)
{
	guest_end_well(board->g);
	close(board->decoy);
	for (unsigned i = 0; i < NMOVERS; i++) {
		kvmas_region_unref(board->movers[i]);
		for (unsigned v = 0; v < MAX_VCPUS; v++) {
			for (unsigned entry = 0; entry < LEDGER_ENTRIES; entry++) {
				if (board->fds[i][v][entry] >= 0)
					close(board->fds[i][v][entry]);
			}
		}
	}
}
