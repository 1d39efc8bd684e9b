/* SPDX-License-Identifier: MIT */
/*
 * The gate with vCPUs of a real KVM: two that read a page, or run in it, again and again, while it
 * changes between writable and readonly, for which its slot must go and come back. They never leave
 * the guest by themselves: they must be kicked, in each way that a VMM has. The control is the same
 * without the gate, where they do see the page gone.
 *
 * KVMAS_REQUIRE_KVM=1 makes a missing /dev/kvm a failure.
 */
#include "ram-fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NPAGES 16
#define CODE_PAGE 1
#define READ_PAGE 2
#define COUNT_PAGE 3
#define NCPUS 2
#define FLIPS 50
#define KERNEL_SIGSET_SIZE 8 /* KVM_SET_SIGNAL_MASK takes the kernel's, not libc's */

/*
 * 0:  mov al, [0x2000]; cmp al, 'k'; jne 11; inc word [bx]; jmp 0
 * 11: out 0x10, al; jmp 0
 */
static const unsigned char code[] = {0xa0, 0x00, 0x20, 0x3c, 'k',  0x75, 0x04, 0xff,
				     0x07, 0xeb, 0xf5, 0xe6, 0x10, 0xeb, 0xf1};

enum way { WAY_HANDLER, WAY_MASK, WAY_CALLBACK, NWAYS };

struct cpu {
	struct guest *guest;
	enum way way;
	int fd;
	struct kvm_run *run;
	struct kvmas_vcpu *vcpu;
	const uint16_t *count; /* in guest memory: turns of its loop */
	atomic_bool without_gate;
	atomic_bool stopping;
	atomic_uint asked;
	atomic_uint exits;
	atomic_uint last_exit; /* reason */
	atomic_uint errors;
	void (*on_turn)(struct cpu *cpu); /* called after each run */
	pthread_t thread;
};

struct guest {
	struct fixture *f;
	int vm;
	size_t run_size;
	struct kvmas_kvm *kvm;
	struct kvmas_ram *ram;
	struct kvmas_region *window;
	struct cpu cpus[NCPUS];
};

static int system_fd = -1;

#define eventually(condition)                                                                      \
	do {                                                                                       \
		for (unsigned turn = 0; !(condition); turn++) {                                    \
			assert_true(turn < 60000);                                                 \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

/* ---- vCPUs ---- */

static void on_signal(int signal)
{
	(void)signal;
}

static void kick_by_itself(void *data)
{
	struct cpu *cpu = data;

	pthread_kill(cpu->thread, SIGUSR1);
}

/* In its own thread: SIGUSR2 is blocked but in KVM_RUN. */
static void let_signal_in(const struct cpu *cpu)
{
	union {
		struct kvm_signal_mask mask;
		unsigned char bytes[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_SIZE];
	} arg = {.mask.len = KERNEL_SIGSET_SIZE};
	sigset_t blocked, inside;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, &inside);
	sigdelset(&inside, SIGUSR2);
	memcpy(arg.mask.sigset, &inside, KERNEL_SIGSET_SIZE);
	ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, &arg);
}

/* How often the signal was pending. */
static unsigned take_signal(void)
{
	unsigned count = 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &(struct timespec){0}) > 0)
		count++;
	return count;
}

static int run_without_gate(const struct cpu *cpu)
{
	return ioctl(cpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

static void count_result(struct cpu *cpu, int result)
{
	if (result == 1) {
		atomic_fetch_add(&cpu->asked, 1);
	} else if (result == 0) {
		atomic_store(&cpu->last_exit, cpu->run->exit_reason);
		atomic_fetch_add(&cpu->exits, 1);
	} else if (result != -EINTR) {
		atomic_fetch_add(&cpu->errors, 1);
	}
}

static void *run_cpu(void *data)
{
	struct cpu *cpu = data;

	if (cpu->way == WAY_MASK)
		let_signal_in(cpu);
	while (!atomic_load(&cpu->stopping)) {
		int result = atomic_load(&cpu->without_gate) ? run_without_gate(cpu)
							     : kvmas_vcpu_run(cpu->vcpu);

		count_result(cpu, result);
		if (cpu->way == WAY_MASK && result)
			take_signal();
		if (cpu->on_turn)
			cpu->on_turn(cpu);
	}
	return NULL;
}

static void make_vcpu(struct guest *g, unsigned index, enum way way)
{
	struct cpu *cpu = &g->cpus[index];
	static const int signals[] = {
		[WAY_HANDLER] = SIGUSR1, [WAY_MASK] = SIGUSR2, [WAY_CALLBACK] = 0};
	uint64_t count_gpa = pages(COUNT_PAGE) + (uint64_t)64 * index;
	struct kvm_regs regs = {.rip = pages(CODE_PAGE), .rbx = count_gpa, .rflags = 2};
	struct kvm_sregs sregs;

	*cpu = (struct cpu){.guest = g, .way = way, .fd = ioctl(g->vm, KVM_CREATE_VCPU, index)};
	assert_true(cpu->fd >= 0);
	cpu->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	assert_ptr_not_equal(cpu->run, MAP_FAILED);
	must(ioctl(cpu->fd, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(cpu->fd, KVM_SET_SREGS, &sregs));
	must(ioctl(cpu->fd, KVM_SET_REGS, &regs));
	cpu->count = (const void *)((const char *)kvmas_ram_get_hva(g->ram) + count_gpa);
	must(kvmas_vcpu_add(g->kvm,
			    KVMAS_CONFIG(vcpu, .fd = cpu->fd, .run = cpu->run,
					 .run_size = g->run_size, .kick_signal = signals[way],
					 .kick = way == WAY_CALLBACK ? kick_by_itself : NULL,
					 .kick_data = cpu),
			    &cpu->vcpu));
}

static uint16_t count_of(const struct cpu *cpu)
{
	return __atomic_load_n(cpu->count, __ATOMIC_RELAXED);
}

static void start(struct cpu *cpu)
{
	atomic_store(&cpu->stopping, false);
	must(pthread_create(&cpu->thread, NULL, run_cpu, cpu));
}

static void stop(struct cpu *cpu)
{
	atomic_store(&cpu->stopping, true);
	__atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(cpu->thread, cpu->way == WAY_MASK ? SIGUSR2 : SIGUSR1);
	pthread_join(cpu->thread, NULL);
	assert_int_equal(cpu->run->immediate_exit, 1);
	cpu->run->immediate_exit = 0;
}

/* ---- the guest ---- */

static void make_memory(struct guest *g, uint64_t flipped)
{
	struct kvmas_region *root = make_container(g->f, "root", 1 << 20);

	g->ram = make(g->f, (struct kvmas_ram_config){.size = pages(NPAGES)});
	memcpy((char *)kvmas_ram_get_hva(g->ram) + pages(CODE_PAGE), code, sizeof(code));
	*((char *)kvmas_ram_get_hva(g->ram) + pages(READ_PAGE)) = 'k';
	g->window = window(g->f, g->ram, flipped, 1);
	add(root, window(g->f, g->ram, 0, NPAGES), 0, 0);
	add(root, g->window, pages(flipped), 1);
	must(kvmas_kvm_new(g->f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = g->vm), &g->kvm));
	must(kvmas_kvm_bind(g->kvm, make_space(g->f, "memory", root), 0));
}

/* One page is the window, to be flipped. */
static struct guest *make_guest(struct fixture *f, enum way way, uint64_t flipped)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->f = f;
	g->vm = ioctl(system_fd, KVM_CREATE_VM, 0);
	assert_true(g->vm >= 0);
	g->run_size = (size_t)ioctl(system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	make_memory(g, flipped);
	for (unsigned i = 0; i < NCPUS; i++)
		make_vcpu(g, i, way);
	return g;
}

static void end_guest(struct guest *g)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		kvmas_vcpu_del(g->cpus[i].vcpu);
		munmap(g->cpus[i].run, g->run_size);
		close(g->cpus[i].fd);
	}
	must(kvmas_kvm_unbind(g->kvm, 0));
	kvmas_kvm_unref(g->kvm);
	close(g->vm);
	kvmas_ram_unref(g->ram);
	drop_space(g->f, g->f->spaces[0]);
	free(g);
}

static struct kvmas_kvm_stats guest_stats(const struct guest *g)
{
	struct kvmas_kvm_stats stats = {.struct_size = sizeof(stats)};

	kvmas_kvm_get_stats(g->kvm, &stats);
	return stats;
}

static void start_all(struct guest *g)
{
	for (unsigned i = 0; i < NCPUS; i++)
		start(&g->cpus[i]);
	for (unsigned i = 0; i < NCPUS; i++)
		eventually(count_of(&g->cpus[i]));
}

static void stop_all(struct guest *g)
{
	for (unsigned i = 0; i < NCPUS; i++)
		stop(&g->cpus[i]);
}

/* All run on: each count changes. */
static void assert_all_go_on(const struct guest *g)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		uint16_t before = count_of(&g->cpus[i]);

		eventually(count_of(&g->cpus[i]) != before);
	}
}

/* ---- tests ---- */

static void assert_never_gone(const struct guest *g)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		assert_int_equal(atomic_load(&g->cpus[i].exits), 0);
		assert_int_equal(atomic_load(&g->cpus[i].errors), 0);
		assert_in_range(atomic_load(&g->cpus[i].asked), FLIPS * 9 / 10, FLIPS);
	}
	assert_true(guest_stats(g).vcpu_stop_ns > 0);
	print_message("%u and %u of %d stops found the vCPUs inside, %llu us each\n",
		      atomic_load(&g->cpus[0].asked), atomic_load(&g->cpus[1].asked), FLIPS,
		      (unsigned long long)guest_stats(g).vcpu_stop_ns / 1000 / FLIPS);
}

static void flip_under_running_vcpus(struct fixture *f, enum way way, uint64_t flipped)
{
	struct guest *g = make_guest(f, way, flipped);

	start_all(g);
	for (unsigned i = 1; i <= FLIPS; i++) {
		must(kvmas_region_set_readonly(g->window, i % 2));
		assert_int_equal(guest_stats(g).vcpu_stops, i);
		assert_all_go_on(g);
	}
	stop_all(g);
	assert_never_gone(g);
	end_guest(g);
}

static void vcpus_held_by_the_gate_never_see_what_they_read_gone(void **state)
{
	for (enum way way = 0; way < NWAYS; way++)
		flip_under_running_vcpus(*state, way, READ_PAGE);
}

static void vcpus_held_by_the_gate_never_see_what_they_execute_gone(void **state)
{
	for (enum way way = 0; way < NWAYS; way++)
		flip_under_running_vcpus(*state, way, CODE_PAGE);
}

static void answer_window(struct cpu *cpu)
{
	if (cpu->run->exit_reason == KVM_EXIT_MMIO && !cpu->run->mmio.is_write)
		cpu->run->mmio.data[0] = 'k';
}

static void vcpus_outside_the_gate_do_see_the_window_gone(void **state)
{
	struct guest *g = make_guest(*state, WAY_HANDLER, READ_PAGE);
	bool readonly = false;

	/* So that what goes from now on is the window, and not the code. */
	must(kvmas_region_set_readonly(g->window, true));
	for (unsigned i = 0; i < NCPUS; i++) {
		atomic_store(&g->cpus[i].without_gate, true);
		g->cpus[i].on_turn = answer_window;
	}
	start_all(g);
	for (unsigned i = 0; i < 100000 && !atomic_load(&g->cpus[0].exits); i++) {
		must(kvmas_region_set_readonly(g->window, readonly));
		readonly = !readonly;
	}
	assert_true(atomic_load(&g->cpus[0].exits) > 0);
	assert_int_equal(atomic_load(&g->cpus[0].last_exit), KVM_EXIT_MMIO);
	stop_all(g);
	assert_int_equal(guest_stats(g).vcpu_stops, 0);
	end_guest(g);
}

/* Each commits from its own thread, whenever it has been asked to leave, which asks the other. */
static void flip_window(struct cpu *cpu)
{
	if (!atomic_load(&cpu->stopping) &&
	    kvmas_region_set_readonly(cpu->guest->window, cpu == &cpu->guest->cpus[0]))
		atomic_fetch_add(&cpu->errors, 1);
}

static void two_vcpus_that_commit_at_once_do_not_deadlock(void **state)
{
	struct guest *g = make_guest(*state, WAY_HANDLER, READ_PAGE);

	for (unsigned i = 0; i < NCPUS; i++)
		g->cpus[i].on_turn = flip_window;
	start_all(g);
	for (unsigned i = 0; guest_stats(g).vcpu_stops < FLIPS; i++) {
		pthread_kill(g->cpus[i % NCPUS].thread, SIGUSR1);
		usleep(500);
		assert_true(i < 60000);
	}
	stop_all(g);
	for (unsigned i = 0; i < NCPUS; i++) {
		assert_int_equal(atomic_load(&g->cpus[i].exits), 0);
		assert_int_equal(atomic_load(&g->cpus[i].errors), 0);
	}
	end_guest(g);
}

static void any_bit_of_immediate_exit_ends_kvm_run(void **state)
{
	struct guest *g = make_guest(*state, WAY_HANDLER, READ_PAGE);
	struct cpu *cpu = &g->cpus[0];

	for (unsigned bit = 0; bit < 8; bit++) {
		cpu->run->immediate_exit = (uint8_t)(1u << bit);
		assert_int_equal(run_without_gate(cpu), -EINTR);
		assert_int_equal(kvmas_vcpu_run(cpu->vcpu), -EINTR);
		assert_int_equal(cpu->run->immediate_exit, 1u << bit);
	}
	cpu->run->immediate_exit = 0;
	assert_int_equal(count_of(cpu), 0);
	end_guest(g);
}

static void signal_let_in_by_the_mask_stays_pending_for_the_vmm(void **state)
{
	struct guest *g = make_guest(*state, WAY_MASK, READ_PAGE);
	struct cpu *cpu = &g->cpus[0];

	let_signal_in(cpu);
	pthread_kill(pthread_self(), SIGUSR2);
	assert_int_equal(kvmas_vcpu_run(cpu->vcpu), -EINTR);
	assert_int_equal(take_signal(), 1);
	end_guest(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(vcpus_held_by_the_gate_never_see_what_they_read_gone),
		TEST(vcpus_held_by_the_gate_never_see_what_they_execute_gone),
		TEST(vcpus_outside_the_gate_do_see_the_window_gone),
		TEST(two_vcpus_that_commit_at_once_do_not_deadlock),
		TEST(any_bit_of_immediate_exit_ends_kvm_run),
		TEST(signal_let_in_by_the_mask_stays_pending_for_the_vmm),
	};
	const char *required = getenv("KVMAS_REQUIRE_KVM");
	struct sigaction action = {.sa_handler = on_signal};
	int r;

	system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (system_fd < 0) {
		print_message("live: /dev/kvm: %s\n", strerror(errno));
		return required && strcmp(required, "1") == 0;
	}
	sigaction(SIGUSR1, &action, NULL);
	r = cmocka_run_group_tests_name("real-gate", tests, NULL, NULL);
	close(system_fd);
	return r;
}
