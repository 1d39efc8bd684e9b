/* SPDX-License-Identifier: MIT */
/*
 * What a vCPU of a real KVM finds where pages were given back: a fresh one, which it shares with
 * the host, and nothing of the old one's. KVM is told nothing of a discard: this is where that is
 * shown to suffice.
 *
 * KVMAS_REQUIRE_KVM=1 makes a missing /dev/kvm a failure.
 */
#include "ram-fixture.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE 0x1000
#define READ_HERE 0x2000
#define WRITTEN_HERE 0x3000
#define SIZE 0x4000

/* again: mov byte [WRITTEN_HERE], 'w'; mov al, [READ_HERE]; out 0x10, al; jmp again */
static const unsigned char code[] = {0xc6, 0x06, 0x00, 0x30, 'w',  0xa0,
				     0x00, 0x20, 0xe6, 0x10, 0xeb, 0xf4};

static int system_fd = -1;

struct guest {
	struct fixture *f;
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	struct kvmas_kvm *kvm;
	struct kvmas_ram *ram;
	struct kvmas_region *region;
	char *bytes;
};

static void make_vcpu(struct guest *g)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct kvm_sregs sregs;

	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	assert_true(g->vcpu >= 0);
	g->run_size = (size_t)ioctl(system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	assert_ptr_not_equal(g->run, MAP_FAILED);
	must(ioctl(g->vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(g->vcpu, KVM_SET_SREGS, &sregs));
	must(ioctl(g->vcpu, KVM_SET_REGS, &regs));
}

static struct guest make_guest(struct fixture *f, enum kvmas_ram_source source)
{
	struct guest g = {.f = f, .vm = ioctl(system_fd, KVM_CREATE_VM, 0)};
	struct kvmas_region *root = make_container(f, "root", 1 << 20);

	assert_true(g.vm >= 0);
	g.ram = make(f, (struct kvmas_ram_config){.source = source, .size = SIZE});
	g.bytes = kvmas_ram_get_hva(g.ram);
	memcpy(g.bytes + CODE, code, sizeof(code));
	g.region = make_region(
		f, (struct kvmas_region_config){
			   .kind = KVMAS_REGION_RAM, .name = "ram", .size = SIZE, .ram = g.ram});
	add(root, g.region, 0, 0);
	must(kvmas_kvm_new(f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = g.vm), &g.kvm));
	must(kvmas_kvm_bind(g.kvm, make_space(f, "memory", root), 0));
	make_vcpu(&g);
	return g;
}

static void end_guest(struct guest *g)
{
	munmap(g->run, g->run_size);
	close(g->vcpu);
	must(kvmas_kvm_unbind(g->kvm, 0));
	kvmas_kvm_unref(g->kvm);
	close(g->vm);
	kvmas_ram_unref(g->ram);
	drop_space(g->f, g->f->spaces[0]);
}

/* One turn of the loop: the byte that the guest read. */
static int run_once(struct guest *g)
{
	must(ioctl(g->vcpu, KVM_RUN, 0));
	assert_int_equal(g->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(g->run->io.port, 0x10);
	return *((char *)g->run + g->run->io.data_offset);
}

static void vcpu_finds_a_fresh_page_after_a_discard(void **state)
{
	for (enum kvmas_ram_source source = KVMAS_RAM_ANON; source <= KVMAS_RAM_MEMFD; source++) {
		struct guest g = make_guest(*state, source);

		g.bytes[READ_HERE] = 'k';
		assert_int_equal(run_once(&g), 'k');
		assert_int_equal(g.bytes[WRITTEN_HERE], 'w');
		must(kvmas_ram_discard(g.ram, READ_HERE, SIZE - READ_HERE));
		assert_int_equal(g.bytes[WRITTEN_HERE], 0);
		assert_int_equal(run_once(&g), 0);
		assert_int_equal(g.bytes[WRITTEN_HERE], 'w');
		g.bytes[READ_HERE] = 'n';
		assert_int_equal(run_once(&g), 'n');
		end_guest(&g);
	}
}

static void resize_to(struct guest *g, uint64_t size)
{
	must(kvmas_begin(g->f->kvmas));
	if (size > kvmas_ram_get_size(g->ram))
		must(kvmas_ram_resize(g->ram, size));
	must(kvmas_region_set_size(g->region, size));
	must(kvmas_ram_resize(g->ram, size));
	must(kvmas_commit(g->f->kvmas));
}

static void vcpu_finds_nothing_after_a_shrink_and_a_fresh_page_after_a_growth(void **state)
{
	struct guest g = make_guest(*state, KVMAS_RAM_ANON);

	g.bytes[READ_HERE] = 'k';
	assert_int_equal(run_once(&g), 'k');
	resize_to(&g, READ_HERE);
	must(ioctl(g.vcpu, KVM_RUN, 0));
	assert_int_equal(g.run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(g.run->mmio.phys_addr, WRITTEN_HERE);
	resize_to(&g, SIZE);
	assert_int_equal(run_once(&g), 0);
	assert_int_equal(run_once(&g), 0);
	assert_int_equal(g.bytes[WRITTEN_HERE], 'w');
	end_guest(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(vcpu_finds_a_fresh_page_after_a_discard),
		TEST(vcpu_finds_nothing_after_a_shrink_and_a_fresh_page_after_a_growth),
	};
	const char *required = getenv("KVMAS_REQUIRE_KVM");
	int r;

	system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (system_fd < 0) {
		print_message("live: /dev/kvm: %s\n", strerror(errno));
		return required && strcmp(required, "1") == 0;
	}
	r = cmocka_run_group_tests_name("real-discard", tests, NULL, NULL);
	close(system_fd);
	return r;
}
