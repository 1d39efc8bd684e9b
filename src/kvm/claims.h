/* SPDX-License-Identifier: MIT */
/* Which slot has which page of a guest_memfd: see claims.c. */
#ifndef KAS_CLAIMS_H
#define KAS_CLAIMS_H

#include "plan.h"

/* -EOPNOTSUPP if, once these spaces have what they want, a page of a guest_memfd would be in two
 * slots; -ENOMEM. */
int kas_claims_check(struct kvmas *kvmas, const struct plan_space *spaces, size_t nspaces);

#endif
