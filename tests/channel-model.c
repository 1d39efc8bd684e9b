/* SPDX-License-Identifier: MIT */
/* See channel-model.h. Read channel_world_step first. */
#include "channel-model.h"

#include "kvm/vm.h"

/* ---- choices ---- */

unsigned model_draw(struct channel_world *w, unsigned n)
{
	return choose(&w->choices, n);
}

bool model_rarely(struct channel_world *w, unsigned n)
{
	return model_draw(w, n) == n - 1;
}

bool model_has_ops(int node)
{
	return node >= NODE_DEVICES && node < NODE_RAMS;
}

/* ---- devices ---- */

static int node_of(const struct channel_world *w, const struct kvmas_region *region)
{
	int node = NODE_DEVICES;

	while (w->regions[node] != region)
		node++;
	return node;
}

static struct model_call call_of(const struct model_exit *exit, struct kvmas_space *space)
{
	return (struct model_call){
		.node = exit->target.node,
		.offset = exit->target.offset,
		.size = exit->size,
		.value = model_value(exit->target.node, exit->bytes, exit->size),
		.smm = exit->smm,
		.space = space,
	};
}

static struct kvmas_space *space_at(const struct channel_world *w, unsigned space)
{
	return space == PORTS ? w->r->ports : w->r->m->space[space];
}

/* Which call must be the next: whoever makes it. */
static struct model_call next_call(struct channel_world *w, const struct kvmas_access *access)
{
	struct model_exit *exit = access->requester == w ? &w->dma : &w->exit;

	if (!access->requester) {
		assert_true(w->head != w->tail);
		return w->waiting[w->head++ % MAX_WAITING];
	}
	assert_true(exit->on);
	if (exit == &w->exit || exit->zones)
		assert_int_equal(w->head, w->tail);
	if (!exit->settled)
		exit->target = model_target(w, exit->space, exit->address, exit->size, exit->bytes);
	exit->settled = true;
	exit->on = false;
	assert_int_equal(exit->target.kind, TO_DEVICE);
	return call_of(exit, space_at(w, exit->space));
}

static int write_model(void *opaque, const struct kvmas_access *access, uint64_t value)
{
	struct device *device = opaque;
	struct channel_world *w = device->rig->data;
	struct model_call call = next_call(w, access);

	assert_int_equal(node_of(w, device->region), call.node);
	assert_int_equal(access->offset, call.offset);
	assert_int_equal(access->size, call.size);
	assert_int_equal(value, call.value);
	assert_int_equal(access->smm, call.smm);
	assert_ptr_equal(access->space, call.space);
	w->tally->called++;
	if (w->meddles && model_rarely(w, 16)) {
		w->depth++;
		model_change(w);
		w->depth--;
	}
	return 0;
}

static int read_model(void *opaque, const struct kvmas_access *access, uint64_t *value)
{
	struct device *device = opaque;
	struct channel_world *w = device->rig->data;

	assert_non_null(access->requester);
	if (access->requester != w)
		assert_int_equal(w->head, w->tail);
	*value = 0;
	return 0;
}

/* ---- stores ---- */

static void note_device(struct channel_world *w, const struct model_exit *exit)
{
	unsigned space = exit->space == PORTS ? PORTS : model_space_of_ring(w, exit->address);
	struct model_call call = call_of(exit, space_at(w, space));

	call.smm = space == SMM;
	assert_true(w->tail - w->head < MAX_WAITING);
	w->waiting[w->tail++ % MAX_WAITING] = call;
	w->tally->waited++;
}

static void assert_memory(const struct channel_world *w, const struct model_exit *exit)
{
	const unsigned char *bytes = kvmas_ram_get_hva(w->blocks[exit->target.node - NODE_RAMS]);

	assert_memory_equal(bytes + exit->target.offset, &exit->bytes, exit->size);
}

/* What is no call of a device has happened by now. */
static void settle(struct channel_world *w, struct model_exit *exit, bool by_hand)
{
	if (!exit->settled)
		exit->target = model_target(w, exit->space, exit->address, exit->size, exit->bytes);
	exit->settled = true;
	switch (exit->target.kind) {
	case TO_MEMORY:
		w->tally->memory++;
		assert_memory(w, exit);
		break;
	case TO_EVENT:
		w->tally->events_by_hand += by_hand;
		w->tally->events_in_kvm += !by_hand;
		w->events[exit->target.event]++;
		break;
	case TO_NOTHING:
		w->tally->nothing++;
		assert_true(by_hand);
		break;
	case TO_DEVICE:
		if (by_hand)
			assert_false(exit->on); /* it was called */
		else
			note_device(w, exit);
		break;
	}
	exit->on = false;
}

static void assert_events(struct channel_world *w)
{
	for (unsigned i = 0; i < NEVENTFDS; i++) {
		if (w->events[i] || model_rarely(w, 16))
			assert_int_equal(take_event(w->r, i), w->events[i]);
		w->events[i] = 0;
	}
}

/* Where a range is stored to, mostly by what channels it has. */
static void draw_in_range(struct channel_world *w, const struct oracle_range *range,
			  struct model_exit *store)
{
	uint64_t size = range->last - range->first + 1;
	uint64_t offset = 8 * model_draw(w, 16) % size;
	unsigned count = w->now.nchannels[range->node];
	const struct model_channel *channel =
		&w->now.channels[range->node][count ? model_draw(w, count) : 0];

	if (model_rarely(w, 8))
		offset = size - 8;
	if (count && channel->offset >= range->offset && channel->offset - range->offset < size &&
	    model_draw(w, 4)) {
		offset = channel->offset - range->offset;
		if (!channel->zone && channel->size && model_draw(w, 4))
			store->size = (unsigned)channel->size;
		if (channel->match && model_draw(w, 2))
			store->bytes = model_value(range->node, channel->value, store->size);
	}
	if (store->space == PORTS && store->size == 8)
		store->size = 4;
	store->address = range->first + offset;
}

static struct model_exit draw_store(struct channel_world *w)
{
	struct model_exit store = {.on = true, .space = model_draw(w, 3)};
	const struct oracle_range *view;
	size_t count;

	if (store.space == SMM && !w->now.smm_bound)
		store.space = NORMAL;
	store.smm = store.space == SMM;
	store.size = 1u << model_draw(w, store.space == PORTS ? 3 : 4);
	store.bytes = ++w->serial;
	view = model_view(w, store.space, &count);
	if (count && !model_rarely(w, 12))
		draw_in_range(w, &view[model_draw(w, (unsigned)count)], &store);
	else if (store.space == PORTS)
		store.address = 8 * model_draw(w, MODEL_PORTS / 8);
	else
		store.address = 8 * model_draw(w, MODEL_PAGES * 512);
	if (model_rarely(w, 3)) /* aligned, still */
		store.address += store.size * model_draw(w, 8 / store.size);
	return store;
}

static void step_store(struct channel_world *w)
{
	struct guest_vcpu *guest = &w->r->cpus[model_draw(w, NCPUS)];
	struct model_exit store = draw_store(w);
	int result;

	if (store.space == PORTS) /* the space that it is in */
		store.smm = guest->cpu->as_id == SMM;
	result = store.space == PORTS ? fake_kvm_vcpu_out(guest->cpu, (uint16_t)store.address,
							  &store.bytes, store.size)
				      : fake_kvm_vcpu_store(guest->cpu, store.space, store.address,
							    &store.bytes, store.size);

	if (result == 0) {
		settle(w, &store, false);
		return;
	}
	assert_int_equal(result, 1);
	w->exit = store;
	assert_int_equal(kvmas_vcpu_handle_exit(guest->vcpu), 1);
	assert_int_equal(w->head, w->tail);
	if (!w->exit.settled || w->exit.target.kind != TO_DEVICE)
		settle(w, &w->exit, true);
}

static void step_load(struct channel_world *w)
{
	unsigned space = model_draw(w, 3);

	if (space == SMM && !w->now.smm_bound)
		space = NORMAL;
	load(w->r, model_draw(w, NCPUS), space,
	     space == PORTS ? 8 * model_draw(w, MODEL_PORTS / 8)
			    : 8 * model_draw(w, MODEL_PAGES * 512),
	     4);
}

static bool has_zones(const struct channel_world *w, int node)
{
	for (unsigned i = 0; i < w->now.nchannels[node]; i++) {
		if (w->now.channels[node][i].zone)
			return true;
	}
	return false;
}

/* Where it leads is settled before what waits is handed on. */
static void step_dma(struct channel_world *w)
{
	struct kvmas_dma dma = {.reader = w->r->m->f->reader, .requester = w};
	struct model_exit *store = &w->dma;

	*store = draw_store(w);
	dma.space = space_at(w, store->space);
	dma.smm = store->space == SMM;
	if (store->space == PORTS && !w->now.ports_bound)
		return;
	store->target = model_target(w, store->space, store->address, store->size, store->bytes);
	store->settled = true;
	store->zones = (store->target.kind == TO_DEVICE || store->target.kind == TO_EVENT) &&
		       has_zones(w, store->target.node);
	w->tally->dmas++;
	if (kvmas_dma_write(&dma, store->address, &store->bytes, store->size, NULL))
		assert_int_equal(store->target.kind, TO_NOTHING);
	if (store->zones)
		assert_int_equal(w->head, w->tail);
	if (store->target.kind != TO_DEVICE)
		settle(w, store, true);
	assert_false(store->on);
}

static void step_drain(struct channel_world *w)
{
	w->tally->drains++;
	must(kvmas_kvm_drain(w->r->m->kvm, w->r->m->f->reader));
	assert_int_equal(w->head, w->tail);
}

bool channel_world_step(struct channel_world *w)
{
	unsigned kind = model_draw(w, 32);

	w->tally->steps++;
	if (kind < 5)
		model_change(w);
	else if (kind == 5)
		step_drain(w);
	else if (kind == 6)
		step_dma(w);
	else if (kind == 7)
		step_load(w);
	else
		step_store(w);
	assert_events(w);
	free(w->r->words);
	w->r->words = NULL;
	if (model_rarely(w, 64))
		assert_right(w->r->m);
	return w->choices.count > 0;
}

/* ---- worlds ---- */

static void add_node(struct channel_world *w, int index, struct node node,
		     struct kvmas_region *region)
{
	node.parent = NONE;
	node.target = node.kind == KVMAS_REGION_ALIAS ? node.target : NONE;
	w->now.nodes[index] = node;
	w->regions[index] = region;
}

static void make_model_device(struct channel_world *w, int index, uint64_t size, bool romd)
{
	struct device *device = &w->r->devices[w->r->ndevices++];
	struct kvmas_ops ops = {
		.struct_size = sizeof(ops),
		.read = read_model,
		.write = write_model,
		.endian = index == NODE_DEVICES ? KVMAS_BIG_ENDIAN : KVMAS_LITTLE_ENDIAN,
	};
	enum kvmas_region_kind kind = romd ? KVMAS_REGION_ROMD : KVMAS_REGION_MMIO;
	struct kvmas_ram *block = romd ? make_block(w->r->m->f, "flash", 2) : NULL;

	device->rig = w->r;
	must(kvmas_region_new(w->r->m->f->kvmas,
			      KVMAS_CONFIG(region, .kind = kind, .name = "device", .size = size,
					   .ram = block, .ops = &ops, .opaque = device),
			      &device->region));
	kvmas_ram_unref(block);
	add_node(w, index, (struct node){.name = "device", .kind = kind, .size = size},
		 device->region);
}

static void make_model_alias(struct channel_world *w, int index, int target)
{
	uint64_t size = index % 2 ? 0x60 : pages(1);

	add_node(w, index,
		 (struct node){.name = "alias",
			       .kind = KVMAS_REGION_ALIAS,
			       .size = size,
			       .target = target},
		 make_alias(w->r->m->f, "alias", w->regions[target], 0, size));
}

static void make_nodes(struct channel_world *w)
{
	static const int targets[] = {NODE_DEVICES, NODE_DEVICES + 1, NODE_DEVICES + 3, NODE_RAMS};
	struct rig *r = w->r;

	for (int i = NODE_NORMAL; i <= NODE_PORTS; i++)
		add_node(w, i,
			 (struct node){.name = "root",
				       .kind = KVMAS_REGION_CONTAINER,
				       .size = i == NODE_PORTS ? 0x10000 : KVMAS_SIZE_MAX},
			 i == NODE_PORTS ? r->port_root : r->m->root[i]);
	add_node(w, NODE_MIRROR,
		 (struct node){.name = "mirror",
			       .kind = KVMAS_REGION_ALIAS,
			       .size = KVMAS_SIZE_MAX,
			       .target = NODE_NORMAL,
			       .priority = -1},
		 r->mirror);
	w->now.nodes[NODE_MIRROR].parent = NODE_SMM;
	make_model_device(w, NODE_DEVICES, 0x100, false);
	make_model_device(w, NODE_DEVICES + 1, pages(2), false);
	make_model_device(w, NODE_DEVICES + 2, pages(1), false);
	make_model_device(w, NODE_DEVICES + 3, pages(2), true);
	make_model_device(w, NODE_PORT_DEVICES, 0x40, false);
	make_model_device(w, NODE_PORT_DEVICES + 1, 0x40, false);
	for (int i = 0; i < 2; i++) {
		struct kvmas_region *ram = make_ram(r->m->f, "ram", pages(2));

		w->blocks[i] = block_of(ram);
		add_node(w, NODE_RAMS + i,
			 (struct node){.name = "ram", .kind = KVMAS_REGION_RAM, .size = pages(2)},
			 ram);
	}
	for (int i = 0; i < 4; i++)
		make_model_alias(w, NODE_ALIASES + i, targets[i]);
	/* Where nobody stores: space 0 has a slot, as that of a machine has (kas_apply_renew). */
	put_ram(r->m, NORMAL, "low", 0x100, 1);
}

struct channel_world *channel_world_new(struct choices choices, struct channel_tally *tally)
{
	struct channel_world *w = calloc(1, sizeof(*w));
	struct fake_kvm_config config = {0};
	unsigned kind;

	assert_non_null(w);
	w->choices = choices;
	w->tally = tally;
	kind = model_draw(w, 8);
	w->faulty = model_draw(w, 2);
	w->meddles = model_draw(w, 2);
	w->full = kind == 4 || kind == 5;
	w->complete = kind < 4 && !w->faulty;
	config.version = kind == 1 ? FAKE_KVM_6_12 : FAKE_KVM_6_1;
	config.bus_devices = kind == 4 ? 2 : kind == 5 ? 5 : 0;
	config.no_ioeventfd = kind == 6;
	config.no_coalesced_mmio = kind == 7;
	w->r = rig_new(&config);
	w->r->data = w;
	w->now.smm_bound = w->now.ports_bound = true;
	make_nodes(w);
	model_begin(w);
	return w;
}

void channel_world_free(struct channel_world *w)
{
	step_drain(w);
	model_forget_views(w);
	rig_free(w->r);
	free(w);
}
