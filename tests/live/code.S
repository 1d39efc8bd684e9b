/* SPDX-License-Identifier: MIT */
/*
 * The guest's programs: see code.h. The same round is assembled twice, for flat 32-bit protected
 * mode and for SMM, which begins in 16-bit code with data segments of base 0 and 4 GiB (Intel SDM
 * volume 3, "SMM execution environment"). All jumps are relative: a program runs anywhere.
 *
 *   %ebp   control page        %ebx         address
 *   %esi   entry               %edx         kind
 *   %ecx   entries, writes left  %eax, %edi  words
 */
#include "code.h"

/* One round through the table; falls through when all is well. */
	.macro ROUND call
	movl	CODE_TABLE(%ebp), %esi
	movl	CODE_COUNT(%ebp), %ecx
	testl	%ecx, %ecx
	jz	9f
1:	movl	CODE_ADDRESS(%esi), %ebx
	movl	CODE_KIND(%esi), %edx
	cmpl	$CODE_WRITE, %edx
	jae	4f
	.if	\call
	cmpl	$CODE_CALL, %edx
	jne	2f
	call	*%ebx
	jmp	3f
	.endif
2:	movl	(%ebx), %eax
3:	cmpl	CODE_A(%esi), %eax
	je	8f
	cmpl	CODE_B(%esi), %eax
	je	8f
	jmp	7f

4:	cmpl	$CODE_POKE, %edx
	jne	6f
	movl	CODE_A(%esi), %eax
	movl	%eax, (%ebx)
	jmp	8f

6:	movl	(%ebx), %eax
	movl	%eax, %edi
	cmpl	CODE_A(%esi), %eax
	jne	7f
	incl	%edi
	movl	%edi, (%ebx)
	movl	(%ebx), %eax
	cmpl	%edi, %eax
	je	5f
	cmpl	$CODE_TRY, %edx
	jne	7f
	cmpl	CODE_A(%esi), %eax
	jne	7f
5:	movl	%eax, CODE_A(%esi)
	jmp	8f

7:	movl	%eax, CODE_BAD_VALUE(%ebp)
	movl	%esi, CODE_BAD_ENTRY(%ebp)
	outb	%al, $CODE_BAD_PORT
	jmp	7b

8:	addl	$CODE_ENTRY_SIZE, %esi
	decl	%ecx
	jnz	1b
9:
	.endm

/* Numbers to targets at random (a linear congruence, whose high bits choose). */
	.macro SCATTER
	movl	CODE_WRITES(%ebp), %ecx
	testl	%ecx, %ecx
	jz	6f
5:	imull	$1664525, CODE_RANDOM(%ebp), %eax
	addl	$1013904223, %eax
	movl	%eax, CODE_RANDOM(%ebp)
	mull	CODE_NTARGETS(%ebp)
	movl	CODE_TARGETS(%ebp), %ebx
	movl	(%ebx,%edx,4), %ebx
	addl	CODE_LANE(%ebp), %ebx
	incl	CODE_NUMBER(%ebp)
	movl	CODE_NUMBER(%ebp), %eax
	movl	%eax, (%ebx)
	decl	%ecx
	jnz	5b
6:
	.endm

	.section .rodata
	.globl	code_flat, code_flat_end, code_smm, code_smm_end

	.code32
code_flat:
	leal	4096(%ebp), %esp
30:	ROUND 1
	SCATTER
	incl	CODE_ROUNDS(%ebp)
	decl	CODE_LEFT(%ebp)
	jnz	30b
	movl	CODE_TURN_EVERY(%ebp), %eax
	movl	%eax, CODE_LEFT(%ebp)
	outb	%al, $CODE_TURN_PORT
	jmp	30b
code_flat_end:

	.code16
code_smm:
	jmp	31f
	.org	code_smm + CODE_SMM_CONTROL
	.long	0
31:	movl	%cs:(0x8000 + CODE_SMM_CONTROL), %ebp
	ROUND 0
	SCATTER
	incl	CODE_ROUNDS(%ebp)
	rsm
code_smm_end:

	.section .note.GNU-stack, "", @progbits
