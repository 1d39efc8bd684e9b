/* SPDX-License-Identifier: MIT */
/*
 * kvmas-bench dirty [--quick] [--spaces] [--check] [--csv]
 *
 * What the library adds to KVM's own time when dirty pages are found out: kvmas_space_sync, then
 * kvmas_client_take of all of RAM, which has KVM watch the pages again; beside the bare ioctls and
 * an atomic OR of what they told into a bitmap. Two VMs have the same slots (twin.c); in each round
 * both guests store to the same pages, outside of what is timed, and both logs are read, in turns;
 * what they tell must be just these pages.
 *
 *   cycles   the ratio of the two times, with one client
 *   clients  the library's own time, ioctls apart, with one client more, less that without: of the
 *            sync, and of the sync and the takes; beside an atomic OR of what was told, which is
 *            done once in each round
 *   spaces   the time of syncing two spaces, the second of them idle, less that of syncing one;
 *            beside the second one's ioctls, or, where it has none, the least of KVM's ioctls
 *
 *   --quick   few rounds and little RAM: seconds in all
 *   --spaces  only the last ones: no page is touched for these
 *   --check   status 1 if a figure is higher than dirty-report.c allows
 *   --csv     lines of comma-separated values
 *
 * Status 77, and a line that says so, where there is no /dev/kvm; or with --spaces where KVM has
 * one address space only.
 */
#include "dirty.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "twin.h"

/* Whatever the time: of few, a median says little; in short, it need not. */
enum { MIN_ROUNDS = 21, MIN_ROUNDS_IN_SHORT = 3, IN_SHORT = 20, WARM_UP = 2 };

enum { PAGES = 1 << 18, PAGES_IN_SHORT = 1 << 14 };

/* Ratios are kept as samples of ns, in millionths. */
#define RATIO_UNIT 1000000

/* ---- which pages are written ---- */

static struct load no_page(uint64_t npages)
{
	(void)npages;
	return (struct load){0, 1, 0};
}

static struct load one_in_100(uint64_t npages)
{
	return (struct load){0, 100, npages / 100};
}

static struct load every_page(uint64_t npages)
{
	return (struct load){0, 1, npages};
}

static struct load pages_60000(uint64_t npages)
{
	uint64_t count = npages < 60000 ? npages : 60000;

	return (struct load){0, npages / count, count};
}

/* One in a hundred of the eighth piece. */
static struct load in_one_piece(uint64_t npages)
{
	uint64_t piece = npages / TWIN_MAX_PIECES;

	return (struct load){7 * piece, 100, (piece + 99) / 100};
}

/* ---- what is measured ---- */

struct job {
	const char *what;
	enum kvmas_kvm_log log;
	unsigned npieces;
	struct load (*load)(uint64_t npages);
	bool restarts;     /* the pages are dirty because logging has just begun */
	unsigned nclients; /* where it is the last one that is measured */
};

static const struct job cycles[] = {
	{"clean", KVMAS_KVM_LOG_AUTO, 1, no_page},
	{"1 %", KVMAS_KVM_LOG_AUTO, 1, one_in_100},
	{"100 %", KVMAS_KVM_LOG_AUTO, 1, every_page},
	{"1 of 64 slots", KVMAS_KVM_LOG_AUTO, 64, in_one_piece},
	{"clean", KVMAS_KVM_LOG_MANUAL, 1, no_page},
	{"1 %", KVMAS_KVM_LOG_MANUAL, 1, one_in_100},
	{"100 %", KVMAS_KVM_LOG_MANUAL, 1, every_page},
	{"1 of 64 slots", KVMAS_KVM_LOG_MANUAL, 64, in_one_piece},
	{"first round", KVMAS_KVM_LOG_MANUAL_SET, 1, every_page, .restarts = true},
	{"1 %", KVMAS_KVM_LOG_RING, 1, one_in_100},
	{"60000 pages", KVMAS_KVM_LOG_RING, 1, pages_60000},
};

static const struct job clients[] = {
	{"clean, client 2", KVMAS_KVM_LOG_AUTO, 1, no_page, .nclients = 2},
	{"clean, client 3", KVMAS_KVM_LOG_AUTO, 1, no_page, .nclients = 3},
	{"1 %, client 2", KVMAS_KVM_LOG_AUTO, 1, one_in_100, .nclients = 2},
	{"1 %, client 3", KVMAS_KVM_LOG_AUTO, 1, one_in_100, .nclients = 3},
	{"100 %, client 2", KVMAS_KVM_LOG_AUTO, 1, every_page, .nclients = 2},
	{"100 %, client 3", KVMAS_KVM_LOG_AUTO, 1, every_page, .nclients = 3},
	{"1 %, client 2", KVMAS_KVM_LOG_MANUAL, 1, one_in_100, .nclients = 2},
	{"1 %, client 3", KVMAS_KVM_LOG_MANUAL, 1, one_in_100, .nclients = 3},
	{"60000 pages, client 2", KVMAS_KVM_LOG_RING, 1, pages_60000, .nclients = 2},
	{"60000 pages, client 3", KVMAS_KVM_LOG_RING, 1, pages_60000, .nclients = 3},
};

static const struct {
	const char *what;
	enum kvmas_kvm_log log;
	bool log_second;
} spaces[] = {
	{"logged, 2 slots", KVMAS_KVM_LOG_AUTO, true},
	{"logged, 2 slots", KVMAS_KVM_LOG_MANUAL, true},
	{"not logged", KVMAS_KVM_LOG_AUTO},
	{"logged", KVMAS_KVM_LOG_RING, true},
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* What is taken of each round. */
struct figure {
	struct samples library, beside, ratios;
};

struct run {
	int kvm_fd;
	struct dirty_results *results;
	uint64_t npages;
	uint64_t deadline;
	struct figure figures[2];
};

static void empty_samples(struct run *run)
{
	for (unsigned i = 0; i < LENGTH(run->figures); i++) {
		struct figure *figure = &run->figures[i];

		figure->library.count = figure->beside.count = figure->ratios.count = 0;
	}
}

static void keep(struct samples *samples, uint64_t ns)
{
	samples->ns[samples->count++] = ns;
}

static void start_rounds(struct run *run)
{
	empty_samples(run);
	run->deadline = clock_ns() + run->results->budget.ns;
}

static bool goes_on(const struct run *run)
{
	const struct budget *budget = &run->results->budget;
	size_t least = budget->samples > IN_SHORT ? MIN_ROUNDS : MIN_ROUNDS_IN_SHORT;
	size_t rounds = run->figures[0].ratios.count;

	return rounds < least || (rounds < budget->samples && clock_ns() < run->deadline);
}

/* Not yet measured. */
static struct dirty_line *add_line(struct run *run, enum dirty_group group, enum kvmas_kvm_log log,
				   const char *what)
{
	struct dirty_results *results = run->results;
	struct dirty_line *line = &results->lines[results->count++];

	bench_expect(results->count <= MAX_DIRTY_LINES);
	*line = (struct dirty_line){.group = group, .log = log};
	snprintf(line->what, sizeof(line->what), "%s", what);
	return line;
}

static void summarise(struct figure *figure, struct dirty_line *line)
{
	line->measured = true;
	line->library = samples_summarise(&figure->library);
	line->beside = samples_summarise(&figure->beside);
	line->ratio = samples_summarise(&figure->ratios).median * 1000 / RATIO_UNIT;
}

/* Nothing, where this KVM cannot do it. */
static bool open_twin(const struct run *run, struct twin *twin, const struct twin_config *config)
{
	int err = twin_open(twin, run->kvm_fd, config);

	if (err != -EOPNOTSUPP)
		must(err);
	return !err;
}

static uint64_t time_of(void (*cycle)(struct twin *), struct twin *twin)
{
	uint64_t start = clock_ns();

	cycle(twin);
	return clock_ns() - start;
}

/* ---- cycles ---- */

static void turn(struct twin *twin, const struct job *job, const struct load *load, bool is_library,
		 uint64_t *ns)
{
	if (!job->restarts)
		writer_store(is_library ? &twin->tied : &twin->other, load, twin->page);
	*ns = time_of(is_library ? twin_cycle : twin_bare_cycle, twin);
}

static void cycle_round(struct run *run, struct twin *twin, const struct job *job)
{
	struct load load = job->load(run->npages);
	bool backwards = run->figures[0].ratios.count & 1;
	uint64_t ns[2]; /* the bare one's, the library's */

	twin->ioctls = twin->bare.ioctls = 0;
	if (job->restarts)
		twin_restart(twin);
	turn(twin, job, &load, !backwards, &ns[!backwards]);
	turn(twin, job, &load, backwards, &ns[backwards]);
	twin_expect(twin, &load);
	bare_expect(&twin->bare, &load);
	keep(&run->figures[0].library, ns[1]);
	keep(&run->figures[0].beside, ns[0]);
	keep(&run->figures[0].ratios, ns[1] * RATIO_UNIT / ns[0]);
}

/* What was told is not told again: KVM watches these pages anew. */
static void expect_nothing_left(struct twin *twin)
{
	const struct load nothing = {0, 1, 0};

	twin_cycle(twin);
	twin_bare_cycle(twin);
	twin_expect(twin, &nothing);
	bare_expect(&twin->bare, &nothing);
}

static void measure_cycle(struct run *run, const struct job *job)
{
	const struct twin_config config = {
		.log = job->log, .npieces = job->npieces, .npages = run->npages};
	struct dirty_line *line = add_line(run, DIRTY_CYCLES, job->log, job->what);
	struct twin twin;

	if (!open_twin(run, &twin, &config))
		return;
	empty_samples(run);
	for (unsigned i = 0; i < WARM_UP; i++)
		cycle_round(run, &twin, job);
	expect_nothing_left(&twin);
	start_rounds(run);
	while (goes_on(run))
		cycle_round(run, &twin, job);
	line->calls = twin.ioctls;
	line->beside_calls = twin.bare.ioctls;
	summarise(&run->figures[0], line);
	twin_close(&twin);
}

/* ---- clients ---- */

/* What one client more has to do with what was told: a page at a time from a ring. */
static uint64_t time_of_or(struct twin *twin, const struct job *job, const struct load *load,
			   uint64_t npages)
{
	uint64_t *bitmap = twin->bare.bitmap;
	uint64_t start = clock_ns();

	if (job->log != KVMAS_KVM_LOG_RING) {
		bare_or(bitmap, twin->taken[0], npages / 64);
	} else {
		for (uint64_t i = 0; i < load->count; i++) {
			uint64_t page = load->first + i * load->stride;

			__atomic_fetch_or(&bitmap[page / 64], UINT64_C(1) << page % 64,
					  __ATOMIC_RELAXED);
		}
	}
	return clock_ns() - start;
}

/* Of one step, the library's own time. */
static uint64_t own_time(void (*step)(struct twin *), struct twin *twin)
{
	uint64_t ns;

	twin->ioctl_ns = 0;
	ns = time_of(step, twin);
	return ns - twin->ioctl_ns;
}

/* The library's own time of a sync, and of sync and takes, with so many clients. */
struct own {
	uint64_t sync, all;
	unsigned ioctls;
};

static struct own own_times(struct twin *twin, const struct load *load, unsigned nclients)
{
	struct own own;

	twin_set_clients(twin, nclients);
	writer_store(&twin->tied, load, twin->page);
	twin->ioctls = 0;
	own.sync = own_time(twin_sync, twin);
	own.all = own.sync + own_time(twin_take, twin);
	own.ioctls = twin->ioctls;
	twin_expect(twin, load);
	return own;
}

static void keep_added(struct figure *figure, uint64_t with, uint64_t without, uint64_t or)
{
	uint64_t added = with > without ? with - without : 0;

	keep(&figure->library, added);
	keep(&figure->beside, or);
	keep(&figure->ratios, added * RATIO_UNIT / or);
}

static void client_round(struct run *run, struct twin *twin, const struct job *job)
{
	struct load load = job->load(run->npages);
	struct own own[2]; /* without the last client, and with it */
	uint64_t or ;

	for (unsigned i = 0; i < 2; i++) {
		bool with = i ^ (run->figures[0].ratios.count & 1);

		own[with] = own_times(twin, &load, job->nclients - !with);
	}
	bench_expect(own[0].ioctls == own[1].ioctls);
	or = time_of_or(twin, job, &load, run->npages);
	bare_expect(&twin->bare, &load);
	keep_added(&run->figures[0], own[1].sync, own[0].sync, or);
	keep_added(&run->figures[1], own[1].all, own[0].all, or);
}

/* Two lines: what it adds to a sync, and in all. */
static void measure_client(struct run *run, const struct job *job, struct dirty_line *lines[2])
{
	const struct twin_config config = {
		.log = job->log, .npieces = job->npieces, .npages = run->npages};
	struct twin twin;

	if (!open_twin(run, &twin, &config))
		return;
	twin.timed = true;
	empty_samples(run);
	for (unsigned i = 0; i < WARM_UP; i++)
		client_round(run, &twin, job);
	start_rounds(run);
	while (goes_on(run))
		client_round(run, &twin, job);
	for (unsigned i = 0; i < 2; i++) {
		lines[i]->calls = lines[i]->beside_calls = twin.ioctls;
		summarise(&run->figures[i], lines[i]);
	}
	twin_close(&twin);
}

static void measure_clients(struct run *run)
{
	struct dirty_line *lines[LENGTH(clients)][2];

	for (unsigned k = 0; k < 2; k++) {
		for (size_t i = 0; i < LENGTH(clients); i++)
			lines[i][k] =
				add_line(run, DIRTY_SYNCS + k, clients[i].log, clients[i].what);
	}
	for (size_t i = 0; i < LENGTH(clients); i++)
		measure_client(run, &clients[i], lines[i]);
}

/* ---- spaces ---- */

static void harvest_second(struct twin *twin)
{
	bare_harvest(&twin->bare, 1);
}

static void least_ioctl(struct twin *twin)
{
	must(ioctl(twin->other.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY));
}

static void space_round(struct run *run, struct twin *twin, void (*bare)(struct twin *))
{
	void (*const turns[])(struct twin *) = {twin_cycle, twin_cycle_of_two, bare};
	uint64_t ns[3];

	for (unsigned i = 0; i < 3; i++) {
		unsigned k = run->figures[0].ratios.count & 1 ? 2 - i : i;

		ns[k] = time_of(turns[k], twin);
	}
	keep_added(&run->figures[0], ns[1], ns[0], ns[2]);
}

/* So that nothing is idle only because it has never been used: a page is written, and found. */
static void use_once(struct twin *twin)
{
	const struct load load = {1, 1, 1};

	writer_store(&twin->tied, &load, twin->page);
	writer_store(&twin->other, &load, twin->page);
	twin_cycle_of_two(twin);
	twin_bare_cycle(twin);
	twin_expect(twin, &load);
	bare_expect(&twin->bare, &load);
}

/* The ioctls that the second space takes, by both. */
static void count_calls(struct twin *twin, void (*bare)(struct twin *), struct dirty_line *line)
{
	twin->ioctls = 0;
	twin_cycle(twin);
	line->calls = twin->ioctls;
	twin->ioctls = twin->bare.ioctls = 0;
	twin_cycle_of_two(twin);
	line->calls = twin->ioctls - line->calls;
	bare(twin);
	line->beside_calls = twin->bare.ioctls;
}

static void measure_space(struct run *run, unsigned i)
{
	const struct twin_config config = {.log = spaces[i].log,
					   .npieces = 1,
					   .npages = run->npages,
					   .second = true,
					   .log_second = spaces[i].log_second};
	bool has_ioctls = config.log_second && config.log != KVMAS_KVM_LOG_RING;
	void (*bare)(struct twin *) = has_ioctls ? harvest_second : least_ioctl;
	struct dirty_line *line = add_line(run, DIRTY_SPACES, config.log, spaces[i].what);
	struct twin twin;

	if (!open_twin(run, &twin, &config))
		return;
	use_once(&twin);
	count_calls(&twin, bare, line);
	start_rounds(run);
	while (goes_on(run))
		space_round(run, &twin, bare);
	summarise(&run->figures[0], line);
	twin_close(&twin);
}

/* ---- all of it ---- */

struct options {
	bool quick;
	bool spaces;
	bool check;
	bool csv;
};

/* Nothing, where an argument is none of these. */
static bool parse(int argc, char **argv, struct options *options)
{
	const struct {
		const char *name;
		bool *flag;
	} known[] = {
		{"--quick", &options->quick},
		{"--spaces", &options->spaces},
		{"--check", &options->check},
		{"--csv", &options->csv},
	};

	for (int i = 1; i < argc; i++) {
		size_t k = 0;

		while (k < LENGTH(known) && strcmp(argv[i], known[k].name) != 0)
			k++;
		if (k == LENGTH(known))
			return false;
		*known[k].flag = true;
	}
	return true;
}

static void measure(struct run *run, const struct options *options)
{
	for (size_t i = 0; !options->spaces && i < LENGTH(cycles); i++)
		measure_cycle(run, &cycles[i]);
	if (!options->spaces)
		measure_clients(run);
	for (unsigned i = 0; i < LENGTH(spaces); i++)
		measure_space(run, i);
}

static void init_run(struct run *run, const struct options *options)
{
	static const struct budget full = {2000, 3000000000};
	static const struct budget quick = {IN_SHORT, 50000000};
	struct budget budget = options->quick ? quick : full;

	run->npages = options->quick ? PAGES_IN_SHORT : PAGES;
	run->results->budget = budget;
	run->results->mib = (double)run->npages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
	for (unsigned i = 0; i < LENGTH(run->figures); i++) {
		samples_init(&run->figures[i].library, budget.samples);
		samples_init(&run->figures[i].beside, budget.samples);
		samples_init(&run->figures[i].ratios, budget.samples);
	}
}

static void fini_run(struct run *run)
{
	for (unsigned i = 0; i < LENGTH(run->figures); i++) {
		samples_fini(&run->figures[i].library);
		samples_fini(&run->figures[i].beside);
		samples_fini(&run->figures[i].ratios);
	}
}

static bool has_two_spaces(int kvm_fd)
{
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	int count = vm_fd < 0 ? 0 : ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);

	if (vm_fd >= 0)
		close(vm_fd);
	return count > 1;
}

static int open_kvm(const struct options *options)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm_fd < 0) {
		fprintf(stderr, "kvmas-bench dirty: not run: /dev/kvm: %s\n", strerror(errno));
		return -1;
	}
	if (!options->spaces || has_two_spaces(kvm_fd))
		return kvm_fd;
	fprintf(stderr, "kvmas-bench dirty: not run: this KVM has one address space; tests/lab/run "
			"has one with two\n");
	close(kvm_fd);
	return -1;
}

int bench_dirty(int argc, char **argv)
{
	struct dirty_results results = {.count = 0};
	struct run run = {.results = &results};
	struct options options = {0};

	if (!parse(argc, argv, &options)) {
		fprintf(stderr,
			"usage: kvmas-bench dirty [--quick] [--spaces] [--check] [--csv]\n");
		return BENCH_FAILED;
	}
	run.kvm_fd = open_kvm(&options);
	if (run.kvm_fd < 0)
		return BENCH_SKIPPED;
	init_run(&run, &options);
	measure(&run, &options);
	close(run.kvm_fd);
	fini_run(&run);
	if (options.csv)
		dirty_print_csv(stdout, &results);
	else
		dirty_print_table(stdout, &results);
	return options.check && dirty_check(stderr, &results) ? BENCH_BROKEN : BENCH_OK;
}
