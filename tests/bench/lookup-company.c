/* SPDX-License-Identifier: MIT */
/*
 * Lookups in company: random addresses, a view pinned for each.
 *
 *   scaling   two threads look in one space, or each in one of its own; a thread's rate is that of
 *             its own time, and those of the two are added
 *   slowdown  a thread looks while another one commits 10000 times a second: in the tree that is
 *             looked at, or in one just like it of another kvmas. So that thread does the same in
 *             both cases, and what differs is what its commits do to readers.
 *
 * A commit shows or hides one of the pages, drawn at random: one lookup in 2n misses.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "lookup.h"
#include "stats.h"

enum { MAX_ROUNDS = 101, PASSES = 4, COMMIT_NS = 100000 };

struct looker {
	const struct field *field;
	struct kvmas_space *space;
	struct kvmas_reader *reader;
	pthread_barrier_t *start;
	double ns; /* of one lookup */
};

static void look(struct looker *looker)
{
	struct addresses addresses = {looker->field->addresses[PATTERN_RANDOM],
				      FIELD_NADDRESSES / 8, looker->field->nothing};
	uint64_t sum = 0;
	uint64_t start;

	sum += field_run_each(looker->reader, looker->space, &addresses);
	addresses.count = FIELD_NADDRESSES;
	start = clock_ns();
	for (unsigned i = 0; i < PASSES; i++)
		sum += field_run_each(looker->reader, looker->space, &addresses);
	looker->ns = (double)(clock_ns() - start) / (PASSES * (double)FIELD_NADDRESSES);
	bench_expect(sum > 0);
}

static void *look_in_thread(void *data)
{
	struct looker *looker = data;

	pthread_barrier_wait(looker->start);
	look(looker);
	return NULL;
}

/* Two threads at once: nanoseconds of a thread's lookup, the mean of their rates. */
static double time_two(const struct field *field, struct kvmas_reader *const readers[2],
		       unsigned second_space)
{
	struct looker lookers[2];
	pthread_barrier_t start;
	pthread_t threads[2];

	pthread_barrier_init(&start, NULL, 2);
	for (unsigned i = 0; i < 2; i++) {
		lookers[i] = (struct looker){
			.field = field,
			.space = field->scene.spaces[i ? second_space : 0],
			.reader = readers[i],
			.start = &start,
		};
		must(-pthread_create(&threads[i], NULL, look_in_thread, &lookers[i]));
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	return 2 / (1 / lookers[0].ns + 1 / lookers[1].ns);
}

static void measure_scaling(struct lookup_company *company, const struct field *field,
			    unsigned rounds)
{
	double one[MAX_ROUNDS], two[MAX_ROUNDS], ratios[MAX_ROUNDS];
	struct kvmas_reader *readers[2] = {field->reader};

	must(kvmas_reader_add(field->scene.kvmas, &readers[1]));
	for (unsigned i = 0; i < rounds; i++) {
		one[i] = time_two(field, readers, 0);
		two[i] = time_two(field, readers, 1);
		ratios[i] = two[i] / one[i];
	}
	kvmas_reader_del(readers[1]);
	company->one_space = stats_median(one, rounds);
	company->two_spaces = stats_median(two, rounds);
	company->scaling = stats_median(ratios, rounds);
}

/* ---- beside a thread that commits ---- */

struct committer {
	struct scene *scene;
	pthread_barrier_t started;
	atomic_bool stop;
	double rate; /* a second */
};

static void commit_once(struct scene *scene, unsigned i)
{
	if (i % 2 == 0)
		scene->choice.region = scene->devices[scene_random(scene, scene->config.ndevices)];
	must(kvmas_region_set_enabled(scene->choice.region, i % 2));
}

static void *commit_in_thread(void *data)
{
	struct committer *committer = data;
	uint64_t start;
	unsigned count = 0;

	pthread_barrier_wait(&committer->started);
	start = clock_ns();
	while (!atomic_load_explicit(&committer->stop, memory_order_relaxed) || count % 2) {
		if (clock_ns() - start >= (uint64_t)count * COMMIT_NS)
			commit_once(committer->scene, count++);
	}
	committer->rate = count * 1e9 / (double)(clock_ns() - start);
	return NULL;
}

/* Nanoseconds of a lookup in *field*, beside a thread that commits in *scene*. */
static double time_beside(const struct field *field, struct scene *scene, double *rate)
{
	struct looker looker = {
		.field = field, .space = field->scene.spaces[0], .reader = field->reader};
	struct committer committer = {.scene = scene};
	pthread_t thread;

	pthread_barrier_init(&committer.started, NULL, 2);
	must(-pthread_create(&thread, NULL, commit_in_thread, &committer));
	pthread_barrier_wait(&committer.started);
	look(&looker);
	atomic_store(&committer.stop, true);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&committer.started);
	*rate = committer.rate;
	return looker.ns;
}

static void measure_slowdown(struct lookup_company *company, struct field *field,
			     struct field *elsewhere, unsigned rounds)
{
	double committing[MAX_ROUNDS], busy[MAX_ROUNDS], ratios[MAX_ROUNDS], rates[MAX_ROUNDS];
	double ignored;

	for (unsigned i = 0; i < rounds; i++) {
		committing[i] = time_beside(field, &field->scene, &rates[i]);
		busy[i] = time_beside(field, &elsewhere->scene, &ignored);
		ratios[i] = committing[i] / busy[i];
	}
	company->committing = stats_median(committing, rounds);
	company->busy = stats_median(busy, rounds);
	company->slowdown = stats_median(ratios, rounds);
	company->commits = stats_median(rates, rounds);
}

void lookup_measure_company(struct lookup_company *company, struct field *field,
			    struct field *elsewhere, unsigned rounds)
{
	bench_expect(rounds <= MAX_ROUNDS);
	measure_scaling(company, field, rounds);
	measure_slowdown(company, field, elsewhere, rounds);
}
