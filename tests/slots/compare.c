/* SPDX-License-Identifier: MIT */
/*
 * Usage: compare KVMAS-TRACE QEMU-TRACE [ZAPS CALLS TORN]
 *
 * Compares two boots of the same SeaBIOS, 64 MiB, with SMM: the output of kvmas-vmm --trace-slots,
 * and QEMU's trace of its event kvm_set_user_memory. Both may be in one file. Both are read into
 * the same operations and counted by the same code, then the final slots are compared byte by byte:
 * where they lie, which byte of which block they show, read-only or not.
 *
 * ZAPS, CALLS, TORN: how many zap events, slot calls and torn bytes kvmas may have at most. A zap
 * event is a delete or a move: KVM drops the guest's mappings of all slots, in all spaces, for it.
 *
 * Status 0 if exactly the expected differences are there and no limit is exceeded, 1 for any other
 * difference and for any missing one:
 *
 *   - space 0 has no slot at 0xa0000 to 0xbffff: closed SMRAM (without a VGA, QEMU leaves it
 *     readable);
 *   - in both spaces, the shadow RAM that the guest made read-only, 0xc0000 to 0xe7fff and 0xf0000
 *     to 0xfffff, is read-only (QEMU leaves it writable).
 *
 * Torn: bytes that a delete or a move unmapped, though the commit left them mapped to the same host
 * byte with the same read-only bit. Traces have no commit marks: a commit is taken to be, in one
 * address space, a run of deletes and moves followed by a run of creates.
 *
 * Read main first.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPERATIONS 8192
#define MAX_SLOTS 256
#define SPACES 2
#define AS_SHIFT 16
#define READONLY 2 /* KVM_MEM_READONLY */

/* By these QEMU's host addresses are known. */
#define RAM_SIZE 0x4000000
#define ROM_GPA 0xfffc0000
#define ROM_SIZE 0x40000

enum kind { CREATE, DELETE, MOVE, FLAGS, KINDS };

enum block { RAM, ROM, OTHER };

static const char *const block_names[] = {[RAM] = "ram", [ROM] = "rom", [OTHER] = "other"};

/* A slot, or a range of the final map. */
struct range {
	uint64_t gpa;
	uint64_t size;
	enum block block;
	uint64_t offset; /* of gpa in the block */
	bool readonly;
};

struct operation {
	enum kind kind;
	unsigned as_id;
	unsigned id;
	struct range range; /* DELETE: only what the trace says, which may be little */
};

struct space {
	bool used[MAX_SLOTS];
	struct range slots[MAX_SLOTS];
};

struct trace {
	const char *name;
	struct operation operations[MAX_OPERATIONS];
	size_t count;
	uint64_t counts[KINDS];
	uint64_t torn;
	uint64_t said_torn; /* by the line bytes_torn_live */
	bool says_torn;
	struct space spaces[SPACES];
	/* QEMU's host addresses, from the operations that show the blocks whole. */
	uint64_t ram_ua, rom_ua;
};

/* What a commit unmapped so far in a space; the next create closes the list. */
struct torn {
	struct range ranges[MAX_SLOTS];
	size_t count;
	bool creating;
};

static void fail(const char *what, const char *detail)
{
	printf("compare: %s: %s\n", what, detail);
	exit(1);
}

/* ---- reading ---- */

static struct operation *add_operation(struct trace *trace)
{
	if (trace->count == MAX_OPERATIONS)
		fail(trace->name, "too many slot operations");
	return &trace->operations[trace->count++];
}

static void check_operation(const struct trace *trace, const struct operation *op, const char *line)
{
	if (op->as_id >= SPACES || op->id >= MAX_SLOTS)
		fail(trace->name, line);
}

static enum kind kind_of(const struct trace *trace, const char *word, const char *line)
{
	static const char *const words[KINDS] = {"create", "delete", "move", "flags"};

	for (unsigned i = 0; i < KINDS; i++)
		if (!strcmp(words[i], word))
			return (enum kind)i;
	fail(trace->name, line);
	return KINDS;
}

static enum block block_named(const char *name)
{
	if (!strcmp(name, "ram"))
		return RAM;
	return strcmp(name, "rom") ? OTHER : ROM;
}

/* "slot create as=0 id=3 gpa=0x0 size=0x1000 ram=NAME+0x0 flags=0x0", an error behind it if any. */
static void read_kvmas_slot(struct trace *trace, const char *line)
{
	char word[8], name[64];
	uint32_t flags;
	struct operation op = {0};
	int length = 0;

	if (sscanf(line,
		   "slot %7s as=%u id=%u gpa=0x%" SCNx64 " size=0x%" SCNx64
		   " ram=%63[^+]+0x%" SCNx64 " flags=0x%" SCNx32 "%n",
		   word, &op.as_id, &op.id, &op.range.gpa, &op.range.size, name, &op.range.offset,
		   &flags, &length) != 8)
		fail(trace->name, line);
	if (strncmp(line + length, " error=", 7) == 0)
		return;
	op.kind = kind_of(trace, word, line);
	op.range.block = block_named(name);
	op.range.readonly = flags & READONLY;
	check_operation(trace, &op, line);
	*add_operation(trace) = op;
}

static void read_kvmas_line(struct trace *trace, const char *line)
{
	if (!strncmp(line, "slot ", 5))
		read_kvmas_slot(trace, line);
	else if (sscanf(line, "bytes_torn_live %" SCNu64, &trace->said_torn) == 1)
		trace->says_torn = true;
}

/* The ioctl says neither block nor kind: replay finds the kind, and host addresses the block. */
static void read_qemu_line(struct trace *trace, const char *line)
{
	unsigned slot, flags;
	uint64_t ua;
	int ret;
	struct operation op = {0};

	if (strncmp(line, "kvm_set_user_memory ", 20) != 0)
		return;
	if (sscanf(line,
		   "kvm_set_user_memory Slot#%u flags=0x%x gpa=0x%" SCNx64 " size=0x%" SCNx64
		   " ua=0x%" SCNx64 " ret=%d",
		   &slot, &flags, &op.range.gpa, &op.range.size, &ua, &ret) != 6)
		fail(trace->name, line);
	if (ret)
		return;
	op.as_id = slot >> AS_SHIFT;
	op.id = slot & ((1u << AS_SHIFT) - 1);
	op.kind = op.range.size ? CREATE : DELETE;
	op.range.offset = ua;
	op.range.readonly = flags & READONLY;
	check_operation(trace, &op, line);
	*add_operation(trace) = op;
	if (!op.range.gpa && op.range.size == RAM_SIZE)
		trace->ram_ua = ua;
	if (op.range.gpa == ROM_GPA && op.range.size == ROM_SIZE)
		trace->rom_ua = ua;
}

static void resolve_block(const struct trace *trace, struct range *range)
{
	if (range->offset - trace->ram_ua < RAM_SIZE) {
		range->block = RAM;
		range->offset -= trace->ram_ua;
	} else if (range->offset - trace->rom_ua < ROM_SIZE) {
		range->block = ROM;
		range->offset -= trace->rom_ua;
	} else {
		range->block = OTHER;
	}
}

static void resolve_blocks(struct trace *trace)
{
	if (!trace->ram_ua || !trace->rom_ua)
		fail(trace->name, "not a trace of 64 MiB and a ROM of 256 KiB");
	for (size_t i = 0; i < trace->count; i++)
		resolve_block(trace, &trace->operations[i].range);
}

static void read_trace(struct trace *trace, void (*read_line)(struct trace *, const char *))
{
	FILE *file = fopen(trace->name, "r");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		fail(trace->name, "cannot be opened");
	while (getline(&line, &size, file) >= 0) {
		line[strcspn(line, "\r\n")] = '\0';
		read_line(trace, line);
	}
	free(line);
	fclose(file);
	if (!trace->count)
		fail(trace->name, "has no slot operations");
}

/* ---- replaying ---- */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool same_bytes(const struct range *a, const struct range *b)
{
	return a->block == b->block && a->offset - a->gpa == b->offset - b->gpa &&
	       a->readonly == b->readonly;
}

static uint64_t overlap(const struct range *a, const struct range *b)
{
	uint64_t begin = max(a->gpa, b->gpa);
	uint64_t end = min(a->gpa + a->size, b->gpa + b->size);

	return end > begin ? end - begin : 0;
}

/* A commit ends: what it unmapped and its end shows alike was torn. */
static void end_commit(struct trace *trace, const struct space *space, struct torn *torn)
{
	for (size_t i = 0; i < torn->count; i++)
		for (unsigned id = 0; id < MAX_SLOTS; id++)
			if (space->used[id] && same_bytes(&torn->ranges[i], &space->slots[id]))
				trace->torn += overlap(&torn->ranges[i], &space->slots[id]);
	torn->count = 0;
	torn->creating = false;
}

/* In QEMU's trace a write to a slot that is there is a move or a change of flags. */
static enum kind true_kind(const struct space *space, const struct operation *op)
{
	if (op->kind != CREATE || !space->used[op->id])
		return op->kind;
	return space->slots[op->id].gpa == op->range.gpa ? FLAGS : MOVE;
}

static void replay_one(struct trace *trace, const struct operation *op, struct torn *torn)
{
	struct space *space = &trace->spaces[op->as_id];
	enum kind kind = true_kind(space, op);
	bool unmaps = kind == DELETE || kind == MOVE;

	trace->counts[kind]++;
	if ((kind == CREATE) == space->used[op->id])
		fail(trace->name, "the operations do not follow from each other");
	if (unmaps && torn->creating)
		end_commit(trace, space, torn);
	if (unmaps) {
		if (torn->count == MAX_SLOTS)
			fail(trace->name, "too many slots in one commit");
		torn->ranges[torn->count++] = space->slots[op->id];
	}
	torn->creating = kind == CREATE;
	space->used[op->id] = kind != DELETE;
	space->slots[op->id] = op->range;
}

/* Each space by itself, so that how a commit orders its spaces makes no difference. */
static void replay(struct trace *trace)
{
	for (unsigned as_id = 0; as_id < SPACES; as_id++) {
		struct torn torn = {.count = 0};

		for (size_t i = 0; i < trace->count; i++)
			if (trace->operations[i].as_id == as_id)
				replay_one(trace, &trace->operations[i], &torn);
		end_commit(trace, &trace->spaces[as_id], &torn);
	}
}

/* ---- the final slots ---- */

static const struct range *find_slot(const struct space *space, uint64_t gpa)
{
	for (unsigned id = 0; id < MAX_SLOTS; id++)
		if (space->used[id] && gpa - space->slots[id].gpa < space->slots[id].size)
			return &space->slots[id];
	return NULL;
}

/* Where the map may change after gpa: the next edge of any slot of either space. */
static uint64_t next_edge(const struct space *a, const struct space *b, uint64_t gpa)
{
	const struct space *const both[] = {a, b};
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < 2 * MAX_SLOTS; i++) {
		const struct space *space = both[i / MAX_SLOTS];
		const struct range *slot = &space->slots[i % MAX_SLOTS];

		if (!space->used[i % MAX_SLOTS])
			continue;
		if (slot->gpa > gpa)
			next = min(next, slot->gpa);
		if (slot->gpa + slot->size > gpa)
			next = min(next, slot->gpa + slot->size);
	}
	return next;
}

static void print_range(unsigned as_id, const struct range *range)
{
	printf("  %u  0x%08" PRIx64 "-0x%08" PRIx64 "  %s+0x%" PRIx64 "%s\n", as_id, range->gpa,
	       range->gpa + range->size - 1, block_names[range->block], range->offset,
	       range->readonly ? "  read-only" : "");
}

/* Neighbours that show neighbouring bytes are one range here, however many slots they are. */
static void print_space(const struct space *space, unsigned as_id)
{
	struct range run = {.size = 0};
	const struct range *slot;
	uint64_t end;

	for (uint64_t gpa = 0; gpa != UINT64_MAX; gpa = end) {
		end = next_edge(space, space, gpa);
		slot = find_slot(space, gpa);
		if (slot && run.size && run.gpa + run.size == gpa && same_bytes(&run, slot)) {
			run.size += end - gpa;
			continue;
		}
		if (run.size)
			print_range(as_id, &run);
		run.size = 0;
		if (!slot)
			continue;
		run = *slot;
		run.offset += gpa - run.gpa;
		run.gpa = gpa;
		run.size = end - gpa;
	}
	if (run.size)
		print_range(as_id, &run);
}

/* ---- the differences ---- */

enum difference { SAME, NO_SLOT, ONLY_READONLY, WRONG };

static const char *const difference_names[] = {
	[SAME] = "the same",
	[NO_SLOT] = "RAM at QEMU, no slot here",
	[ONLY_READONLY] = "read-only here, writable at QEMU",
	[WRONG] = "different",
};

static const struct expected {
	uint64_t first, last;
	unsigned as_id;
	enum difference difference;
} expected[] = {
	{0xa0000, 0xbffff, 0, NO_SLOT},       {0xc0000, 0xe7fff, 0, ONLY_READONLY},
	{0xf0000, 0xfffff, 0, ONLY_READONLY}, {0xc0000, 0xe7fff, 1, ONLY_READONLY},
	{0xf0000, 0xfffff, 1, ONLY_READONLY},
};

#define NEXPECTED (sizeof(expected) / sizeof(expected[0]))

static enum difference difference_of(const struct range *ours, const struct range *qemus)
{
	struct range made_equal;

	if (!ours && !qemus)
		return SAME;
	if (!ours)
		return qemus->block == RAM && qemus->offset == qemus->gpa ? NO_SLOT : WRONG;
	if (!qemus)
		return WRONG;
	if (same_bytes(ours, qemus))
		return SAME;
	made_equal = *qemus;
	made_equal.readonly = true;
	return ours->readonly && same_bytes(ours, &made_equal) ? ONLY_READONLY : WRONG;
}

static bool same_difference(const struct expected *a, const struct expected *b)
{
	return a->as_id == b->as_id && a->first == b->first && a->last == b->last &&
	       a->difference == b->difference;
}

static int report_difference(const struct expected *found, bool *seen)
{
	bool known = false;

	for (size_t i = 0; i < NEXPECTED; i++)
		if (same_difference(&expected[i], found))
			known = seen[i] = true;
	printf("  %u  0x%08" PRIx64 "-0x%08" PRIx64 "  %s: %s\n", found->as_id, found->first,
	       found->last, difference_names[found->difference], known ? "expected" : "UNEXPECTED");
	return !known;
}

static int compare_space(const struct trace *kvmas, const struct trace *qemu, unsigned as_id,
			 bool *seen)
{
	const struct space *ours = &kvmas->spaces[as_id], *qemus = &qemu->spaces[as_id];
	struct expected run = {.as_id = as_id};
	enum difference now;
	uint64_t end;
	int wrong = 0;

	for (uint64_t gpa = 0; gpa != UINT64_MAX; gpa = end) {
		end = next_edge(ours, qemus, gpa);
		now = difference_of(find_slot(ours, gpa), find_slot(qemus, gpa));
		if (now != run.difference && run.difference != SAME)
			wrong += report_difference(&run, seen);
		if (now != run.difference)
			run.first = gpa;
		run.difference = now;
		run.last = end - 1;
	}
	return wrong;
}

static int compare_final(const struct trace *kvmas, const struct trace *qemu)
{
	bool seen[NEXPECTED] = {false};
	int wrong = 0;

	printf("differences of the final slots (space, range):\n");
	for (unsigned as_id = 0; as_id < SPACES; as_id++)
		wrong += compare_space(kvmas, qemu, as_id, seen);
	for (size_t i = 0; i < NEXPECTED; i++) {
		if (seen[i])
			continue;
		wrong++;
		printf("  %u  0x%08" PRIx64 "-0x%08" PRIx64 "  %s: MISSING\n", expected[i].as_id,
		       expected[i].first, expected[i].last,
		       difference_names[expected[i].difference]);
	}
	return wrong;
}

/* ---- the table ---- */

static uint64_t calls_of(const struct trace *trace)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < KINDS; i++)
		sum += trace->counts[i];
	return sum;
}

static uint64_t zaps_of(const struct trace *trace)
{
	return trace->counts[DELETE] + trace->counts[MOVE];
}

static void print_table(const struct trace *kvmas, const struct trace *qemu)
{
	const struct {
		const char *name;
		uint64_t kvmas, qemu;
	} rows[] = {
		{"zap events", zaps_of(kvmas), zaps_of(qemu)},
		{"slot calls", calls_of(kvmas), calls_of(qemu)},
		{"  deletes", kvmas->counts[DELETE], qemu->counts[DELETE]},
		{"  creates", kvmas->counts[CREATE], qemu->counts[CREATE]},
		{"  moves", kvmas->counts[MOVE], qemu->counts[MOVE]},
		{"  flags", kvmas->counts[FLAGS], qemu->counts[FLAGS]},
		{"bytes torn while in use", kvmas->torn, qemu->torn},
		{"  in MiB, rounded", (kvmas->torn + (1 << 19)) >> 20,
		 (qemu->torn + (1 << 19)) >> 20},
	};

	printf("%-24s %12s %12s\n", "", "kvmas", "QEMU");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("%-24s %12" PRIu64 " %12" PRIu64 "\n", rows[i].name, rows[i].kvmas,
		       rows[i].qemu);
}

/* The library counts by itself, knowing its commits: what the trace shows must agree. */
static int compare_torn(const struct trace *kvmas)
{
	if (!kvmas->says_torn || kvmas->said_torn == kvmas->torn)
		return 0;
	printf("bytes_torn_live is %" PRIu64 ", but the trace shows %" PRIu64 "\n",
	       kvmas->said_torn, kvmas->torn);
	return 1;
}

static int check_limit(const char *name, uint64_t value, const char *arg)
{
	char *end;
	uint64_t limit = strtoull(arg, &end, 10);

	if (*arg < '0' || *arg > '9' || *end)
		fail("not a limit", arg);
	printf("%s: %" PRIu64 ", at most %" PRIu64 ": %s\n", name, value, limit,
	       value > limit ? "EXCEEDED" : "holds");
	return value > limit;
}

static int check_limits(const struct trace *kvmas, char **args)
{
	return check_limit("zap events", zaps_of(kvmas), args[0]) +
	       check_limit("slot calls", calls_of(kvmas), args[1]) +
	       check_limit("bytes torn while in use", kvmas->torn, args[2]);
}

int main(int argc, char **argv)
{
	static struct trace kvmas, qemu;
	int wrong;

	if (argc != 3 && argc != 6)
		fail("usage", "compare KVMAS-TRACE QEMU-TRACE [ZAPS CALLS TORN]");
	kvmas.name = argv[1];
	qemu.name = argv[2];
	read_trace(&kvmas, read_kvmas_line);
	read_trace(&qemu, read_qemu_line);
	resolve_blocks(&qemu);
	replay(&kvmas);
	replay(&qemu);

	print_table(&kvmas, &qemu);
	printf("final slots of kvmas, neighbours joined (space, range, block):\n");
	for (unsigned as_id = 0; as_id < SPACES; as_id++)
		print_space(&kvmas.spaces[as_id], as_id);
	wrong = compare_torn(&kvmas);
	wrong += compare_final(&kvmas, &qemu);
	if (argc == 6)
		wrong += check_limits(&kvmas, argv + 3);
	printf("compare: %s\n", wrong ? "FAILED" : "ok");
	return wrong != 0;
}
