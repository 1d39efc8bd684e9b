/* SPDX-License-Identifier: MIT */
#include "hole-scene.h"

void make_scene(struct machine *m)
{
	m->region[RAM] = put_ram(m, NORMAL, "ram", 0, 64);
	put_alias(m, SMM, m->region[RAM], 0, 0, 64);
	m->region[HOLE] = make_mmio(m->f, "hole", pages(6));
	must(kvmas_region_set_enabled(m->region[HOLE], false));
	add(m->root[NORMAL], m->region[HOLE], pages(10), 1);
	fake_kvm_reset(m->vm);
	forget_trace(m);
}

int scene_setup(void **state)
{
	machine_setup(state);
	make_scene(*state);
	return 0;
}

void open_hole(struct machine *m)
{
	must(kvmas_region_set_enabled(m->region[HOLE], true));
}

void close_hole(struct machine *m)
{
	must(kvmas_region_set_enabled(m->region[HOLE], false));
}

const char in_one[] = "0:0 0-63 ram+0\n" WHOLE_IN_SMM;
const char in_two[] = "0:0 0-9 ram+0\n"
		      "0:1 16-63 ram+16\n" WHOLE_IN_SMM;
const char in_three[] = "0:0 0-9 ram+0\n"
			"0:2 10-15 ram+10\n"
			"0:1 16-63 ram+16\n" WHOLE_IN_SMM;
