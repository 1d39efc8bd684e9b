/* SPDX-License-Identifier: MIT */
/* Clients: who wants to know which pages are dirty. See client.c; how it takes them: taking.c. */
#ifndef KAS_CLIENT_H
#define KAS_CLIENT_H

#include "dirty.h"
#include "logging.h"

struct kvmas_client {
	struct object object;
	struct log_owner owner;
	struct dirty_client dirty;
	atomic_uint handles;
	char *name;
};

#endif
