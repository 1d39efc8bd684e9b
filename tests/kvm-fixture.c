/* SPDX-License-Identifier: MIT */
#include "kvm-guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "kvm/vm.h"

uint64_t pages(uint64_t n)
{
	return n * page_size();
}

/* ---- hooks ---- */

int machine_ioctl(void *data, int fd, unsigned long request, void *arg)
{
	struct machine *m = data;
	struct fake_kvm *vm = m->vm2 && fd >= m->vm2->fd ? m->vm2 : m->vm;
	int result;

	if (request != KVM_CHECK_EXTENSION) {
		m->nioctls++;
		run_guests(m);
		if (m->on_ioctl)
			m->on_ioctl(m, request, arg);
		if (m->answer && m->answer(m, request, &result))
			return result;
	}
	return fake_kvm_ioctl(vm, fd, request, arg);
}

static int pause_vcpus(void *data)
{
	struct machine *m = data;

	assert_false(m->paused);
	if (m->pause_result)
		return m->pause_result;
	m->npauses++;
	m->paused = true;
	flush_guests(m, 0);
	return 0;
}

static void resume_vcpus(void *data)
{
	struct machine *m = data;

	assert_true(m->paused);
	m->paused = false;
}

void slot_text(char **text, const struct kvmas_slot *slot)
{
	text_add(text, "%" PRIu64 "-%" PRIu64 " %s+%" PRIu64 "%s%s%s", slot->gpa / page_size(),
		 (slot->gpa + slot->size) / page_size() - 1, kvmas_ram_get_name(slot->ram),
		 slot->ram_offset / page_size(), slot->flags & RO ? " ro" : "",
		 slot->flags & LOG ? " log" : "", slot->flags & KVM_MEM_GUEST_MEMFD ? " gmem" : "");
}

void op_text(char **text, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot)
{
	static const char *const kinds[] = {
		[KVMAS_SLOT_CREATE] = "create",
		[KVMAS_SLOT_DELETE] = "delete",
		[KVMAS_SLOT_MOVE] = "move",
		[KVMAS_SLOT_FLAGS] = "flags",
	};

	text_add(text, "%s %u:%u ", kinds[kind], slot->as_id, slot->id);
	slot_text(text, slot);
}

static void trace(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot,
		  int result)
{
	struct machine *m = data;

	op_text(&m->traced, kind, slot);
	text_add(&m->traced, " = %d\n", result);
	m->ops = realloc(m->ops, (m->nops + 1) * sizeof(*m->ops));
	assert_non_null(m->ops);
	m->ops[m->nops++] = (struct traced_op){kind, *slot, result};
}

void forget_trace(struct machine *m)
{
	free(m->traced);
	m->traced = NULL;
	m->nops = 0;
}

void assert_trace(struct machine *m, const char *expected)
{
	assert_string_equal(m->traced ? m->traced : "", expected);
	forget_trace(m);
}

/* ---- life ---- */

static struct kvmas_kvm *make_tie(struct machine *m, const struct fake_kvm *vm,
				  const struct kvmas_kvm_config *tie)
{
	bool first = vm == m->vm; /* which of two ties' vCPUs are paused is not told */
	struct kvmas_kvm *kvm;

	must(kvmas_kvm_new(m->f->kvmas,
			   KVMAS_CONFIG(kvm, .vm_fd = vm->fd, .ioctl = machine_ioctl,
					.ioctl_data = m, .trace = trace, .trace_data = m,
					.flags = tie->flags, .gpa_bits = tie->gpa_bits,
					.log = tie->log, .ring_size = tie->ring_size,
					.pause = first ? pause_vcpus : NULL,
					.resume = first ? resume_vcpus : NULL, .pause_data = m),
			   &kvm));
	return kvm;
}

void machine_add_tie(struct machine *m, const struct fake_kvm_config *config)
{
	struct fake_kvm_config second = config ? *config : (struct fake_kvm_config){0};

	second.fd = m->vm->fd + 100; /* behind those of the first one's vCPUs */
	m->vm2 = fake_kvm_new(&second);
	m->kvm2 = make_tie(m, m->vm2, &m->kvm->config);
	add_guests(m, 1);
}

static struct machine *new_unbound(const struct fake_kvm_config *config,
				   const struct kvmas_kvm_config *tie)
{
	static const char *const names[NSPACES] = {"normal", "smm"};
	static const struct kvmas_kvm_config plain;
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->f = fixture_new((struct kvmas_config){0});
	m->vm = fake_kvm_new(config);
	m->kvm = make_tie(m, m->vm, tie ? tie : &plain);
	add_guests(m, 0);
	for (unsigned i = 0; i < NSPACES; i++) {
		m->root[i] = make_container(m->f, names[i], KVMAS_SIZE_MAX);
		m->space[i] = make_space(m->f, names[i], m->root[i]);
	}
	return m;
}

struct machine *machine_new_unbound(const struct fake_kvm_config *config)
{
	return new_unbound(config, NULL);
}

struct machine *machine_new_with(const struct fake_kvm_config *config,
				 const struct kvmas_kvm_config *tie)
{
	struct machine *m = new_unbound(config, tie);

	for (unsigned i = 0; i < NSPACES; i++)
		must(kvmas_kvm_bind(m->kvm, m->space[i], i));
	return m;
}

struct machine *machine_new(const struct fake_kvm_config *config)
{
	return machine_new_with(config, NULL);
}

void machine_free(struct machine *m)
{
	fake_kvm_fail_never(m->vm);
	m->on_ioctl = NULL;
	m->answer = NULL;
	m->run_guest = NULL;
	assert_false(m->paused);
	assert_right(m);
	machine_drop(m);
}

void machine_drop(struct machine *m)
{
	while (m->nclients)
		kvmas_client_unref(m->clients[--m->nclients]);
	del_guests(m);
	kvmas_kvm_unref(m->kvm2);
	kvmas_kvm_unref(m->kvm);
	fixture_free(m->f);
	fake_kvm_free(m->vm2);
	fake_kvm_free(m->vm);
	free(m->traced);
	free(m->ops);
	free(m);
}

int machine_setup(void **state)
{
	*state = machine_new(NULL);
	return 0;
}

int machine_teardown(void **state)
{
	machine_free(*state);
	return 0;
}

/* ---- regions ---- */

struct kvmas_region *put_ram(struct machine *m, unsigned as_id, const char *name, uint64_t gfn,
			     uint64_t npages)
{
	struct kvmas_region *ram = make_ram(m->f, name, pages(npages));

	add(m->root[as_id], ram, pages(gfn), 0);
	return ram;
}

struct kvmas_region *put_alias(struct machine *m, unsigned as_id, struct kvmas_region *target,
			       uint64_t gfn, uint64_t first, uint64_t npages)
{
	struct kvmas_region *alias = make_alias(m->f, "alias", target, pages(first), pages(npages));

	add(m->root[as_id], alias, pages(gfn), 0);
	return alias;
}

struct kvmas_region *make_private_ram(struct machine *m, const char *name, uint64_t npages)
{
	int fd = kvmas_kvm_create_guest_memfd(m->kvm, pages(npages), 0);
	struct kvmas_region *region;
	struct kvmas_ram *ram;

	assert_true(fd >= 0);
	must(kvmas_ram_new(m->f->kvmas,
			   KVMAS_CONFIG(ram, .name = name, .size = pages(npages),
					.flags = KVMAS_RAM_GUEST_MEMFD, .guest_memfd = fd),
			   &ram));
	close(fd);
	region = make_window(m->f, KVMAS_REGION_RAM, name, ram, 0, npages);
	kvmas_ram_unref(ram);
	return region;
}

struct kvmas_region *put_mmio(struct machine *m, unsigned as_id, const char *name, uint64_t gfn,
			      uint64_t npages)
{
	struct kvmas_region *mmio = make_mmio(m->f, name, pages(npages));

	add(m->root[as_id], mmio, pages(gfn), 0);
	return mmio;
}

struct kvmas_region *make_window(struct fixture *f, enum kvmas_region_kind kind, const char *name,
				 struct kvmas_ram *block, uint64_t first, uint64_t npages)
{
	return make_region(f, (struct kvmas_region_config){.kind = kind,
							   .name = name,
							   .size = pages(npages),
							   .ram = block,
							   .ram_offset = pages(first)});
}

struct kvmas_client *make_client(struct machine *m, const char *name)
{
	assert_true(m->nclients < LENGTH(m->clients));
	must(kvmas_client_new(m->f->kvmas, name, &m->clients[m->nclients]));
	return m->clients[m->nclients++];
}

int set_own_slot(struct machine *m, unsigned as_id, unsigned id, uint64_t gfn, uint64_t npages)
{
	struct kvm_userspace_memory_region region = {
		.slot = as_id << 16 | id,
		.guest_phys_addr = pages(gfn),
		.memory_size = pages(npages),
		.userspace_addr = 1 << 30,
	};

	return fake_kvm_ioctl(m->vm, m->vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* ---- slots ---- */

static int add_slot_line(void *data, const struct kvmas_slot *slot)
{
	char **text = data;

	text_add(text, "%u:%u ", slot->as_id, slot->id);
	slot_text(text, slot);
	text_add(text, "\n");
	return 0;
}

char *slots_text(struct kvmas_kvm *kvm)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	must(kvmas_kvm_for_each_slot(kvm, add_slot_line, &text));
	return text;
}

static int add_op_line(void *data, enum kvmas_slot_op_kind kind, const struct kvmas_slot *slot)
{
	op_text(data, kind, slot);
	text_add(data, " = 0\n");
	return 0;
}

char *dry_run_text(struct kvmas_kvm *kvm, struct kvmas_kvm_plan *ret)
{
	char *text = NULL;
	int err;

	text_add(&text, "%s", "");
	ret->struct_size = sizeof(*ret);
	err = kvmas_kvm_dry_run(kvm, add_op_line, &text, ret);
	if (err) {
		free(text);
		text = NULL;
		text_add(&text, "%d\n", err);
	}
	return text;
}

void assert_slots(struct machine *m, const char *expected)
{
	char *text = slots_text(m->kvm);

	assert_string_equal(text, expected);
	free(text);
}

struct kvmas_kvm_stats stats_of(struct machine *m)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(m->kvm, &stats);
	return stats;
}

unsigned calls_in(const struct fake_kvm *vm, unsigned as_id, enum fake_kvm_op op)
{
	unsigned count = 0;

	for (size_t i = 0; i < vm->ncalls; i++)
		count += vm->calls[i].as_id == as_id &&
			 (op == FAKE_KVM_NOPS || vm->calls[i].op == op);
	return count;
}

/* ---- checkers ---- */

/* A walk over the library's slots, beside the double's. */
struct walk {
	const struct fake_kvm *vm;
	unsigned count[FAKE_KVM_MAX_SPACES];
	uint64_t end; /* of the slot before, in this space */
	unsigned as_id;
	const char *wrong;
};

static int check_slot(void *data, const struct kvmas_slot *slot)
{
	struct walk *walk = data;
	const struct fake_kvm_slot *theirs = fake_kvm_find(walk->vm, slot->as_id, slot->gpa);
	const unsigned char *hva = kvmas_ram_get_hva(slot->ram);

	if (slot->as_id < walk->as_id || (slot->as_id == walk->as_id && slot->gpa < walk->end))
		walk->wrong = "the table's slots are out of order";
	else if (!theirs || theirs->id != slot->id || theirs->gpa != slot->gpa ||
		 theirs->size != slot->size || theirs->flags != slot->flags ||
		 theirs->hva != (uintptr_t)(hva + slot->ram_offset))
		walk->wrong = "the table has a slot that KVM has not";
	walk->as_id = slot->as_id;
	walk->end = slot->gpa + slot->size;
	walk->count[slot->as_id]++;
	return walk->wrong != NULL;
}

/* Ids that the library was told are not its own, and the kernel's. */
static bool is_foreign(const struct machine *m, const struct fake_kvm_slot *slot)
{
	return slot->id >= m->vm->config.nr_memslots ||
	       kas_id_test(m->kvm->spaces[slot->as_id].slots.reserved, slot->id);
}

static unsigned count_ours(const struct machine *m, unsigned as_id, uint64_t *npages)
{
	const struct fake_kvm_space *space = &m->vm->spaces[as_id];
	unsigned count = 0;

	*npages = 0;
	for (unsigned i = 0; i < space->nslots; i++) {
		if (is_foreign(m, space->by_gpa[i]))
			continue;
		count++;
		*npages += space->by_gpa[i]->size / page_size();
	}
	return count;
}

const char *tables_wrong(struct machine *m)
{
	struct walk walk = {.vm = m->vm};
	const char *wrong = fake_kvm_validate(m->vm);
	uint64_t npages;

	if (wrong)
		return wrong;
	for (unsigned i = 0; i < m->kvm->nspaces; i++) {
		if (kas_slots_validate(&m->kvm->spaces[i].slots))
			return "a table of slots breaks its invariants";
	}
	kvmas_kvm_for_each_slot(m->kvm, check_slot, &walk);
	for (unsigned i = 0; i < m->kvm->nspaces && !walk.wrong; i++) {
		if (walk.count[i] != count_ours(m, i, &npages))
			walk.wrong = "KVM has a slot that the table has not";
	}
	return walk.wrong;
}

static bool is_reserved(const struct kvmas_kvm *kvm, uint64_t gpa)
{
	for (const struct reserved *r = kvm->reserved; r; r = r->next) {
		if (r->range.first <= gpa && gpa <= r->range.last)
			return true;
	}
	return false;
}

static bool is_wanted_logged(const struct kvmas_kvm *kvm, const struct kvmas_space *space,
			     const struct kvmas_section *section)
{
	const struct log_table *table = kvm->object.kvmas->logging;

	for (size_t i = 0; table && i < table->count && !section->readonly && !section->romd; i++) {
		const struct log_wish *wish = &table->wishes[i];

		if ((wish->region == NULL || wish->region == section->region) &&
		    (wish->space == NULL || wish->space == space))
			return true;
	}
	return false;
}

/* Whether the pages of one section are mapped as they should be; counts those. */
static bool section_is_mapped(struct machine *m, unsigned as_id,
			      const struct kvmas_section *section, uint64_t *npages)
{
	bool readonly = section->readonly || section->romd;
	uint32_t flags = readonly ? RO : 0;
	uint64_t first = section->gpa + (-section->gpa & (page_size() - 1));

	/* It begins in the last page of all, which has no slot. */
	if (first < section->gpa)
		return true;
	if (!section->ram || (readonly && m->vm->config.no_readonly_mem))
		return true;
	if (is_wanted_logged(m->kvm, m->kvm->spaces[as_id].space, section))
		flags |= LOG;
	if (kas_guest_memfd_is_there(&section->ram->guest_memfd))
		flags |= KVM_MEM_GUEST_MEMFD;
	for (uint64_t gpa = first; gpa >= first && gpa <= section->last &&
				   page_size() - 1 <= section->last - gpa && gpa + page_size() != 0;
	     gpa += page_size()) {
		const unsigned char *hva = (unsigned char *)section->hva + (gpa - section->gpa);
		const struct fake_kvm_slot *slot = fake_kvm_find(m->vm, as_id, gpa);

		if ((uintptr_t)hva % page_size() || is_reserved(m->kvm, gpa))
			continue;
		if (!slot || is_foreign(m, slot) || slot->flags != flags ||
		    fake_kvm_hva(m->vm, as_id, gpa) != hva)
			return false;
		++*npages;
	}
	return true;
}

static const char *space_wrong(struct machine *m, unsigned as_id)
{
	struct kvmas_space *space = m->kvm->spaces[as_id].space;
	const struct kvmas_view *view = space ? kvmas_view_acquire(m->f->reader, space) : NULL;
	struct kvmas_section section;
	uint64_t npages = 0;
	uint64_t mapped;
	bool right = true;
	int err = view ? kvmas_view_find(view, 0, &section) : -ENOENT;

	for (; !err && right; err = kvmas_view_next(view, &section))
		right = section_is_mapped(m, as_id, &section, &npages);
	if (view)
		kvmas_view_release(m->f->reader, view);
	if (!right)
		return "a page of the view is not mapped as it should be";
	count_ours(m, as_id, &mapped);
	return npages == mapped ? NULL : "pages are mapped that the view does not show";
}

const char *mappings_wrong(struct machine *m)
{
	const char *wrong = NULL;

	for (unsigned i = 0; i < m->kvm->nspaces && !wrong; i++)
		wrong = space_wrong(m, i);
	return wrong;
}

static void swap_ties(struct machine *m)
{
	struct kvmas_kvm *kvm = m->kvm;
	struct fake_kvm *vm = m->vm;

	m->kvm = m->kvm2;
	m->vm = m->vm2;
	m->kvm2 = kvm;
	m->vm2 = vm;
}

static const char *tie_wrong(struct machine *m)
{
	const char *wrong = m->kvm ? tables_wrong(m) : NULL;

	return wrong || !m->kvm ? wrong : mappings_wrong(m);
}

const char *machine_wrong(struct machine *m)
{
	const char *wrong = tie_wrong(m);

	if (wrong || !m->kvm2)
		return wrong;
	swap_ties(m);
	wrong = tie_wrong(m);
	swap_ties(m);
	return wrong;
}

void assert_right(struct machine *m)
{
	const char *wrong = machine_wrong(m);

	if (wrong)
		fail_msg("%s", wrong);
}

/* ---- dirty pages ---- */

static char *bits_text(const uint64_t *bits, uint64_t npages)
{
	char *text = NULL;

	text_add(&text, "%s", "");
	for (uint64_t page = 0; page < npages; page++) {
		uint64_t last = page;

		if (!(bits[page / 64] >> page % 64 & 1))
			continue;
		while (last + 1 < npages && bits[(last + 1) / 64] >> (last + 1) % 64 & 1)
			last++;
		text_add(&text, last > page ? "%" PRIu64 "-%" PRIu64 " " : "%" PRIu64 " ", page,
			 last);
		page = last;
	}
	return text;
}

void assert_taken(struct kvmas_client *client, struct kvmas_ram *block, const char *expected)
{
	uint64_t npages = kvmas_ram_get_size(block) / page_size();
	uint64_t *bits = calloc((npages + 63) / 64, sizeof(*bits));
	char *text;

	assert_non_null(bits);
	assert_true(kvmas_client_take(client, block, 0, npages, bits) >= 0);
	text = bits_text(bits, npages);
	free(bits);
	assert_string_equal(text, expected);
	free(text);
}
