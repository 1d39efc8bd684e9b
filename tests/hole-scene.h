/* SPDX-License-Identifier: MIT */
/*
 * A scene for what is said of merging: 64 pages of RAM, seen whole by both spaces, and in space 0 a
 * device that comes and goes in the midst of them, over pages 10 to 15.
 */
#ifndef HOLE_SCENE_H
#define HOLE_SCENE_H

#include "kvm-fixture.h"

enum { RAM, HOLE };

#define WHOLE_IN_SMM "1:0 0-63 ram+0\n"

/* The slots when nothing was ever hidden; while the device is there; and after it, torn. */
extern const char in_one[], in_two[], in_three[];

/* The device is not there yet. */
void make_scene(struct machine *m);
int scene_setup(void **state);
void open_hole(struct machine *m);
void close_hole(struct machine *m);

#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, machine_teardown)

#endif
