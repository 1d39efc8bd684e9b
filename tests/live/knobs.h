/* SPDX-License-Identifier: MIT */
/* What a test that goes on for some seconds is told by the environment, and its clock. */
#ifndef KNOBS_H
#define KNOBS_H

/* Seconds, from no time in particular: only differences mean something. */
double now(void);

/* KVMAS_SECONDS: how long; the other number if that is not set. */
unsigned seconds(unsigned otherwise);

/* KVMAS_SEED: of what is random; 1 if that is not set. */
unsigned seed(void);

#endif
