/* SPDX-License-Identifier: MIT */
/* Transactions of the model: see channel-model.h. Read model_change first. */
#include "channel-model.h"

#include <stdio.h>

#include "kvm/vm.h"

#define SIZES(...) ((const uint64_t[]){__VA_ARGS__})

/* ---- the tree ---- */

static bool is_for_ports(int node)
{
	return node >= NODE_PORT_DEVICES && node < NODE_RAMS;
}

/* Most begin where a page does. */
static uint64_t draw_address(struct channel_world *w, int node)
{
	if (is_for_ports(node))
		return 8 * model_draw(w, MODEL_PORTS / 8);
	if (model_rarely(w, 3))
		return pages(model_draw(w, MODEL_PAGES)) + 8 * model_draw(w, 512);
	return pages(model_draw(w, MODEL_PAGES));
}

static int place(struct channel_world *w, int index)
{
	struct node *node = &w->now.nodes[index];
	int parent = is_for_ports(index) ? NODE_PORTS : (int)model_draw(w, 2);

	node->parent = parent;
	node->offset = draw_address(w, index);
	node->priority = (int)model_draw(w, 3);
	node->order = ++w->now.order;
	return kvmas_region_add(w->regions[parent], w->regions[index], node->offset,
				node->priority);
}

static int take_out(struct channel_world *w, int index)
{
	w->now.nodes[index].parent = NONE;
	return kvmas_region_del(w->regions[index]);
}

static int move(struct channel_world *w, int index)
{
	struct node *node = &w->now.nodes[index];
	uint64_t offset = draw_address(w, index);

	if (offset != node->offset)
		node->order = ++w->now.order;
	node->offset = offset;
	return kvmas_region_set_offset(w->regions[index], offset);
}

static int set_size(struct channel_world *w, int index)
{
	const uint64_t *sizes = SIZES(0x40, 0x100, pages(1), pages(2));
	struct node *node = &w->now.nodes[index];

	node->size = sizes[model_draw(w, 4)];
	return kvmas_region_set_size(w->regions[index], node->size);
}

static int set_alias_offset(struct channel_world *w, int index)
{
	struct node *node = &w->now.nodes[index];

	node->target_offset = 8 * model_draw(w, 8) + pages(model_draw(w, 2));
	return kvmas_region_set_alias_offset(w->regions[index], node->target_offset);
}

static int edit_attribute(struct channel_world *w, int index)
{
	struct node *node = &w->now.nodes[index];

	switch (model_draw(w, 4)) {
	case 0:
		node->readonly = !node->readonly && model_draw(w, 2);
		return kvmas_region_set_readonly(w->regions[index], node->readonly);
	case 1:
		node->unmergeable = !node->unmergeable;
		return kvmas_region_set_unmergeable(w->regions[index], node->unmergeable);
	case 2:
		if (node->kind != KVMAS_REGION_ROMD)
			return 0;
		node->device = !node->device;
		return kvmas_region_set_romd(w->regions[index], !node->device);
	default:
		node->disabled = !node->disabled && model_draw(w, 2);
		return kvmas_region_set_enabled(w->regions[index], !node->disabled);
	}
}

static int edit_tree(struct channel_world *w)
{
	int index = NODE_MIRROR + (int)model_draw(w, NNODES - NODE_MIRROR);
	struct node *node = &w->now.nodes[index];

	if (index == NODE_MIRROR || model_rarely(w, 3))
		return edit_attribute(w, index);
	if (node->parent == NONE)
		return place(w, index);
	switch (model_draw(w, 4)) {
	case 0:
		return take_out(w, index);
	case 1:
		if (node->kind == KVMAS_REGION_MMIO)
			return set_size(w, index);
		return node->kind == KVMAS_REGION_ALIAS ? set_alias_offset(w, index) : 0;
	default:
		return move(w, index);
	}
}

/* ---- channels ---- */

static struct model_channel draw_channel(struct channel_world *w)
{
	struct model_channel channel = {
		.zone = model_rarely(w, 3),
		.must = model_rarely(w, 40) && !w->full,
		.offset = 8 * model_draw(w, 10),
		.event = model_draw(w, NEVENTFDS),
	};

	if (model_rarely(w, 10))
		channel.offset = pages(1) - 8 + 8 * model_draw(w, 3);
	if (channel.zone) {
		channel.size = SIZES(4, 8, 16, 24, 64)[model_draw(w, 5)];
		if (model_rarely(w, 8))
			channel.size = pages(1) + 16;
		return channel;
	}
	channel.size = SIZES(0, 1, 2, 4, 8)[model_draw(w, 5)];
	channel.match = channel.size && model_draw(w, 2);
	channel.value = channel.match ? model_draw(w, 3) : 0;
	return channel;
}

static bool are_rivals(const struct model_channel *a, const struct model_channel *b)
{
	if (a->zone != b->zone)
		return false;
	if (a->zone)
		return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
	if (a->offset != b->offset)
		return false;
	if (a->size == 0 || b->size == 0)
		return true;
	return a->size == b->size && !(a->match && b->match && a->value != b->value);
}

static int judge_add(const struct channel_world *w, int index, const struct model_channel *channel)
{
	uint64_t size = channel->size ? channel->size : 1;

	if (channel->offset + size > w->now.nodes[index].size)
		return -EINVAL;
	for (unsigned i = 0; i < w->now.nchannels[index]; i++) {
		if (are_rivals(&w->now.channels[index][i], channel))
			return -EEXIST;
	}
	return 0;
}

static int call_add(struct channel_world *w, int index, const struct model_channel *channel)
{
	unsigned flags = channel->must ? KVMAS_CHANNEL_MUST : 0;

	if (channel->zone)
		return kvmas_region_add_coalesced(w->regions[index], channel->offset, channel->size,
						  flags);
	if (channel->match)
		flags |= KVMAS_CHANNEL_DATAMATCH;
	return kvmas_region_add_ioeventfd(w->regions[index],
					  KVMAS_CONFIG(ioeventfd, .offset = channel->offset,
						       .size = (unsigned)channel->size,
						       .flags = flags, .datamatch = channel->value,
						       .fd = w->r->events[channel->event]));
}

static int call_del(struct channel_world *w, int index, const struct model_channel *channel)
{
	if (channel->zone)
		return kvmas_region_del_coalesced(w->regions[index], channel->offset,
						  channel->size);
	return channel->match
		       ? del_match(w->regions[index], channel->offset, (unsigned)channel->size,
				   channel->value)
		       : del_event(w->regions[index], channel->offset, (unsigned)channel->size);
}

static int add_channel(struct channel_world *w, int index)
{
	struct model_channel channel = draw_channel(w);
	int judged = judge_add(w, index, &channel);
	int err;

	if (!judged && w->now.nchannels[index] == MAX_CHANNELS)
		return 0;
	err = call_add(w, index, &channel);
	if (err == -ENOMEM)
		return err;
	assert_int_equal(err, judged);
	w->tally->refused_edits += err != 0;
	if (!err)
		w->now.channels[index][w->now.nchannels[index]++] = channel;
	return 0;
}

static int del_channel(struct channel_world *w, int index)
{
	unsigned *count = &w->now.nchannels[index];
	unsigned which = model_draw(w, MAX_CHANNELS);
	struct model_channel none = {.zone = true, .offset = 1, .size = 1};
	int err = call_del(w, index, which < *count ? &w->now.channels[index][which] : &none);

	if (err == -ENOMEM)
		return err;
	assert_int_equal(err, which < *count ? 0 : -ENOENT);
	if (!err)
		w->now.channels[index][which] = w->now.channels[index][--*count];
	return 0;
}

static int edit_channels(struct channel_world *w)
{
	int index = NODE_DEVICES + (int)model_draw(w, NODE_RAMS - NODE_DEVICES);

	return model_rarely(w, 3) ? del_channel(w, index) : add_channel(w, index);
}

/* ---- bindings ---- */

static int edit_binding(struct channel_world *w)
{
	struct kvmas_kvm *kvm = w->r->m->kvm;

	if (model_draw(w, 2)) {
		w->now.ports_bound = !w->now.ports_bound;
		return kvmas_kvm_set_pio_space(kvm, w->now.ports_bound ? w->r->ports : NULL);
	}
	w->now.smm_bound = !w->now.smm_bound;
	return w->now.smm_bound ? kvmas_kvm_bind(kvm, w->r->m->space[SMM], SMM)
				: kvmas_kvm_unbind(kvm, SMM);
}

static int edit(struct channel_world *w)
{
	unsigned kind = model_draw(w, 16);

	if (kind == 0)
		return edit_binding(w);
	return kind < 8 ? edit_channels(w) : edit_tree(w);
}

/* ---- the commit ---- */

static void assert_right_now(struct channel_world *w)
{
	struct kvmas_kvm *kvm = w->r->m->kvm;
	const char *wrong = channels_wrong(kvm, w->r->m->vm);

	if (!wrong && w->complete)
		wrong = model_missing(w);
	if (wrong) {
		char *text = rig_text(w->r);

		fputs(text, stderr); /* print_error would cut it */
		free(text);
		fail_msg("%s", wrong);
	}
	for (size_t i = 0; i < kvm->channels.count; i++) {
		const struct placement *at = &kvm->channels.at[i];

		w->tally->in_kvm += at->made;
		w->tally->by_hand += !at->made && !at->covered;
	}
}

/* A must that could not be given back after a commit that failed is by hand. */
static void assert_musts(struct channel_world *w)
{
	const struct placements *channels = &w->r->m->kvm->channels;

	for (size_t i = 0; i < channels->count; i++) {
		const struct placement *at = &channels->at[i];

		if (at->channel->flags & KVMAS_CHANNEL_MUST)
			assert_true(at->made || at->covered || w->faulty);
	}
}

/* What KVM was refused to undo is made good by an empty transaction. */
static void repair(struct channel_world *w)
{
	w->tally->broken++;
	must(kvmas_begin(w->r->m->f->kvmas));
	must(kvmas_commit(w->r->m->f->kvmas));
	assert_right(w->r->m);
}

static void have_something_fail(struct channel_world *w)
{
	static const int errors[] = {ENOMEM, ENOSPC, EINVAL};
	int error = errors[model_draw(w, 3)];

	if (!w->faulty || !model_draw(w, 2))
		return;
	if (model_rarely(w, 3))
		w->r->m->f->heap.fail_in = 1 + model_draw(w, 30);
	else if (model_rarely(w, 3))
		fake_kvm_fail_from(w->r->m->vm, 1 + model_draw(w, 5), error);
	else
		fake_kvm_fail_at(w->r->m->vm, 1 + model_draw(w, 8), error);
}

static void fail_no_more(struct channel_world *w)
{
	fake_kvm_fail_never(w->r->m->vm);
	w->r->m->f->heap.fail_in = 0;
}

static void judge_failure(struct channel_world *w, int err, struct fake_kvm *before, bool undone)
{
	assert_true(err == -ENOMEM || err == -ENOSPC || err == -EINVAL || err == -EOPNOTSUPP ||
		    err == -ENOTRECOVERABLE);
	w->tally->failed++;
	if (err == -ENOTRECOVERABLE)
		repair(w);
	else if (undone && before)
		assert_true(fake_kvm_equal_slots(w->r->m->vm, before));
}

/* What must be in KVM may be where it cannot: then the world begins empty. */
void model_begin(struct channel_world *w)
{
	struct model_state before = w->now;

	must(kvmas_begin(w->r->m->f->kvmas));
	for (int i = NODE_DEVICES; i < NNODES; i++)
		must(place(w, i));
	for (unsigned i = 0; i < 24; i++)
		must(add_channel(w, NODE_DEVICES + (int)(i % (NODE_RAMS - NODE_DEVICES))));
	if (kvmas_commit(w->r->m->f->kvmas))
		w->now = before;
	assert_right_now(w);
}

void model_change(struct channel_world *w)
{
	struct model_state before = w->now;
	struct fake_kvm *snapshot = w->faulty ? fake_kvm_snapshot(w->r->m->vm) : NULL;
	unsigned nedits = 1 + model_draw(w, 4);
	bool aborts = model_rarely(w, 12);
	bool undone;
	int err;

	must(kvmas_begin(w->r->m->f->kvmas));
	have_something_fail(w);
	for (err = 0; !err && nedits; nedits--)
		err = edit(w);
	if (err || aborts) {
		fail_no_more(w);
		must(kvmas_abort(w->r->m->f->kvmas));
	} else {
		err = kvmas_commit(w->r->m->f->kvmas);
	}
	/* A must may have been refused without our doing: then what we refused is its undoing. */
	undone = !w->full && w->r->m->vm->fail.hits < (err == -EOPNOTSUPP ? 1 : 2);
	fail_no_more(w);
	w->tally->aborted += aborts;
	w->tally->from_callbacks += w->depth > 0;
	if (err || aborts)
		w->now = before;
	model_forget_views(w);
	if (err)
		judge_failure(w, err, snapshot, undone);
	else
		w->tally->commits += !aborts;
	fake_kvm_free(snapshot);
	assert_right_now(w);
	assert_musts(w);
}
