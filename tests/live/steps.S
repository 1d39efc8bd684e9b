/* SPDX-License-Identifier: MIT */
/*
 * The pieces of code that steps.h tells of, in its order, assembled three times. In SMM the first
 * one jumps to the one that %bp says, and each goes back with RSM when the vCPU runs on. In 64-bit
 * mode each first drops the mappings of the step before.
 *
 * There are KVMs that run all of such a guest in their emulator of instructions (arch/x86/kvm,
 * emulate.c): what that does not know cannot stand here. Of MMX it knows MOVQ from and to memory.
 */
#include "steps.h"

	.macro BEGIN mode
	.balign	STEP_SIZE, 0xf4
	.if	\mode == 64
	movq	%cr3, %r8
	movq	%r8, %cr3
	.endif
	.endm

	.macro END mode
	hlt
	.if	\mode == 16
	rsm
	.endif
	.endm

	.macro PLAIN mode, bx, si, di
	.irp	a, %al, %ax, %eax
	BEGIN	\mode
	mov	(\bx), \a
	END	\mode
	.endr
	BEGIN	\mode
	.if	\mode == 64
	movq	(\bx), %rax
	.else
	movq	(\bx), %mm0
	movq	%mm0, (\di)
	.endif
	END	\mode

	.irp	a, %al, %ax, %eax
	BEGIN	\mode
	mov	\a, (\bx)
	END	\mode
	.endr
	BEGIN	\mode
	.if	\mode == 64
	movq	%rax, (\bx)
	.else
	movq	(\si), %mm0
	movq	%mm0, (\bx)
	.endif
	END	\mode
	.endm

	.macro PORTS mode
	.irp	a, %al, %ax, %eax
	BEGIN	\mode
	in	%dx, \a
	END	\mode
	.endr
	.irp	a, %al, %ax, %eax
	BEGIN	\mode
	out	\a, %dx
	END	\mode
	.endr
	.endm

	.macro STRINGS mode, direction, si, di
	.irp	suffix, b, w, l
	BEGIN	\mode
	\direction
	rep ins\suffix (%dx), %es:(\di)
	END	\mode
	.endr
	.irp	suffix, b, w, l
	BEGIN	\mode
	\direction
	rep outs\suffix (\si), (%dx)
	END	\mode
	.endr
	.irp	suffix, b, w, l
	BEGIN	\mode
	\direction
	rep movs\suffix (\si), %es:(\di)
	END	\mode
	.endr
	.endm

	.macro PIECES mode, bx, si, di
	.balign	STEP_SIZE, 0xf4
	.if	\mode == 16
	jmp	*%bp
	.else
	hlt
	.endif
	PLAIN	\mode, \bx, \si, \di
	PORTS	\mode
	STRINGS	\mode, cld, \si, \di
	STRINGS	\mode, std, \si, \di
	.balign	STEP_SIZE, 0xf4
	.endm

	.section .rodata
	.globl	steps_flat, steps_smm, steps_long, steps_end
	.balign	STEP_SIZE
steps_flat:
	.code32
	PIECES	32, %ebx, %esi, %edi
steps_smm:
	.code16
	PIECES	16, %ebx, %esi, %edi
steps_long:
	.code64
	PIECES	64, %rbx, %rsi, %rdi
steps_end:

	.section .note.GNU-stack, "", @progbits
