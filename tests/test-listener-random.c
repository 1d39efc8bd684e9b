/* SPDX-License-Identifier: MIT */
/*
 * Random commits under judges who refuse at random, and who come and go from inside each other's
 * callbacks, with allocations that fail. After each step every judge knows the view of its space,
 * nothing is owed, and who stayed was told, line by line, what the dry run had said.
 *
 * KVMAS_SEED and KVMAS_STEPS choose the run. Read step first.
 */
#include "judge.h"

#include <inttypes.h>
#include <stdio.h>

#define NSPACES 2
#define NREGIONS 6
#define NJUDGES 8

enum place { FREE, HERE, GOING };

/* A judge that comes and goes. */
struct seat {
	struct judge judge;
	enum place place;
	unsigned space;
	char name[8];
};

struct party {
	struct fixture *f;
	struct kvmas_region *root[NSPACES];
	struct kvmas_space *space[NSPACES];
	struct kvmas_region *region[NREGIONS];
	struct kvmas_client *client;
	struct judge stays[NSPACES]; /* named as their spaces */
	struct seat seats[NJUDGES];
	char *ahead; /* what the dry run said */
	/* How often something happened: a run in which little does proves little. */
	unsigned committed, changed, refused, starved, came, went;
};

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(random_state >> 33) % n;
}

static void move_somebody(struct judge *judge, const char *what);

static void come(struct party *p, struct seat *seat)
{
	struct kvmas_listener_config config;
	int err;

	config = judge_config(&seat->judge, p->f, seat->name, (int)random_below(3) - 1);
	seat->judge.data = p;
	seat->judge.inside = move_somebody;
	seat->space = random_below(NSPACES);
	seat->place = HERE; /* it may be sent away as soon as it is called */
	err = kvmas_listener_add(p->space[seat->space], &config, &seat->judge.listener);
	if (err) {
		assert_int_equal(err, -ENOMEM);
		seat->place = FREE;
		return;
	}
	p->came++;
}

/* A judge comes or goes: from inside a callback, or between commits. */
static void move_one(struct party *p)
{
	struct seat *seat = &p->seats[random_below(NJUDGES)];
	bool going = seat->place == GOING;

	if (seat->place == FREE) {
		come(p, seat);
		return;
	}
	seat->place = GOING; /* it may be called, and try again */
	assert_int_equal(kvmas_listener_del(seat->judge.listener), going ? -EALREADY : 0);
}

static void move_somebody(struct judge *judge, const char *what)
{
	(void)what;
	if (random_below(24) == 0)
		move_one(judge->data);
}

/* A round is over: whoever was to go is gone. */
static void sweep(struct party *p)
{
	for (unsigned i = 0; i < NJUDGES; i++) {
		struct seat *seat = &p->seats[i];

		if (seat->place != GOING)
			continue;
		assert_int_equal(seat->judge.nsections, 0);
		assert_false(seat->judge.agreed);
		assert_false(seat->judge.open);
		seat->place = FREE;
		p->went++;
	}
}

static void check(struct party *p)
{
	for (unsigned i = 0; i < NSPACES; i++)
		assert_judge(&p->stays[i], p->space[i]);
	for (unsigned i = 0; i < NJUDGES; i++) {
		if (p->seats[i].place == HERE)
			assert_judge(&p->seats[i].judge, p->space[p->seats[i].space]);
	}
}

/* Of the notes, those lines that tell a judge that stays of a change. */
static char *told_text(const struct party *p)
{
	static const char *const changes[] = {"add ", "del ", "log_start ", "log_stop "};
	const char *line = p->f->notes;
	char *text = NULL;

	text_add(&text, "%s", "");
	while (line && *line) {
		const char *end = strchr(line, '\n') + 1;
		bool stays = (line[0] == 's' || line[0] == 't') && line[1] == ' ';

		for (size_t i = 0; stays && i < LENGTH(changes); i++) {
			if (strncmp(line + 2, changes[i], strlen(changes[i])) == 0)
				text_add(&text, "%.*s", (int)(end - line), line);
		}
		line = end;
	}
	return text;
}

static void edit(struct party *p)
{
	struct kvmas_region *region = p->region[random_below(NREGIONS)];
	struct kvmas_space *space = random_below(2) ? p->space[random_below(NSPACES)] : NULL;

	switch (random_below(6)) {
	case 0:
		kvmas_region_set_offset(region, random_below(6) * 0x1000);
		break;
	case 1:
		kvmas_region_set_enabled(region, random_below(2));
		break;
	case 2:
		kvmas_region_set_readonly(region, random_below(4) == 0);
		break;
	case 3:
		kvmas_region_set_size(region, (1 + random_below(3)) * 0x800);
		break;
	case 4:
		kvmas_client_log_start(p->client, random_below(2) ? region : NULL, space);
		break;
	default:
		kvmas_client_log_stop(p->client, random_below(2) ? region : NULL, space);
	}
}

/* Who refuses this time; 0 if nobody does. */
static int choose_verdicts(struct party *p)
{
	int verdict = random_below(3) ? 0 : -EPERM;

	for (unsigned i = 0; i < NSPACES; i++)
		p->stays[i].verdict = 0;
	for (unsigned i = 0; i < NJUDGES; i++)
		p->seats[i].judge.verdict = 0;
	if (random_below(2))
		p->stays[random_below(NSPACES)].verdict = verdict;
	else
		p->seats[random_below(NJUDGES)].judge.verdict = verdict;
	return verdict;
}

static void commit(struct party *p, int verdict)
{
	bool changes = *p->ahead;
	char *told;
	int err;

	if (random_below(3) == 0)
		p->f->heap.fail_in = 1 + random_below(12);
	p->f->heap.failed = false;
	err = kvmas_commit(p->f->kvmas);
	p->f->heap.fail_in = 0;
	told = told_text(p);
	if (err)
		assert_true((err == -EPERM && verdict) || (err == -ENOMEM && p->f->heap.failed));
	assert_string_equal(told, err ? "" : p->ahead);
	p->committed += !err;
	p->changed += !err && changes;
	p->refused += err == -EPERM;
	p->starved += err == -ENOMEM;
	free(told);
}

static void step(struct party *p)
{
	unsigned nedits = 1 + random_below(4);
	int verdict = choose_verdicts(p);

	forget_notes(p->f);
	p->ahead = NULL;
	text_add(&p->ahead, "%s", "");
	must(kvmas_begin(p->f->kvmas));
	for (unsigned i = 0; i < nedits; i++)
		edit(p);
	must(kvmas_dry_run(p->f->kvmas, add_change, &p->ahead));
	if (random_below(8) == 0)
		must(kvmas_space_sync(p->space[0], 0, 1));
	sweep(p);
	forget_notes(p->f);
	commit(p, verdict);
	free(p->ahead);
	sweep(p);
	check(p);
	if (random_below(4) == 0)
		move_one(p);
	sweep(p);
	check(p);
}

static void open_party(struct fixture *f, struct party *p)
{
	static const char *const names[NSPACES] = {"s", "t"};

	*p = (struct party){.f = f};
	for (unsigned i = 0; i < NSPACES; i++) {
		p->root[i] = make_container(f, names[i], 0x10000);
		p->space[i] = make_space(f, names[i], p->root[i]);
	}
	for (unsigned i = 0; i < NREGIONS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "r%u", i);
		p->region[i] = i % 3 ? make_ram(f, name, 0x1800) : make_mmio(f, name, 0x1800);
		add(p->root[i % NSPACES], p->region[i], i * 0x1000, (int)i % 2);
	}
	add(p->root[1], make_alias(f, "alias", p->root[0], 0, 0x8000), 0x8000, 0);
	must(kvmas_client_new(f->kvmas, "c", &p->client));
	for (unsigned i = 0; i < NSPACES; i++) {
		add_judge(&p->stays[i], f, p->space[i], names[i], 0);
		p->stays[i].data = p;
		p->stays[i].inside = move_somebody;
	}
	for (unsigned i = 0; i < NJUDGES; i++)
		snprintf(p->seats[i].name, sizeof(p->seats[i].name), "j%u", i);
}

static void close_party(struct party *p)
{
	for (unsigned i = 0; i < NSPACES; i++)
		del_judge(&p->stays[i]);
	for (unsigned i = 0; i < NJUDGES; i++) {
		p->seats[i].judge.inside = NULL;
		if (p->seats[i].place == HERE)
			del_judge(&p->seats[i].judge);
	}
	kvmas_client_unref(p->client);
}

static void judges_that_come_and_go_hear_all_and_only_what_is_theirs(void **state)
{
	const char *seed = getenv("KVMAS_SEED");
	const char *steps = getenv("KVMAS_STEPS");
	unsigned n = steps ? (unsigned)strtoul(steps, NULL, 0) : 3000;
	struct party p;

	random_state = seed ? strtoull(seed, NULL, 0) : 1;
	print_message("KVMAS_SEED=%" PRIu64 " KVMAS_STEPS=%u\n", random_state, n);
	open_party(*state, &p);
	for (unsigned i = 0; i < n; i++)
		step(&p);
	close_party(&p);
	print_message("%u committed, %u changed something, %u refused, %u starved; "
		      "%u judges came, %u went\n",
		      p.committed, p.changed, p.refused, p.starved, p.came, p.went);
	if (n >= 1000) {
		assert_true(p.changed > n / 4 && p.refused > n / 16 && p.starved > n / 64);
		assert_true(p.came > n / 8 && p.went > n / 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(judges_that_come_and_go_hear_all_and_only_what_is_theirs),
	};

	return cmocka_run_group_tests_name("listener-random", tests, NULL, NULL);
}
