/* SPDX-License-Identifier: MIT */
/*
 * Rendering, by small trees and the lines they show. Each tree is rendered twice, by the library
 * and by the oracle: the lines stand here, so that neither is tested by the other alone.
 */
#include "fixture.h"

#include <limits.h>
#include <stdio.h>

#include "oracle.h"

#define C KVMAS_REGION_CONTAINER
#define RAM KVMAS_REGION_RAM
#define ROM KVMAS_REGION_ROM
#define ROMD KVMAS_REGION_ROMD
#define MMIO KVMAS_REGION_MMIO
#define HIDE KVMAS_REGION_RESERVED
#define ALIAS KVMAS_REGION_ALIAS
#define ALL KVMAS_SIZE_MAX
#define TOP UINT64_MAX

/* The first node is the root of the space; the order of rows is the order of adding. */
struct picture {
	const char *name;
	struct node nodes[8];
	const char *lines;
};

static const struct picture pictures[] = {
	{"empty container shows nothing", {{"root", C, ALL, NONE}}, ""},
	{"ram alone shows itself", {{"a", RAM, 0x1000, NONE}}, "0000-0fff ram a+0x0\n"},
	{"child lies at its offset",
	 {{"root", C, 0x10000, NONE}, {"a", RAM, 0x1000, 0, 0x2000}},
	 "2000-2fff ram a+0x0\n"},
	{"higher priority wins",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x1000, 0, 0x1000, 1},
	  {"b", RAM, 0x3000, 0, 0, 0}},
	 "0000-0fff ram b+0x0\n1000-1fff mmio a+0x0\n2000-2fff ram b+0x2000\n"},
	{"priorities are signed",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0, -1},
	  {"b", MMIO, 0x800, 0, 0, -2},
	  {"c", MMIO, 0x1800, 0, 0, INT_MIN}},
	 "0000-0fff ram a+0x0\n1000-17ff mmio c+0x1000\n"},
	{"priorities reach from INT_MIN to INT_MAX",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x1000, 0, 0, INT_MAX},
	  {"b", MMIO, 0x2000, 0, 0, INT_MAX - 1},
	  {"c", MMIO, 0x3000, 0, 0, INT_MIN + 1},
	  {"d", MMIO, 0x4000, 0, 0, INT_MIN}},
	 "0000-0fff mmio a+0x0\n1000-1fff mmio b+0x1000\n2000-2fff mmio c+0x2000\n"
	 "3000-3fff mmio d+0x3000\n"},
	{"among equals the one added later wins",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x2000, 0, 0},
	  {"b", RAM, 0x1000, 0, 0x800},
	  {"c", RAM, 0x100, 0, 0x800}},
	 "0000-07ff ram a+0x0\n0800-08ff ram c+0x0\n0900-17ff ram b+0x100\n"
	 "1800-1fff ram a+0x1800\n"},
	{"hole of a container shows what lies below",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x4000, 0, 0, 0},
	  {"high", C, 0x4000, 0, 0, 1},
	  {"a", MMIO, 0x1000, 2, 0x1000}},
	 "0000-0fff ram low+0x0\n1000-1fff mmio a+0x0\n2000-3fff ram low+0x2000\n"},
	{"hole of nested containers shows what lies below",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x3000, 0, 0, -5},
	  {"outer", C, 0x3000, 0, 0, 1},
	  {"inner", C, 0x2000, 2, 0x800, 0},
	  {"a", MMIO, 0x400, 3, 0x100}},
	 "0000-08ff ram low+0x0\n0900-0cff mmio a+0x0\n0d00-2fff ram low+0xd00\n"},
	{"priority counts among siblings only",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0, 5},
	  {"a", MMIO, 0x1000, 1, 0, -1000},
	  {"b", RAM, 0x2000, 0, 0, 4}},
	 "0000-0fff mmio a+0x0\n1000-1fff ram b+0x1000\n"},
	{"mmio is the background of its children",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x3000, 0, 0, -1},
	  {"dev", MMIO, 0x2000, 0, 0},
	  {"a", RAM, 0x400, 2, 0x800, -7}},
	 "0000-07ff mmio dev+0x0\n0800-0bff ram a+0x0\n0c00-1fff mmio dev+0xc00\n"
	 "2000-2fff ram low+0x2000\n"},
	{"ram and rom are the background of their children",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0},
	  {"x", MMIO, 0x10, 1, 0},
	  {"b", ROM, 0x1000, 0, 0x1000},
	  {"y", MMIO, 0x10, 3, 0x10}},
	 "0000-000f mmio x+0x0\n0010-0fff ram a+0x10\n1000-100f rom b+0x0\n"
	 "1010-101f rom y+0x0\n1020-1fff rom b+0x20\n"},
	{"disabled region shows nothing, nor what is below it",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x2000, 0, 0, -1},
	  {"box", C, 0x1000, 0, 0, .disabled = true},
	  {"a", MMIO, 0x1000, 2, 0},
	  {"b", MMIO, 0x1000, 0, 0x1000, .disabled = true}},
	 "0000-1fff ram low+0x0\n"},
	{"disabled root shows nothing",
	 {{"root", C, 0x10000, NONE, .disabled = true}, {"a", RAM, 0x1000, 0, 0}},
	 ""},
	{"alias to a disabled target shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE, .disabled = true},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1}},
	 ""},
	{"disabled alias shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1, .disabled = true}},
	 ""},
	{"disabled container does not hide a target in it",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0x4000, .disabled = true},
	  {"a", RAM, 0x1000, 1, 0x800},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 2}},
	 "0000-0fff ram a+0x0\n"},
	{"parent clips",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0x1000},
	  {"a", RAM, 0x1000, 1, 0x800},
	  {"b", MMIO, 0x1000, 1, 0x1000}},
	 "1800-1fff ram a+0x0\n"},
	{"root clips",
	 {{"root", C, 0x1800, NONE}, {"a", RAM, 0x1000, 0, 0x1000}},
	 "1000-17ff ram a+0x0\n"},
	{"alias shows a window of its target",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0x2000, .target = 1, .target_offset = 0x1800}},
	 "2000-2fff ram a+0x1800\n"},
	{"alias shows no more than its target has",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x4000, 0, 0x2000, .target = 1, .target_offset = 0x800}},
	 "2000-27ff ram a+0x800\n"},
	{"alias past its target shows nothing",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, 0x4000, 0, 0, .target = 1, .target_offset = 0x1000}},
	 ""},
	{"alias into a container shows its children clipped",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x8000, NONE},
	  {"a", RAM, 0x2000, 1, 0x0},
	  {"b", MMIO, 0x2000, 1, 0x3000},
	  {"al", ALIAS, 0x3000, 0, 0x8000, .target = 1, .target_offset = 0x1000}},
	 "8000-8fff ram a+0x1000\na000-afff mmio b+0x0\n"},
	{"alias whose target begins below address 0",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1, .target_offset = 0x3000}},
	 "0000-0fff ram a+0x3000\n"},
	{"alias of an alias adds their offsets",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"in", ALIAS, 0x2000, NONE, .target = 1, .target_offset = 0x1000},
	  {"out", ALIAS, 0x2000, 0, 0x4000, .target = 2, .target_offset = 0x800}},
	 "4000-57ff ram a+0x1800\n"},
	{"place of the target in its container does not matter",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 1, 0xff00},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 2}},
	 "0000-0fff ram a+0x0\n"},
	{"region of 2^64 bytes", {{"a", MMIO, ALL, NONE}}, "0000-ffffffffffffffff mmio a+0x0\n"},
	{"region of 2^64 bytes with a child at the top",
	 {{"a", MMIO, ALL, NONE}, {"b", RAM, 0x1000, 0, TOP - 0xfff}},
	 "0000-ffffffffffffefff mmio a+0x0\nfffffffffffff000-ffffffffffffffff ram b+0x0\n"},
	{"child that runs past 2^64 is clipped",
	 {{"root", C, ALL, NONE}, {"a", RAM, 0x1000, 0, TOP - 0x7ff}},
	 "fffffffffffff800-ffffffffffffffff ram a+0x0\n"},
	{"child of 2^64 bytes at an offset is clipped",
	 {{"root", C, ALL, NONE}, {"a", MMIO, ALL, 0, 0x1000}},
	 "1000-ffffffffffffffff mmio a+0x0\n"},
	{"one byte at the very top",
	 {{"root", C, ALL, NONE}, {"a", MMIO, 1, 0, TOP}},
	 "ffffffffffffffff-ffffffffffffffff mmio a+0x0\n"},
	{"alias whose window runs past 2^64 of the target",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, 0x2000, 0, 0, .target = 1, .target_offset = TOP - 0xfff}},
	 "0000-0fff mmio a+0xfffffffffffff000\n"},
	{"alias at an offset whose target begins at a negative address",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, ALL, 0, 0x1000, .target = 1, .target_offset = TOP - 0xfff}},
	 "1000-1fff mmio a+0xfffffffffffff000\n"},
	{"nested offsets that pass 2^64 show nothing",
	 {{"root", C, ALL, NONE},
	  {"box", C, ALL, 0, TOP - 0xfff},
	  {"a", RAM, 0x1000, 1, 0x1000},
	  {"b", MMIO, 0x1000, 1, 0xf00}},
	 "ffffffffffffff00-ffffffffffffffff mmio b+0x0\n"},
	{"readonly flows down through containers",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x4000, 0, 0, .readonly = true},
	  {"inner", C, 0x4000, 1, 0},
	  {"a", RAM, 0x1000, 2, 0},
	  {"b", MMIO, 0x1000, 2, 0x1000}},
	 "0000-0fff rom a+0x0\n1000-1fff rom b+0x0\n"},
	{"readonly of the root flows down",
	 {{"root", C, 0x10000, NONE, .readonly = true}, {"a", RAM, 0x1000, 0, 0}},
	 "0000-0fff rom a+0x0\n"},
	{"readonly flows through an alias, in its place only",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x1000, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x4000, .target = 1, .readonly = true}},
	 "0000-0fff ram a+0x0\n4000-4fff rom a+0x0\n"},
	{"readonly of the target's container stays there",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x1000, 0, 0, .readonly = true},
	  {"a", RAM, 0x1000, 1, 0},
	  {"al", ALIAS, 0x1000, 0, 0x4000, .target = 2}},
	 "0000-0fff rom a+0x0\n4000-4fff ram a+0x0\n"},
	{"readonly does not flow up or aside",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x2000, 0, 0},
	  {"b", RAM, 0x1000, 1, 0, .readonly = true}},
	 "0000-0fff rom b+0x0\n1000-1fff ram a+0x1000\n"},
	{"rom is readonly by kind",
	 {{"root", C, 0x10000, NONE}, {"a", ROM, 0x1000, 0, 0}},
	 "0000-0fff rom a+0x0\n"},
	{"ranges that continue across aliases are one",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, 3, .target = 1},
	  {"mid", ALIAS, 0x1000, 0, 0x1000, -3, .target = 1, .target_offset = 0x1000},
	  {"hi", ALIAS, 0x2000, 0, 0x2000, 9, .target = 1, .target_offset = 0x2000}},
	 "0000-3fff ram a+0x0\n"},
	{"range that goes on behind an alias to itself is one",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000}},
	 "0000-3fff ram a+0x0\n"},
	{"ranges whose readonly differs stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000,
	   .readonly = true}},
	 "0000-0fff ram a+0x0\n1000-1fff rom a+0x1000\n2000-3fff ram a+0x2000\n"},
	{"ranges whose offsets do not continue stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, .target = 1, .target_offset = 0x1000},
	  {"hi", ALIAS, 0x1000, 0, 0x1000, .target = 1, .target_offset = 0x0}},
	 "0000-0fff ram a+0x1000\n1000-1fff ram a+0x0\n"},
	{"neighbours of different regions stay apart",
	 {{"root", C, 0x10000, NONE}, {"a", RAM, 0x1000, 0, 0}, {"a", RAM, 0x1000, 0, 0x1000}},
	 "0000-0fff ram a+0x0\n1000-1fff ram a+0x0\n"},
	{"ranges with a gap stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0x0, .target = 1},
	  {"hi", ALIAS, 0xfff, 0, 0x1001, .target = 1, .target_offset = 0x1001}},
	 "0000-0fff ram a+0x0\n1001-1fff ram a+0x1001\n"},
	{"range at 0 does not continue one at the top",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"top", ALIAS, 0x1000, 0, TOP - 0xfff, .target = 1},
	  {"low", ALIAS, 0x1000, 0, 0, .target = 1, .target_offset = 0x1000}},
	 "0000-0fff mmio a+0x1000\nfffffffffffff000-ffffffffffffffff mmio a+0x0\n"},
	{"nonvolatile flows down through containers and aliases",
	 {{"root", C, 0x10000, NONE},
	  {"box", C, 0x4000, 0, 0, .nonvolatile = true},
	  {"a", RAM, 0x1000, 1, 0},
	  {"b", ROM, 0x1000, 1, 0x1000},
	  {"see", ALIAS, 0x1000, 0, 0x8000, .target = 2},
	  {"nv", ALIAS, 0x1000, 0, 0x9000, .target = 2, .nonvolatile = true}},
	 "0000-0fff ram a+0x0 nv\n1000-1fff rom b+0x0 nv\n8000-8fff ram a+0x0\n"
	 "9000-9fff ram a+0x0 nv\n"},
	{"ranges whose nonvolatile differs stay apart",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000,
	   .nonvolatile = true}},
	 "0000-0fff ram a+0x0\n1000-1fff ram a+0x1000 nv\n2000-3fff ram a+0x2000\n"},
	{"ranges that are nonvolatile alike are one, wherever that came from",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0, .target = 1, .nonvolatile = true},
	  {"box", C, 0x3000, 0, 0x1000, .nonvolatile = true},
	  {"hi", ALIAS, 0x3000, 3, 0, .target = 1, .target_offset = 0x1000}},
	 "0000-3fff ram a+0x0 nv\n"},
	{"unmergeable pieces painted by two ways stay apart",
	 {{"root", C, 0x10000, NONE, .unmergeable = true},
	  {"a", RAM, 0x4000, NONE},
	  {"lo", ALIAS, 0x2000, 0, 0, .target = 1},
	  {"hi", ALIAS, 0x2000, 0, 0x2000, .target = 1, .target_offset = 0x2000}},
	 "0000-1fff ram a+0x0 unmergeable\n2000-3fff ram a+0x2000 unmergeable\n"},
	{"unmergeable region painted at once is one range",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, .unmergeable = true},
	  {"box", C, 0x1000, 0, 0x1000, 1}},
	 "0000-3fff ram a+0x0 unmergeable\n"},
	{"unmergeable range behind an alias to itself is cut in three",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x4000, 0, 0, 0, .unmergeable = true},
	  {"al", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000}},
	 "0000-0fff ram a+0x0 unmergeable\n1000-1fff ram a+0x1000 unmergeable\n"
	 "2000-3fff ram a+0x2000 unmergeable\n"},
	{"what is mergeable does not join what is not",
	 {{"root", C, 0x10000, NONE},
	  {"a", RAM, 0x3000, NONE},
	  {"lo", ALIAS, 0x1000, 0, 0, .target = 1},
	  {"mid", ALIAS, 0x1000, 0, 0x1000, .target = 1, .target_offset = 0x1000,
	   .unmergeable = true},
	  {"hi", ALIAS, 0x1000, 0, 0x2000, .target = 1, .target_offset = 0x2000}},
	 "0000-0fff ram a+0x0\n1000-1fff ram a+0x1000 unmergeable\n2000-2fff ram a+0x2000\n"},
	{"rom device is memory until its mode sends reads to the device",
	 {{"root", C, 0x10000, NONE},
	  {"a", ROMD, 0x1000, 0, 0},
	  {"b", ROMD, 0x1000, 0, 0x1000, .device = true}},
	 "0000-0fff romd a+0x0\n1000-1fff mmio b+0x0\n"},
	{"rom device is rom through a readonly alias, and keeps its mode",
	 {{"root", C, 0x10000, NONE},
	  {"a", ROMD, 0x1000, 0, 0},
	  {"see", ALIAS, 0x1000, 0, 0x1000, .target = 1, .readonly = true},
	  {"too", ALIAS, 0x1000, 0, 0x2000, .target = 1}},
	 "0000-0fff romd a+0x0\n1000-1fff rom a+0x0\n2000-2fff romd a+0x0\n"},
	{"rom device goes on behind an alias to itself",
	 {{"root", C, 0x10000, NONE},
	  {"a", ROMD, 0x3000, 0, 0},
	  {"see", ALIAS, 0x1000, 0, 0x1000, .target = 1, .target_offset = 0x1000}},
	 "0000-2fff romd a+0x0\n"},
	{"reserved hides what lies below, and what is above hides it",
	 {{"root", C, 0x10000, NONE},
	  {"low", RAM, 0x4000, 0, 0, -1},
	  {"gone", HIDE, 0x2000, 0, 0x1000},
	  {"x", MMIO, 0x800, 2, 0x800}},
	 "0000-0fff ram low+0x0\n1000-17ff reserved gone+0x0\n1800-1fff mmio x+0x0\n"
	 "2000-2fff reserved gone+0x1000\n3000-3fff ram low+0x3000\n"},
	{"reserved takes attributes and merges like any other",
	 {{"root", C, 0x10000, NONE, .nonvolatile = true},
	  {"gone", HIDE, 0x4000, 0, 0},
	  {"see", ALIAS, 0x1000, 0, 0x1000, 1, .target = 1, .target_offset = 0x1000}},
	 "0000-3fff reserved gone+0x0 nv\n"},
	{"reserved of 2^64 bytes",
	 {{"root", HIDE, ALL, NONE}},
	 "0000-ffffffffffffffff reserved root+0x0\n"},
	{"alias of 2^64 bytes onto a container of as many",
	 {{"root", C, ALL, NONE},
	  {"box", C, ALL, NONE},
	  {"a", MMIO, ALL, 1, 1},
	  {"b", RAM, 0x1000, 1, TOP - 0xfff},
	  {"see", ALIAS, ALL, 0, 0, .target = 1}},
	 "0001-ffffffffffffefff mmio a+0x0\nfffffffffffff000-ffffffffffffffff ram b+0x0\n"},
	{"region of 2^64 - 2 bytes ends two before the top",
	 {{"root", C, ALL, NONE}, {"a", MMIO, TOP - 1, 0, 0}},
	 "0000-fffffffffffffffd mmio a+0x0\n"},
	{"alias to the last byte of all shows one byte",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, ALL, 0, 0x5000, .target = 1, .target_offset = TOP}},
	 "5000-5000 mmio a+0xffffffffffffffff\n"},
	{"alias at the top to the last byte of all",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"al", ALIAS, ALL, 0, TOP, .target = 1, .target_offset = TOP}},
	 "ffffffffffffffff-ffffffffffffffff mmio a+0xffffffffffffffff\n"},
	{"alias whose target would lie wholly below 0",
	 {{"root", C, ALL, NONE},
	  {"a", RAM, 0x1000, NONE},
	  {"al", ALIAS, ALL, 0, 0, .target = 1, .target_offset = TOP - 0xfff}},
	 ""},
	{"child of a target lies below 0, the next over the edge",
	 {{"root", C, ALL, NONE},
	  {"box", C, ALL, NONE},
	  {"a", RAM, 0x1000, 1, 0},
	  {"b", MMIO, 0x1000, 1, 0x1800},
	  {"al", ALIAS, 0x1000, 0, 0, .target = 1, .target_offset = 0x2000}},
	 "0000-07ff mmio b+0x800\n"},
	{"alias of an alias, each past 2^64, shows nothing",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"in", ALIAS, ALL, NONE, .target = 1, .target_offset = TOP - 0xfff},
	  {"out", ALIAS, ALL, 0, 0, .target = 2, .target_offset = 0x1000}},
	 ""},
	{"alias of an alias, past 2^64 but for a byte",
	 {{"root", C, ALL, NONE},
	  {"a", MMIO, ALL, NONE},
	  {"in", ALIAS, ALL, NONE, .target = 1, .target_offset = TOP - 0xfff},
	  {"out", ALIAS, ALL, 0, 0x10, .target = 2, .target_offset = 0xfff}},
	 "0010-0010 mmio a+0xffffffffffffffff\n"},
	{"child at the top of a container at the top",
	 {{"root", C, ALL, NONE},
	  {"box", C, ALL, 0, TOP - 0xf},
	  {"a", MMIO, ALL, 1, 0xf},
	  {"b", MMIO, ALL, 1, 0x10, INT_MAX}},
	 "ffffffffffffffff-ffffffffffffffff mmio a+0x0\n"},
	{"many pieces fill around what is taken",
	 {{"root", C, 0x10000, NONE},
	  {"a", MMIO, 0x100, 0, 0x100, 1},
	  {"b", MMIO, 0x100, 0, 0x200, 1},
	  {"c", MMIO, 0x100, 0, 0x400, 1},
	  {"bg", RAM, 0x1000, 0, 0x180}},
	 "0100-01ff mmio a+0x0\n0200-02ff mmio b+0x0\n0300-03ff ram bg+0x180\n"
	 "0400-04ff mmio c+0x0\n0500-117f ram bg+0x380\n"},
};

static int count_nodes(const struct picture *picture)
{
	int count = 0;

	while (count < (int)LENGTH(picture->nodes) && picture->nodes[count].name)
		count++;
	return count;
}

static struct kvmas_region *make_romd(struct fixture *f, const char *name, uint64_t size)
{
	struct kvmas_ram *block = make_block(f, name, (size + page_size() - 1) / page_size());
	struct kvmas_region *region =
		make_region(f, (struct kvmas_region_config){
				       .kind = ROMD, .name = name, .size = size, .ram = block});

	kvmas_ram_unref(block);
	return region;
}

static struct kvmas_region *make_node(struct fixture *f, const struct node *node,
				      struct kvmas_region *const *regions)
{
	switch (node->kind) {
	case RAM:
		return make_ram(f, node->name, node->size);
	case ROM:
		return make_rom(f, node->name, node->size);
	case MMIO:
		return make_mmio(f, node->name, node->size);
	case ALIAS:
		return make_alias(f, node->name, regions[node->target], node->target_offset,
				  node->size);
	case ROMD:
		return make_romd(f, node->name, node->size);
	case HIDE:
		return make_region(f, (struct kvmas_region_config){.kind = HIDE,
								   .name = node->name,
								   .size = node->size});
	default:
		return make_container(f, node->name, node->size);
	}
}

static void set_attributes(struct kvmas_region *region, const struct node *node)
{
	must(kvmas_region_set_enabled(region, !node->disabled));
	must(kvmas_region_set_readonly(region, node->readonly));
	must(kvmas_region_set_nonvolatile(region, node->nonvolatile));
	must(kvmas_region_set_unmergeable(region, node->unmergeable));
	if (node->kind == ROMD)
		must(kvmas_region_set_romd(region, !node->device));
}

static struct kvmas_space *build(struct fixture *f, const struct picture *picture)
{
	struct kvmas_region *regions[LENGTH(picture->nodes)];

	for (int i = 0; i < count_nodes(picture); i++) {
		const struct node *node = &picture->nodes[i];

		regions[i] = make_node(f, node, regions);
		set_attributes(regions[i], node);
		if (node->parent != NONE)
			add(regions[node->parent], regions[i], node->offset, node->priority);
	}
	return make_space(f, picture->name, regions[0]);
}

static char *ask_oracle(const struct picture *picture)
{
	struct node nodes[LENGTH(picture->nodes)];
	struct tree tree = {.nodes = nodes, .count = count_nodes(picture)};

	for (int i = 0; i < tree.count; i++) {
		nodes[i] = picture->nodes[i];
		nodes[i].order = (unsigned)i;
	}
	return oracle_text(&tree, 0);
}

static void picture_shows_its_lines(void **state)
{
	for (size_t i = 0; i < LENGTH(pictures); i++) {
		struct fixture *f = fixture_new((struct kvmas_config){0});
		char *text = space_text(f, build(f, &pictures[i]));

		if (strcmp(text, pictures[i].lines) != 0)
			print_error("picture: %s\n", pictures[i].name);
		assert_string_equal(text, pictures[i].lines);
		free(text);
		fixture_free(f);
	}
	(void)state;
}

static void oracle_shows_its_lines(void **state)
{
	for (size_t i = 0; i < LENGTH(pictures); i++) {
		char *text = ask_oracle(&pictures[i]);

		if (strcmp(text, pictures[i].lines) != 0)
			print_error("picture: %s\n", pictures[i].name);
		assert_string_equal(text, pictures[i].lines);
		free(text);
	}
	(void)state;
}

/* The lines say rom: what the mode is, and whether there is memory, stands in the section. */
static void sections_tell_the_mode_of_a_rom_device(void **state)
{
	struct fixture *f = *state;
	struct kvmas_region *flash = make_romd(f, "flash", 0x1000);
	struct kvmas_region *see = make_alias(f, "see", flash, 0x800, 0x800);
	struct kvmas_space *space = make_space(f, "s", see);

	must(kvmas_region_set_readonly(see, true));
	for (unsigned romd = 2; romd-- > 0;) {
		const struct kvmas_view *view;
		struct kvmas_section section;

		must(kvmas_region_set_romd(flash, romd));
		view = kvmas_view_acquire(f->reader, space);
		must(kvmas_view_lookup(view, 0, &section));
		assert_true(section.readonly);
		assert_int_equal(section.romd, romd);
		assert_int_equal(section.ram != NULL, romd);
		assert_int_equal(section.hva != NULL, romd);
		assert_int_equal(section.ram_offset, romd ? 0x800 : 0);
		kvmas_view_release(f->reader, view);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(picture_shows_its_lines),
		cmocka_unit_test(oracle_shows_its_lines),
		TEST(sections_tell_the_mode_of_a_rom_device),
	};

	return cmocka_run_group_tests_name("render", tests, NULL, NULL);
}
