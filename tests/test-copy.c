/* SPDX-License-Identifier: MIT */
/* Copies of guest memory: every size and alignment; and against threads that do the same. */
#include "fixture.h"

#include "copy.h"

enum { LONGEST = 80, ROUNDS = 2000000, CHANGES = 10000, WORDS = 9 };

static void copies_of_every_size_and_alignment_are_exact(void **state)
{
	_Alignas(8) unsigned char guest[LONGEST + 24];
	unsigned char bytes[LONGEST], back[LONGEST + 1];

	(void)state;
	for (unsigned i = 0; i < LONGEST; i++)
		bytes[i] = (unsigned char)(i + 1);
	for (unsigned at = 1; at < 16; at++) {
		for (unsigned size = 0; size <= LONGEST; size++) {
			memset(guest, 0xee, sizeof(guest));
			memset(back, 0xee, sizeof(back));
			kas_copy_to_guest(guest + at, bytes, size);
			assert_int_equal(guest[at - 1], 0xee);
			assert_int_equal(guest[at + size], 0xee);
			kas_copy_from_guest(back, guest + at, size);
			assert_int_equal(back[size], 0xee);
			if (size == 0)
				continue;
			assert_memory_equal(guest + at, bytes, size);
			assert_memory_equal(back, bytes, size);
		}
	}
}

/* Words of the guest's, with a shorter piece before and behind: 4 bytes, WORDS times 8, 2 bytes. */
struct shared {
	_Alignas(8) unsigned char guest[8 * (WORDS + 2)];
	bool stop;
};

enum { FIRST = 4, WHOLE = 4 + 8 * WORDS + 2 };

static void *write_alike(void *data)
{
	struct shared *shared = data;
	unsigned char bytes[WHOLE];

	for (unsigned n = 0; !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED); n++) {
		memset(bytes, n % 255, WHOLE);
		kas_copy_to_guest(shared->guest + FIRST, bytes, WHOLE);
	}
	return NULL;
}

/* Whether all its bytes are from one write. */
static bool is_whole(const unsigned char *bytes, unsigned size)
{
	for (unsigned i = 1; i < size; i++) {
		if (bytes[i] != bytes[0])
			return false;
	}
	return true;
}

static void aligned_pieces_are_never_torn(void **state)
{
	struct shared shared = {.stop = false};
	unsigned char bytes[WHOLE] = {0}, before;
	pthread_t writers[2];
	unsigned changes = 0;

	(void)state;
	for (unsigned i = 0; i < LENGTH(writers); i++)
		must(pthread_create(&writers[i], NULL, write_alike, &shared));
	for (unsigned round = 0; round < ROUNDS && changes < CHANGES; round++) {
		before = bytes[0];
		kas_copy_from_guest(bytes, shared.guest + FIRST, WHOLE);
		changes += bytes[0] != before;
		assert_true(is_whole(bytes, 4));
		for (unsigned i = 0; i < WORDS; i++)
			assert_true(is_whole(bytes + 4 + i * 8, 8));
		assert_true(is_whole(bytes + WHOLE - 2, 2));
	}
	__atomic_store_n(&shared.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < LENGTH(writers); i++)
		must(pthread_join(writers[i], NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_of_every_size_and_alignment_are_exact),
		cmocka_unit_test(aligned_pieces_are_never_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
