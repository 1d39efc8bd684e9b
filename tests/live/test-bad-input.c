/* SPDX-License-Identifier: MIT */
/*
 * What a VMM can get wrong, on real KVM: a VM fd that is closed, another file, or another process's
 * VM; a KVM without a capability that is asked for; address spaces, ids and ranges that are not to
 * be had; an ioctl hook that returns nonsense. Each is an errno, nothing changes, and the kernel's
 * slots are the library's (probe.h).
 */
#include "guest.h"
#include "probe.h"

#include "../fake-kvm-uapi.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	NPAGES = 0x100,
	WINDOW = 0x80,
	WINDOW_PAGES = 0x10,
	FOREIGN_ID = 400, /* of a slot that is not the library's */
	FOREIGN_PAGE = 0x1000,
};

static int enable(struct kvmas_region *region)
{
	return kvmas_region_set_enabled(region, true);
}

/* The change is refused; then all is as before. */
static void assert_refused(struct guest *g, struct kvmas_region *region, int result)
{
	char *before = state_text(g->f), *after;

	assert_int_equal(enable(region), result);
	after = state_text(g->f);
	assert_string_equal(after, before);
	free(before);
	free(after);
}

/* The change is made, and the kernel follows. */
static void assert_made(struct guest *g, struct kvmas_region *region)
{
	must(enable(region));
	assert_slots_in_step(g);
	for (unsigned i = 0; i < g->nspaces; i++)
		assert_false(probe_page(g, i, WINDOW));
}

/* ---- the VM's fd ---- */

static void vm_fd_that_is_closed_or_another_file_is_an_errno(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	struct kvmas_region *hole = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	struct kvmas_kvm *kvm = NULL;
	int vm = g->vm, kept = dup(vm), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(kept >= 0 && null >= 0);
	assert_int_equal(dup2(null, vm), vm);
	assert_refused(g, hole, -ENOTTY);
	assert_int_equal(kvmas_kvm_new(g->f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = vm), &kvm), -ENOTTY);
	close(vm);
	assert_refused(g, hole, -EBADF);
	assert_int_equal(kvmas_kvm_new(g->f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = vm), &kvm), -EBADF);
	assert_null(kvm);
	assert_int_equal(dup2(kept, vm), vm);
	assert_slots_in_step(g);
	assert_made(g, hole);
	close(kept);
	close(null);
}

/* Make a VM in a child, and send its fd. The child stays until the socket is closed, for a process
 * that is gone is another case still. */
static void send_vm(int socket)
{
	struct iovec byte = {.iov_base = (char[1]){0}, .iov_len = 1};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr message = {.msg_iov = &byte,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int vm = ioctl(guest_system_fd, KVM_CREATE_VM, 0);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &vm, sizeof(vm));
	if (vm < 0 || sendmsg(socket, &message, 0) != 1)
		_exit(1);
	_exit(read(socket, byte.iov_base, 1) == 0 ? 0 : 1);
}

static int receive_fd(int socket)
{
	struct iovec byte = {.iov_base = (char[1]){0}, .iov_len = 1};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &byte,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int fd = -1;

	assert_int_equal(recvmsg(socket, &message, 0), 1);
	assert_non_null(CMSG_FIRSTHDR(&message));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/* A tie whose VM's fd becomes that of the other process's, too. */
static void vm_of_another_process_is_eio(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	struct kvmas_region *hole = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	int sockets[2], status, vm, kept = dup(g->vm);
	struct kvmas_kvm *kvm = NULL;
	pid_t pid;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	if (pid == 0) {
		close(sockets[0]);
		send_vm(sockets[1]);
	}
	close(sockets[1]);
	vm = receive_fd(sockets[0]);
	assert_int_equal(kvmas_kvm_new(g->f->kvmas, KVMAS_CONFIG(kvm, .vm_fd = vm), &kvm), -EIO);
	assert_null(kvm);
	assert_int_equal(dup2(vm, g->vm), g->vm);
	assert_refused(g, hole, -EIO);
	assert_int_equal(dup2(kept, g->vm), g->vm);
	assert_made(g, hole);
	close(vm);
	close(kept);
	close(sockets[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void forked_child_gets_eio_and_changes_nothing(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	struct kvmas_region *hole = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(enable(hole) == -EIO && kvmas_vcpu_run(g->vcpus[0].tie) == -EIO ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_slots_in_step(g);
	assert_made(g, hole);
}

/* ---- capabilities ---- */

static bool has_zap_slot(int vm)
{
	int quirks = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	return quirks > 0 && quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL;
}

/* A KVM of before 6.12, whatever this one is. */
static bool have_no_quirks(struct guest *g, unsigned long request, void *arg, int *result)
{
	(void)g;
	*result = 0;
	return request == KVM_CHECK_EXTENSION && (uintptr_t)arg == KVM_CAP_DISABLE_QUIRKS2;
}

/* One that promises it and does not keep it. */
static bool promise_quirks(struct guest *g, unsigned long request, void *arg, int *result)
{
	(void)g;
	*result = request == KVM_ENABLE_CAP ? -EINVAL : KVM_X86_QUIRK_SLOT_ZAP_ALL;
	return request == KVM_ENABLE_CAP ||
	       (request == KVM_CHECK_EXTENSION && (uintptr_t)arg == KVM_CAP_DISABLE_QUIRKS2);
}

static int ioctl_by(void *data, int fd, unsigned long request, void *arg)
{
	guest_meddle_fn *meddle = *(guest_meddle_fn **)data;
	int result;

	if (meddle && meddle(NULL, request, arg, &result))
		return result;
	result = ioctl(fd, request, arg);
	return result < 0 ? -errno : result;
}

/* A second tie, to a VM of its own, that asks for ZAP_SLOT. */
static int ask_for_zap_slot(struct guest *g, int vm, guest_meddle_fn *meddle)
{
	struct kvmas_kvm *kvm = NULL;
	int r = kvmas_kvm_new(g->f->kvmas,
			      KVMAS_CONFIG(kvm, .vm_fd = vm, .ioctl = ioctl_by,
					   .ioctl_data = &meddle, .flags = KVMAS_KVM_ZAP_SLOT),
			      &kvm);

	assert_int_equal(kvm != NULL, r == 0);
	kvmas_kvm_unref(kvm);
	return r;
}

static void capability_that_this_kvm_lacks_is_eopnotsupp(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	int vm = ioctl(guest_system_fd, KVM_CREATE_VM, 0);

	assert_true(vm >= 0);
	print_message("bad-input: this KVM can%s drop a slot's own mappings\n",
		      has_zap_slot(vm) ? "" : "not");
	assert_int_equal(ask_for_zap_slot(g, vm, have_no_quirks), -EOPNOTSUPP);
	assert_int_equal(ask_for_zap_slot(g, vm, promise_quirks), -EINVAL);
	assert_int_equal(ask_for_zap_slot(g, vm, NULL), has_zap_slot(vm) ? 0 : -EOPNOTSUPP);
	close(vm);
}

/* ---- numbers that are not to be had ---- */

static void as_id_that_this_vm_has_not_is_eopnotsupp(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});

	for (unsigned i = 0; i < 3; i++) {
		const unsigned as_id = (const unsigned[]){g->nspaces, 0x10000, UINT_MAX}[i];

		assert_int_equal(kvmas_kvm_bind(g->kvm, g->space[0], as_id), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, as_id, 0, 1), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_set_merge(g->kvm, as_id, KVMAS_MERGE_EAGER),
				 -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_set_budget(g->kvm, as_id, 1), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_add_boundary(g->kvm, as_id, PAGE), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_del_boundary(g->kvm, as_id, PAGE), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_merge(g->kvm, as_id), -EOPNOTSUPP);
		assert_int_equal(kvmas_kvm_slots_free(g->kvm, as_id), -EOPNOTSUPP);
	}
	assert_slots_in_step(g);
}

static void reservation_that_collides_is_refused(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	int limit = ioctl(g->vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);

	assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, 0, 0, 1), -EBUSY);
	assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, 0, SPARE_ID, 1), -EEXIST);
	assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, 0, SPARE_ID - 1, 3), -EEXIST);
	assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, 0, (unsigned)limit, 1), -EINVAL);
	assert_int_equal(kvmas_kvm_reserve_ids(g->kvm, 0, UINT_MAX, 2), -EINVAL);
	assert_slots_in_step(g);

	must(kvmas_kvm_reserve_range(g->kvm, (uint64_t)FOREIGN_PAGE * PAGE, 2 * PAGE));
	assert_int_equal(kvmas_kvm_reserve_range(g->kvm, (FOREIGN_PAGE + 1) * (uint64_t)PAGE, PAGE),
			 -EEXIST);
	assert_int_equal(kvmas_kvm_reserve_range(g->kvm, 1, PAGE), -EINVAL);
	assert_int_equal(kvmas_kvm_reserve_range(g->kvm, 0, 0), -EINVAL);
	assert_int_equal(kvmas_kvm_reserve_range(g->kvm, UINT64_MAX - PAGE + 1, 2 * PAGE), -EINVAL);
	assert_slots_in_step(g);
}

static int set_foreign_slot(const struct guest *g, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = FOREIGN_ID,
		.guest_phys_addr = (uint64_t)FOREIGN_PAGE * PAGE,
		.memory_size = size,
		.userspace_addr = (uintptr_t)g->bytes,
	};

	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* The VMM's own slot, of which the library was not told, is also what the probe must find. */
static void slot_of_the_vmms_own_in_the_way_is_eexist(void **state)
{
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES});
	struct kvmas_region *alias = guest_put_alias(g, 0, FOREIGN_PAGE - 1, WINDOW, WINDOW_PAGES);
	char *wrong;

	must(kvmas_region_set_enabled(alias, false));
	must(set_foreign_slot(g, PAGE));
	wrong = slots_wrong(g);
	assert_non_null(wrong);
	free(wrong);
	/* That the probe has looked for ids has deleted it. */
	must(set_foreign_slot(g, PAGE));
	assert_refused(g, alias, -EEXIST);
	must(set_foreign_slot(g, 0));
	assert_slots_in_step(g);
	must(enable(alias));
	assert_slots_in_step(g);
}

/* ---- a hook that returns nonsense ---- */

struct nonsense {
	unsigned long request;
	int result;
	unsigned skip; /* calls that are let through before */
	bool hit;
};

static bool talk_nonsense(struct guest *g, unsigned long request, void *arg, int *result)
{
	struct nonsense *nonsense = g->data;

	(void)arg;
	if (request != nonsense->request || nonsense->hit || nonsense->skip-- > 0)
		return false;
	nonsense->hit = true;
	*result = nonsense->result;
	return true;
}

static const int nonsenses[] = {1, 4096, INT_MAX, -4096, -100000, INT_MIN};

/* How many calls it will take to hide it. */
static unsigned count_calls(struct guest *g, struct kvmas_region *hole)
{
	struct kvmas_kvm_plan plan = {.struct_size = sizeof(plan)};

	must(kvmas_begin(g->f->kvmas));
	must(enable(hole));
	must(kvmas_kvm_dry_run(g->kvm, NULL, NULL, &plan));
	must(kvmas_abort(g->f->kvmas));
	return (unsigned)(plan.slot_creates + plan.slot_deletes + plan.slot_moves +
			  plan.slot_flags);
}

/* At each call of a commit, all forms of it. */
static void nonsense_from_the_hook_is_eproto(void **state)
{
	struct nonsense nonsense = {0};
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES,
								 .meddle = talk_nonsense,
								 .data = &nonsense});
	struct kvmas_region *hole = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	unsigned ncalls = count_calls(g, hole);

	/* One slot is deleted and two are made, in each space. */
	assert_int_equal(ncalls, 3 * g->nspaces);
	for (unsigned i = 0; i < ncalls * LENGTH(nonsenses); i++) {
		nonsense = (struct nonsense){.request = KVM_SET_USER_MEMORY_REGION,
					     .result = nonsenses[i / ncalls],
					     .skip = i % ncalls};
		assert_refused(g, hole, -EPROTO);
		assert_true(nonsense.hit);
		assert_slots_in_step(g);
	}
	nonsense.hit = true;
	assert_made(g, hole);
}

/* A log that cannot be read is all dirty, and no reason to fail. */
static void nonsense_instead_of_a_log_marks_all(void **state)
{
	struct nonsense nonsense = {.hit = true};
	struct guest *g = guest_new(state, (struct guest_config){.npages = NPAGES,
								 .meddle = talk_nonsense,
								 .data = &nonsense});
	struct kvmas_region *hole = guest_put_hole(g, 0, WINDOW, WINDOW_PAGES);
	uint64_t bits[NPAGES / 64];
	struct kvmas_client *client;

	must(kvmas_client_new(g->f->kvmas, "migration", &client));
	must(kvmas_client_log_start(client, NULL, g->space[0]));
	for (unsigned i = 0; i < LENGTH(nonsenses); i++) {
		nonsense = (struct nonsense){.request = KVM_GET_DIRTY_LOG, .result = nonsenses[i]};
		assert_made(g, hole);
		assert_true(nonsense.hit);
		/* The slot that goes is at first that of all RAM. */
		assert_int_equal(kvmas_client_take(client, g->ram, 0, NPAGES, bits),
				 i == 0 ? NPAGES : WINDOW_PAGES);
		must(kvmas_region_set_enabled(hole, false));
	}
	kvmas_client_unref(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(vm_fd_that_is_closed_or_another_file_is_an_errno),
		GUEST_TEST(vm_of_another_process_is_eio),
		GUEST_TEST(forked_child_gets_eio_and_changes_nothing),
		GUEST_TEST(capability_that_this_kvm_lacks_is_eopnotsupp),
		GUEST_TEST(as_id_that_this_vm_has_not_is_eopnotsupp),
		GUEST_TEST(reservation_that_collides_is_refused),
		GUEST_TEST(slot_of_the_vmms_own_in_the_way_is_eexist),
		GUEST_TEST(nonsense_from_the_hook_is_eproto),
		GUEST_TEST(nonsense_instead_of_a_log_marks_all),
	};

	return guest_main("live-bad-input", tests, LENGTH(tests), 1);
}
