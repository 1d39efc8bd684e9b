/* SPDX-License-Identifier: MIT */
/*
 * What event channels add to a commit: two scenes of a thousand devices, tied to the double of KVM;
 * in one of them each device has an ioeventfd, and KVM has them all.
 *
 *   flip   a piece of RAM is hidden, or shown again, as by a PAM register: a slot goes or comes,
 *          and no channel is concerned
 *   lid    a device without channels is hidden, or shown again: no slot, and no channel
 *   move   a device moves, its ioeventfd with it: KVM is told twice
 *   add    the lid gets one more, in a transaction of its own; taking it away is not timed. In the
 *          scene without, it is the only one
 *
 * The last two go through the list of all channels, some 20 us for a thousand; and the double, for
 * each call, finds out which eventfd is meant, and whom it collides with. (KVM waits for readers of
 * its bus, and copies that.)
 *
 * Both take turns, and ratios are medians of those of each round: so a busy machine changes them
 * less than the figures.
 */
#include "channels.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "scene.h"
#include "stats.h"

enum { MAX_ROUNDS = 1000, TURN = 32 };

static const struct {
	const char *name;
	double most_ratio;
	double most_us;
} works[NCHANNEL_WORKS] = {
	[CHANNEL_FLIP] = {"flip", .most_ratio = 1.2},
	[CHANNEL_LID] = {"lid", .most_ratio = 1.2},
	[CHANNEL_MOVE] = {"move", .most_us = 150},
	[CHANNEL_ADD] = {"add", .most_us = 150},
};

struct stage {
	struct scene scene;
	int fd;
	bool shown;
	unsigned page; /* of the device that moves, in its gap */
};

const char *channel_work_name(enum channel_work work)
{
	return works[work].name;
}

double channel_work_limit(enum channel_work work, const char **ret_unit)
{
	*ret_unit = works[work].most_us > 0 ? "us" : "times";
	return works[work].most_us > 0 ? works[work].most_us : works[work].most_ratio;
}

double channel_work_figure(enum channel_work work, const struct channel_line *line)
{
	return works[work].most_us > 0 ? line->with : line->ratio;
}

/* ---- the two scenes ---- */

static void add_channel(struct kvmas_region *region, int fd)
{
	must(kvmas_region_add_ioeventfd(region, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = fd)));
}

/* Each channel has a file descriptor of the library's. */
static void allow_files(unsigned count)
{
	struct rlimit limit;

	must(getrlimit(RLIMIT_NOFILE, &limit) ? -errno : 0);
	if (limit.rlim_cur >= count + 64)
		return;
	limit.rlim_cur = count + 64;
	must(setrlimit(RLIMIT_NOFILE, &limit) ? -errno : 0);
}

static uint64_t channels_in_kvm(const struct scene *scene)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(scene->kvm, &stats);
	return stats.channels_in_kvm;
}

static void open_stage(struct stage *stage, unsigned ndevices, unsigned nchannels)
{
	const struct scene_config config = {.ndevices = ndevices, .nspaces = 1, .tied = true};
	struct scene *scene = &stage->scene;

	*stage = (struct stage){.fd = eventfd(0, EFD_CLOEXEC), .shown = true, .page = 1};
	must(stage->fd < 0 ? -errno : 0);
	scene_open(scene, &config);
	must(kvmas_begin(scene->kvmas));
	for (unsigned i = 0; i < nchannels; i++)
		add_channel(scene->devices[i], stage->fd);
	must(kvmas_commit(scene->kvmas));
	bench_expect(channels_in_kvm(scene) == nchannels);
}

static void close_stage(struct stage *stage)
{
	scene_close(&stage->scene);
	close(stage->fd);
}

/* ---- what is timed ---- */

static int move_device(struct stage *stage)
{
	struct scene *scene = &stage->scene;
	uint64_t gap = scene_place(scene, 0) - SCENE_PAGE;

	stage->page = 3 - stage->page;
	return kvmas_region_set_offset(scene->devices[0], gap + stage->page * SCENE_PAGE);
}

static int work_on(struct stage *stage, enum channel_work work)
{
	struct scene *scene = &stage->scene;

	if (work == CHANNEL_MOVE)
		return move_device(stage);
	if (work == CHANNEL_ADD)
		return kvmas_region_add_ioeventfd(
			scene->lid, KVMAS_CONFIG(ioeventfd, .size = 4, .fd = stage->fd));
	stage->shown = !stage->shown;
	return kvmas_region_set_enabled(work == CHANNEL_LID ? scene->lid : scene->ram[0],
					stage->shown);
}

static void take_back(struct stage *stage, enum channel_work work)
{
	if (work == CHANNEL_ADD)
		must(kvmas_region_del_ioeventfd(stage->scene.lid,
						KVMAS_CONFIG(ioeventfd, .size = 4)));
}

/* Microseconds for one commit. */
static double time_turn(struct stage *stage, enum channel_work work)
{
	uint64_t spent = 0;

	for (unsigned i = 0; i < TURN; i++) {
		uint64_t start = clock_ns();
		int err = work_on(stage, work);

		spent += clock_ns() - start;
		must(err);
		take_back(stage, work);
	}
	return (double)spent / TURN / 1000;
}

static struct channel_line measure(struct stage *without, struct stage *with, unsigned rounds,
				   enum channel_work work)
{
	double bare[MAX_ROUNDS], full[MAX_ROUNDS], ratios[MAX_ROUNDS];
	uint64_t before = channels_in_kvm(&with->scene);

	time_turn(without, work);
	time_turn(with, work);
	for (unsigned i = 0; i < rounds; i++) {
		/* Whoever comes first in one round is second in the next. */
		if (i % 2)
			bare[i] = time_turn(without, work);
		full[i] = time_turn(with, work);
		if (i % 2 == 0)
			bare[i] = time_turn(without, work);
		ratios[i] = full[i] / bare[i];
	}
	bench_expect(channels_in_kvm(&with->scene) == before);
	return (struct channel_line){
		.without = stats_median(bare, rounds),
		.with = stats_median(full, rounds),
		.ratio = stats_median(ratios, rounds),
	};
}

struct channel_costs channels_measure(unsigned nchannels, unsigned rounds)
{
	struct channel_costs costs = {.nchannels = nchannels, .rounds = rounds};
	struct stage without, with;

	bench_expect(rounds > 0 && rounds <= MAX_ROUNDS);
	allow_files(nchannels + 1);
	open_stage(&without, nchannels, 0);
	open_stage(&with, nchannels, nchannels);
	for (enum channel_work work = 0; work < NCHANNEL_WORKS; work++)
		costs.lines[work] = measure(&without, &with, rounds, work);
	close_stage(&with);
	close_stage(&without);
	return costs;
}
