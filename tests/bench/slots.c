/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench slots [--quick] [--check] [--csv]
 *
 * What planning and applying add to KVM's own time when slots change: whole transactions (edit,
 * render, plan, apply, publish), less what the same ones cost that no KVM follows, beside the very
 * ioctls that they issued, for 1, 100 and 10000 slots. Two VMs have the same slots (pair.c). A
 * round does a thing on the library's, in the tree without a KVM, and from the tape on the other
 * VM, or the other way round; its ratio is that of these times. KVM's times waver from round to
 * round and drift from second to second: the median of the rounds' ratios does not.
 *
 * One slot is a page, the least that KVM can be asked for. What is done to one, is done to one
 * drawn at random; the other VM is a round behind then, so that neither finds in its caches what
 * the other has just used.
 *
 *   --quick   few rounds: seconds in all
 *   --check   status 1 if a ratio is higher than slots-report.c allows
 *   --csv     lines of comma-separated values
 *
 * Status 77, and a line that says so, where there is no /dev/kvm.
 */
#include "slots.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

const unsigned slots_sizes[NSLOTS_SIZES] = {1, 100, 10000};

/* Whatever the time: of few, a median says little; in short, it need not. */
enum { MIN_ROUNDS = 21, MIN_ROUNDS_IN_SHORT = 5, IN_SHORT = 100 };

/* Ratios are kept as samples of ns, in millionths. */
#define RATIO_UNIT 1000000

/* The samples of one work. */
struct taken {
	struct samples library, bare, raw, wholes, ratios;
};

struct round {
	enum work work;
	bool backwards; /* the library's turn is the last */
	struct tape *record;
	const struct tape *replay;
};

static void taken_init(struct taken *taken, size_t capacity)
{
	samples_init(&taken->library, capacity);
	samples_init(&taken->bare, capacity);
	samples_init(&taken->raw, capacity);
	samples_init(&taken->wholes, capacity);
	samples_init(&taken->ratios, capacity);
}

static void taken_fini(struct taken *taken)
{
	samples_fini(&taken->library);
	samples_fini(&taken->bare);
	samples_fini(&taken->raw);
	samples_fini(&taken->wholes);
	samples_fini(&taken->ratios);
}

static void taken_empty(struct taken *taken)
{
	taken->library.count = taken->bare.count = taken->raw.count = 0;
	taken->wholes.count = taken->ratios.count = 0;
}

static struct slots_cell taken_summarise(struct taken *taken)
{
	return (struct slots_cell){
		.library = samples_summarise(&taken->library),
		.bare = samples_summarise(&taken->bare),
		.raw = samples_summarise(&taken->raw),
		.whole = samples_summarise(&taken->wholes).median * 1000 / RATIO_UNIT,
		.ratio = samples_summarise(&taken->ratios).median * 1000 / RATIO_UNIT,
	};
}

static void time_library(struct taken *taken, struct pair *pair, const struct round *round)
{
	uint64_t start = clock_ns();

	pair_do(pair, round->work, round->record);
	taken->library.ns[taken->library.count++] = clock_ns() - start;
}

static void time_bare(struct taken *taken, struct pair *pair, const struct round *round)
{
	uint64_t start = clock_ns();

	pair_do_bare(pair, round->work);
	taken->bare.ns[taken->bare.count++] = clock_ns() - start;
}

static void time_raw(struct taken *taken, struct pair *pair, const struct round *round)
{
	uint64_t start = clock_ns();

	pair_replay(pair, round->replay);
	taken->raw.ns[taken->raw.count++] = clock_ns() - start;
}

static void take(struct taken *taken, struct pair *pair, const struct round *round)
{
	static void (*const timed[])(struct taken *, struct pair *, const struct round *) = {
		time_library,
		time_bare,
		time_raw,
	};
	size_t i = taken->ratios.count++;
	uint64_t library, bare, raw;

	for (unsigned turn = 0; turn < 3; turn++)
		timed[round->backwards ? 2 - turn : turn](taken, pair, round);
	library = taken->library.ns[i];
	bare = taken->bare.ns[i];
	raw = taken->raw.ns[i];
	taken->wholes.ns[taken->wholes.count++] = library * RATIO_UNIT / raw;
	taken->ratios.ns[i] = (library > bare ? library - bare : 0) * RATIO_UNIT / raw;
}

static bool goes_on(const struct budget *budget, uint64_t deadline, size_t rounds)
{
	size_t least = budget->samples > IN_SHORT ? MIN_ROUNDS : MIN_ROUNDS_IN_SHORT;

	return rounds < least || (rounds < budget->samples && clock_ns() < deadline);
}

/* All slots: dropped, and made again. Both tapes are the same in every round. */
static void measure_all(struct pair *pair, const struct budget *budget, struct taken *taken,
			struct slots_cell *cells)
{
	uint64_t deadline;
	size_t rounds;

	for (enum work work = WORK_DROP; work <= WORK_MAKE; work++) {
		taken_empty(&taken[work]);
		pair_do(pair, work, &pair->tapes[work]);
	}
	deadline = clock_ns() + budget->ns;
	for (rounds = 0; goes_on(budget, deadline, rounds); rounds++) {
		for (enum work work = WORK_DROP; work <= WORK_MAKE; work++) {
			struct kvmas_kvm_stats before = pair_stats(pair);
			struct tape *tape = &pair->tapes[work];

			take(&taken[work], pair, &(struct round){work, rounds & 1, tape, tape});
			pair_expect(pair, work, 1, &before);
		}
	}
	for (enum work work = WORK_DROP; work <= WORK_MAKE; work++)
		cells[work] = taken_summarise(&taken[work]);
}

/* One slot, another one in each round; the other VM is a round behind. */
static struct slots_cell measure_one(struct pair *pair, enum work work, const struct budget *budget,
				     struct taken *taken)
{
	struct kvmas_kvm_stats before = pair_stats(pair);
	uint64_t deadline = clock_ns() + budget->ns;
	size_t rounds;

	taken_empty(taken);
	pair_draw(pair);
	pair_do(pair, work, &pair->tapes[1]);
	for (rounds = 0; goes_on(budget, deadline, rounds); rounds++) {
		unsigned now = rounds & 1;

		pair_draw(pair);
		take(taken, pair,
		     &(struct round){work, rounds >> 1 & 1, &pair->tapes[now], &pair->tapes[!now]});
	}
	pair_expect(pair, work, rounds + 1, &before);
	return taken_summarise(taken);
}

static void measure(struct slots_results *results, int kvm_fd)
{
	const struct budget *budget = &results->budget;
	struct taken taken[2];
	struct pair pair;

	for (unsigned i = 0; i < 2; i++)
		taken_init(&taken[i], budget->samples);
	for (unsigned size = 0; size < NSLOTS_SIZES; size++) {
		struct slots_cell *cells = results->cells[size];

		pair_open(&pair, kvm_fd, slots_sizes[size]);
		measure_all(&pair, budget, taken, cells);
		for (enum work work = WORK_FLIP; work < NWORKS; work++)
			cells[work] = measure_one(&pair, work, budget, &taken[0]);
		pair_close(&pair);
	}
	for (unsigned i = 0; i < 2; i++)
		taken_fini(&taken[i]);
}

struct options {
	bool quick;
	bool check;
	bool csv;
};

/* Nothing, where an argument is none of these. */
static bool parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick"))
			options->quick = true;
		else if (!strcmp(argv[i], "--check"))
			options->check = true;
		else if (!strcmp(argv[i], "--csv"))
			options->csv = true;
		else
			return false;
	}
	return true;
}

int bench_slots(int argc, char **argv)
{
	static const struct budget full = {5000, 5000000000};
	static const struct budget quick = {IN_SHORT, 50000000};
	struct slots_results results = {0};
	struct options options = {0};
	int kvm_fd;

	if (!parse(argc, argv, &options)) {
		fprintf(stderr, "usage: kvmas-bench slots [--quick] [--check] [--csv]\n");
		return BENCH_FAILED;
	}
	kvm_fd = pair_open_kvm();
	if (kvm_fd < 0) {
		fprintf(stderr, "kvmas-bench slots: not run: /dev/kvm: %s\n", strerror(errno));
		return BENCH_SKIPPED;
	}
	results.budget = options.quick ? quick : full;
	measure(&results, kvm_fd);
	close(kvm_fd);
	if (options.csv)
		slots_print_csv(stdout, &results);
	else
		slots_print_table(stdout, &results);
	return options.check && slots_check(stderr, &results) ? BENCH_BROKEN : BENCH_OK;
}
