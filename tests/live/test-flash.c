/* SPDX-License-Identifier: MIT */
/*
 * Flash chips that remove themselves: a write by which one leaves array mode takes it out of the
 * map from inside its own callback, and a later one puts it back, on two vCPUs at once. Every read
 * afterwards gives what memory, or the device, must give.
 *
 * A chip is a ROM device above a device of the same size, which answers while the chip is away. It
 * goes in one of three ways: it is switched to device mode, it is disabled, or its region is
 * deleted, so that nothing but the access itself holds it, and made anew later.
 *
 * Each vCPU has chips of its own, which it finds just as it has left them, and shares others, which
 * are in either state. In SMM, where there is any, the same is done with the same chips.
 *
 * KVMAS_SECONDS (3): how long.
 */
#include "guest.h"
#include "knobs.h"
#include "probe.h"

#include <stdio.h>

enum {
	NPAGES = 0xa0,
	FIRST = 0x80, /* pages of chips, one each, hiding RAM */
	NKINDS = 3,
	NOWNERS = MAX_VCPUS + 1, /* the vCPUs, and all of them */
	NCHIPS = NKINDS * NOWNERS,
	WORD_OFFSET = 0x40, /* of what is read and written */
	LEAVE = 0x40404040,
	RETURN = 0xffffff00,
	STATUS = 0x80808080,
	ALIVE = 0x600d,
	PATIENCE = 60, /* seconds */
};

enum kind {
	SWITCHED,
	DISABLED,
	DELETED,
};

struct chip {
	struct guest *g;
	enum kind kind;
	unsigned owner;
	uint64_t gpa;
	struct kvmas_ram *ram;
	uint32_t word; /* in array mode */
	/* Under the transaction lock. */
	struct kvmas_region *region; /* borrowed from its container; NULL if deleted */
	bool is_array;
	uint64_t leaves, returns;
	uint64_t made;
	_Atomic uint64_t ended;
	_Atomic int error; /* the first */
};

/* What a chip's region has as its opaque: one for each time that it is made. */
struct body {
	struct chip *chip;
	unsigned alive;
};

struct board {
	struct guest *g;
	struct chip chips[NCHIPS];
};

static void keep_error(struct chip *chip, int err)
{
	int none = 0;

	if (err)
		atomic_compare_exchange_strong(&chip->error, &none, err);
}

static void end_body(void *opaque)
{
	struct body *body = opaque;

	atomic_fetch_add(&body->chip->ended, 1);
	body->alive = 0;
	free(body);
}

/* ---- leaving and coming back, in a transaction ---- */

static const struct kvmas_ops chip_ops, below_ops;

static int make_chip(struct chip *chip)
{
	struct body *body = malloc(sizeof(*body));
	int err;

	if (!body)
		return -ENOMEM;
	*body = (struct body){chip, ALIVE};
	err = kvmas_region_new(chip->g->f->kvmas,
			       KVMAS_CONFIG(region, .kind = KVMAS_REGION_ROMD, .name = "chip",
					    .size = PAGE, .ram = chip->ram, .ops = &chip_ops,
					    .opaque = body, .destroy = end_body),
			       &chip->region);
	if (err) {
		free(body);
		return err;
	}
	chip->made++;
	err = kvmas_region_add(chip->g->root[0], chip->region, chip->gpa, 2);
	kvmas_region_unref(chip->region);
	return err;
}

static int delete_chip(struct chip *chip)
{
	struct kvmas_region *region = chip->region;

	chip->region = NULL;
	return kvmas_region_del(region);
}

static int set_array(struct chip *chip, bool is_array)
{
	switch (chip->kind) {
	case SWITCHED:
		return kvmas_region_set_romd(chip->region, is_array);
	case DISABLED:
		return kvmas_region_set_enabled(chip->region, is_array);
	default:
		return is_array ? make_chip(chip) : delete_chip(chip);
	}
}

/* Two vCPUs may ask for the same at once: one of them finds it done. */
static int change(struct chip *chip, bool is_array)
{
	int err = kvmas_begin(chip->g->f->kvmas), result = 0;

	if (err)
		return err;
	if (chip->is_array != is_array) {
		chip->is_array = is_array;
		chip->leaves += !is_array;
		chip->returns += is_array;
		result = set_array(chip, is_array);
	}
	err = kvmas_commit(chip->g->f->kvmas);
	return result ? result : err;
}

/* ---- devices ---- */

static int write_word(struct chip *chip, const struct kvmas_access *access, uint64_t value)
{
	int err = access->offset == WORD_OFFSET && access->size == 4 ? 0 : -EPROTO;

	if (!err && value != LEAVE && value != RETURN)
		err = -EPROTO;
	if (!err)
		err = change(chip, value == RETURN);
	keep_error(chip, err);
	return 0;
}

/* By then the region may be gone from the map, but it has not ended. */
static int write_chip(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct body *body = opaque;
	struct chip *chip = body->chip;

	write_word(chip, access, value);
	/* Under a sanitizer, this is a look at freed memory if it has. */
	if (__atomic_load_n(&body->alive, __ATOMIC_RELAXED) != ALIVE)
		keep_error(chip, -EFAULT);
	return 0;
}

static int read_status(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	(void)opaque;
	(void)access;
	*value = STATUS;
	return 0;
}

static const struct kvmas_ops chip_ops = {
	.struct_size = sizeof(chip_ops),
	.read = read_status,
	.write = write_chip,
};

static int write_below(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	return write_word(opaque, access, value);
}

static const struct kvmas_ops below_ops = {
	.struct_size = sizeof(below_ops),
	.read = read_status,
	.write = write_below,
};

/* ---- the board ---- */

static void put_below(struct chip *chip)
{
	struct kvmas_region *below;

	must(kvmas_region_new(chip->g->f->kvmas,
			      KVMAS_CONFIG(region, .kind = KVMAS_REGION_MMIO, .name = "below",
					   .size = PAGE, .ops = &below_ops, .opaque = chip),
			      &below));
	must(kvmas_region_add(chip->g->root[0], below, chip->gpa, 1));
	kvmas_region_unref(below);
}

static void put_chip(struct chip *chip, struct guest *g, unsigned index)
{
	*chip = (struct chip){.g = g,
			      .kind = index % NKINDS,
			      .owner = index / NKINDS,
			      .gpa = (uint64_t)(FIRST + index) * PAGE,
			      .word = 0x01010101 * (index + 1),
			      .is_array = true};
	chip->ram = make_block(g->f, "chip", 1);
	memcpy((unsigned char *)kvmas_ram_get_hva(chip->ram) + WORD_OFFSET, &chip->word,
	       sizeof(chip->word));
	put_below(chip);
	must(make_chip(chip));
}

/* What a vCPU does with a chip, again and again. */
static void enter_chip(const struct chip *chip, unsigned vcpu, unsigned as_id)
{
	bool is_own = chip->owner < MAX_VCPUS;
	struct code_entry read = {.address = (uint32_t)chip->gpa + WORD_OFFSET,
				  .kind = CODE_READ,
				  .a = chip->word,
				  .b = is_own ? chip->word : STATUS};
	struct code_entry poke = {.address = read.address, .kind = CODE_POKE, .a = LEAVE};

	guest_enter(chip->g, vcpu, as_id, read);
	guest_enter(chip->g, vcpu, as_id, poke);
	if (is_own)
		read.a = read.b = STATUS;
	guest_enter(chip->g, vcpu, as_id, read);
	guest_enter(chip->g, vcpu, as_id, read);
	poke.a = RETURN;
	guest_enter(chip->g, vcpu, as_id, poke);
	read.a = chip->word;
	if (is_own)
		read.b = read.a;
	guest_enter(chip->g, vcpu, as_id, read);
}

static void enter_chips(struct board *board)
{
	for (unsigned i = 0; i < NCHIPS; i++) {
		const struct chip *chip = &board->chips[i];

		for (unsigned v = 0; v < MAX_VCPUS; v++) {
			if (chip->owner != v && chip->owner != MAX_VCPUS)
				continue;
			for (unsigned as_id = 0; as_id < board->g->nspaces; as_id++)
				enter_chip(chip, v, as_id);
		}
	}
}

static void board_init(struct board *board, void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});

	board->g = g;
	must(kvmas_begin(g->f->kvmas));
	for (unsigned i = 0; i < NCHIPS; i++)
		put_chip(&board->chips[i], g, i);
	must(kvmas_commit(g->f->kvmas));
	guest_expect_exits(g, FIRST, NCHIPS, false);
	enter_chips(board);
	/* And words beside them, whose slots come and go with the chips' neighbours'. */
	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		g->vcpus[v].smis = true;
		guest_enter(g, v, 0, guest_word(g, FIRST - 1, 8 * v, CODE_WRITE));
		guest_enter(g, v, 0, guest_word(g, FIRST + NCHIPS, 8 * v, CODE_WRITE));
	}
}

/* With the last ones taken out, every region that was made has ended, and with them its blocks. */
static void board_fini(struct board *board)
{
	for (unsigned i = 0; i < NCHIPS; i++) {
		if (board->chips[i].region)
			must(kvmas_region_del(board->chips[i].region));
	}
	must(kvmas_reclaim(board->g->f->kvmas));
	for (unsigned i = 0; i < NCHIPS; i++) {
		struct chip *chip = &board->chips[i];

		assert_int_equal(atomic_load(&chip->error), 0);
		assert_int_equal(chip->made, atomic_load(&chip->ended));
		assert_int_equal(chip->made, chip->kind == DELETED ? chip->returns + 1 : 1);
		kvmas_ram_unref(chip->ram);
	}
}

/* ---- the tests ---- */

/* Whether enough has happened: on a slow machine it may take longer. */
static bool is_busy(const struct board *board)
{
	bool busy = true;

	for (unsigned v = 0; v < MAX_VCPUS; v++) {
		for (unsigned as_id = 0; as_id < board->g->nspaces; as_id++)
			busy = busy && guest_rounds(board->g, v, as_id) > 5;
	}
	return busy;
}

static void run(struct board *board)
{
	const uint32_t turn_every[MAX_VCPUS] = {2, 3};
	double end = now() + seconds(3);

	guest_start(board->g, turn_every);
	while (now() < end + (is_busy(board) ? 0 : PATIENCE) && !guest_wrong(board->g))
		guest_wait_rounds(board->g, 1);
	guest_end_well(board->g);
}

static void print_board(const struct board *board)
{
	uint64_t leaves[NKINDS] = {0};

	for (unsigned i = 0; i < NCHIPS; i++)
		leaves[board->chips[i].kind] += board->chips[i].leaves;
	print_message("flash: switched %llu times, disabled %llu, deleted %llu; rounds %u %u, in "
		      "SMM %u %u\n",
		      (unsigned long long)leaves[SWITCHED], (unsigned long long)leaves[DISABLED],
		      (unsigned long long)leaves[DELETED], guest_rounds(board->g, 0, 0),
		      guest_rounds(board->g, 1, 0), guest_rounds(board->g, 0, 1),
		      guest_rounds(board->g, 1, 1));
}

static void chips_that_remove_themselves_on_two_vcpus_give_what_they_must(void **state)
{
	struct board board;

	board_init(&board, state);
	run(&board);
	print_board(&board);
	assert_true(is_busy(&board));
	for (unsigned i = 0; i < NCHIPS; i++)
		assert_true(board.chips[i].leaves > 5 && board.chips[i].returns > 5);
	board_fini(&board);
}

/* A RETURN finds it done already. */
static void send_away(struct chip *chip)
{
	must(kvmas_begin(chip->g->f->kvmas));
	if (chip->is_array)
		must(kvmas_region_set_enabled(chip->region, false));
	chip->is_array = true;
	must(kvmas_commit(chip->g->f->kvmas));
}

/* The control: a chip that does not come back is seen by its owner. Unless a LEAVE comes before that
 * looks: then it is sent away again. */
static void chip_that_stays_away_is_found(void **state)
{
	const uint32_t turn_every[MAX_VCPUS] = {2, 3};
	struct board board;
	const char *wrong;

	board_init(&board, state);
	guest_start(board.g, turn_every);
	guest_wait_rounds(board.g, 2);
	assert_null(guest_wrong(board.g));
	while (!guest_wrong(board.g)) {
		send_away(&board.chips[DISABLED]);
		guest_wait_rounds(board.g, 100);
	}
	guest_stop(board.g);
	wrong = guest_wrong(board.g);
	assert_non_null(wrong);
	assert_non_null(strstr(wrong, "is 0x80808080, not 0x2020202"));
	board_fini(&board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(chips_that_remove_themselves_on_two_vcpus_give_what_they_must),
		GUEST_TEST(chip_that_stays_away_is_found),
	};

	return guest_main("live-flash", tests, LENGTH(tests), 1);
}
