/* SPDX-License-Identifier: MIT */
/*
 * The program that stores.h tells of: flat 32-bit code with its control page in %ebp. It knows
 * where it is from there, and so runs anywhere. Nothing is in it that KVM's emulator of
 * instructions does not know.
 *
 *   %esi   entry of the script      %eax   number
 *   %edx   address or port
 */
#include "code.h"
#include "stores.h"

	.macro PIECE
	.balign	STORES_PIECE, 0xf4
	.endm

	.macro NEXT
	jmp	stores_next
	.endm

	.section .rodata
	.globl	stores_program, stores_program_end
	.balign	STORES_PIECE
	.code32
stores_program:
	PIECE
	movb	%al, (%edx)
	NEXT
	PIECE
	movw	%ax, (%edx)
	NEXT
	PIECE
	movl	%eax, (%edx)
	NEXT
	PIECE
	movl	%eax, STORES_WIDE(%ebp)
	movl	$STORES_UPPER, STORES_WIDE+4(%ebp)
	movq	STORES_WIDE(%ebp), %mm0
	movq	%mm0, (%edx)
	NEXT
	PIECE
	movl	(%edx), %eax
	NEXT
	PIECE
	outb	%al, %dx
	NEXT
	PIECE
	outw	%ax, %dx
	NEXT
	PIECE
	outl	%eax, %dx
	NEXT
	PIECE
	movl	%esi, STORES_HERE(%ebp)
	movl	STORES_REPEAT(%esi), %ecx
	shll	$STORES_REP_SHIFT, %eax
	leal	STORES_ROOM(%ebp), %edi
1:	movl	%eax, (%edi)
	addl	$4, %edi
	incl	%eax
	decl	%ecx
	jnz	1b
	movl	STORES_REPEAT(%esi), %ecx
	leal	STORES_ROOM(%ebp), %esi
	rep outsl (%esi), (%dx)
	movl	STORES_HERE(%ebp), %esi
	NEXT

	/* Here it begins. */
	PIECE
stores_round:
	movl	STORES_SCRIPT(%ebp), %esi
	movl	STORES_LENGTH(%ebp), %eax
	movl	%eax, STORES_LEFT(%ebp)
stores_access:
	incl	STORES_NUMBER(%ebp)
	movl	STORES_NUMBER(%ebp), %eax
	movl	STORES_KIND(%esi), %ecx
	imull	$STORES_PIECE, %ecx, %ecx
	addl	STORES_CODE(%ebp), %ecx
	movl	STORES_ADDRESS(%esi), %edx
	jmp	*%ecx
stores_next:
	addl	$STORES_ENTRY_SIZE, %esi
	decl	STORES_LEFT(%ebp)
	jnz	stores_access
	incl	STORES_ROUNDS(%ebp)
	decl	STORES_TURN_IN(%ebp)
	jnz	stores_round
	movl	STORES_EVERY(%ebp), %eax
	movl	%eax, STORES_TURN_IN(%ebp)
	outb	%al, $CODE_TURN_PORT
	jmp	stores_round
stores_program_end:

	.section .note.GNU-stack, "", @progbits
