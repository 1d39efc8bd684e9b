/* SPDX-License-Identifier: MIT */
/* Event channels of a region: see channel.c. */
#ifndef KAS_CHANNEL_H
#define KAS_CHANNEL_H

#include "object.h"
#include "ops.h"
#include "range.h"

/* An ioeventfd, or a coalesced zone. Counted; it changes no more once it is made. */
struct channel {
	atomic_uint refs;
	struct kvmas *kvmas; /* whose memory it is; held by who holds this */
	struct range range;  /* bytes of the region; of an ioeventfd for any size the first */
	unsigned flags;      /* enum kvmas_channel_flags */
	int fd;              /* ours; -1: a coalesced zone */
	unsigned size;       /* ioeventfd: of the write; 0: any */
	uint64_t datamatch;  /* as a number, by the region's endian; */
	uint64_t kvm_match;  /* by the host's */
};

/* Those of a region: sorted by their first byte, the ioeventfds apart from the zones. Immutable. */
struct channels {
	struct object object;
	size_t nzones;
	size_t nevents;
	struct channel *at[]; /* zones, then ioeventfds; held */
};

static inline struct channel *const *kas_channels_events(const struct channels *channels)
{
	return channels->at + channels->nzones;
}

/* Make one. Its range, size, flags and datamatch are right. The fd is duplicated, -1 is none.
 * -ENOMEM; what fcntl(2) says. */
int kas_channel_new(struct kvmas *kvmas, const struct channel *like, struct channel **ret);
struct channel *kas_channel_ref(struct channel *channel);
void kas_channel_unref(struct channel *channel);

/* Whether an ioeventfd takes some write that another one takes as well. */
bool kas_channel_collides(const struct channel *a, const struct channel *b);

/* The zone or ioeventfd that is the same as this but for fd and KVMAS_CHANNEL_MUST; the first that
 * must not be beside it. NULL for none. *channels* may be NULL. */
struct channel *kas_channels_find(const struct channels *channels, const struct channel *like);
struct channel *kas_channels_find_rival(const struct channels *channels,
					const struct channel *like);

/* A table with one more than *channels*, NULL for none, or one less; of the latter NULL may come
 * out. -ENOMEM. */
int kas_channels_with(const struct channels *channels, struct channel *channel,
		      struct channels **ret);
int kas_channels_without(const struct channels *channels, const struct channel *channel,
			 struct channels **ret);

/* The ioeventfd that takes this write, NULL for none. *bytes* as they lie in guest memory. */
struct channel *kas_channels_match(const struct channels *channels, enum kvmas_endian endian,
				   uint64_t offset, const unsigned char *bytes, size_t size);

/* Signal its eventfd. 0; what poll(2) or write(2) says. */
int kas_channel_signal(const struct channel *channel);

#endif
