/* SPDX-License-Identifier: MIT */
/*
 * own.bin: a firmware of 64 KiB that does one thing, SMM, and says what it sees on the debug port.
 * It needs no irqchip, no clock, no stack of devices: the host bridge, the PM function, the APM and
 * debug ports. Port 0x80 and the text screen at B8000 may be there, or not.
 *
 * It always comes to its end: where SMM is missing or broken it prints so, and goes on.
 *
 *   own   reads A0000: ones, for SMRAM is closed
 *   own   opens SMRAM, puts the stub at 38000 and the handler at A8000, makes the first SMI
 *   smm   the stub, at the SMBASE of reset 30000, sees the handler and moves SMBASE to A0000
 *   own   closes and locks SMRAM, tries to open it again, reads A0000: ones
 *   own   makes the second SMI
 *   smm   the handler writes 5ec2e7aa to A0000 and reads it back
 *   own   reads A0000: ones; makes the third SMI
 *   smm   the handler reads A0000: 5ec2e7aa
 *   own   reads A0000: ones; ends the run through port 501
 *
 * All is 16-bit code. Outside of SMM it runs in real mode from 0xf0000. In SMM the processor gives
 * CS the base SMBASE, IP 0x8000, and data segments of base 0 and 4 GiB (Intel SDM volume 3, "SMM
 * execution environment"), so that all memory is reached with 32-bit addresses.
 */

	/* Ports. */
	.set PCI_ADDRESS, 0xcf8
	.set PCI_DATA, 0xcfc
	.set APM_COMMAND, 0xb2
	.set POST_PORT, 0x80
	.set DEBUG_PORT, 0x402
	.set EXIT_PORT, 0x501
	.set PMBASE_PORT, 0x600
	.set GLBCTL_PORT, PMBASE_PORT + 0x28

	/* PCI configuration addresses, and bits there. */
	.set SMRAM, 0x80000000 + 0x72		/* 00:00.0, 82441FX */
	.set SMRAM_OPEN, 0x4a			/* D_OPEN, G_SMRAME */
	.set SMRAM_LOCK, 0x1a			/* D_LCK, G_SMRAME */
	.set PM_PMBASE, 0x80000b00 + 0x40	/* 00:01.3, PIIX4 */
	.set PM_DEVACTB, 0x80000b00 + 0x58
	.set PM_DEVACTB_APMC_EN, 1 << 25
	.set PM_PMREGMISC, 0x80000b00 + 0x80
	.set PM_PMREGMISC_PMIOSE, 1
	.set GLBCTL_SMI_EN, 1

	/* SMM. */
	.set RESET_SMBASE, 0x30000
	.set SMBASE, 0xa0000
	.set ENTRY, 0x8000
	.set REVISION, 0xfefc			/* in the save area, from SMBASE on */
	.set REVISION_64, 0x0064		/* its low half: AMD's 64-bit layout */
	.set SMBASE_FIELD_64, 0xff00
	.set SMBASE_FIELD_32, 0xfef8

	.set WORD, 0x5ec2e7aa			/* what the handler leaves at A0000 */
	.set SIGNATURE, 0x4d4d5373		/* how the stub knows the handler */
	.set SMI_RELOCATE, 1			/* commands, written to APM_COMMAND */
	.set SMI_WRITE, 2
	.set SMI_READ, 3

	.set SCREEN, 0xb8000

	/* Stacks, in memory that nobody else uses; SMM's is another. */
	.set STACK, 0x7000
	.set SMM_STACK, 0x6000

	.code16

/*
 * Three pieces of code run at different places, and none can call another: each has routines of its
 * own.
 *
 *   print_NAME  prints the string at %cs:%si, to its NUL; changes %ax, %dx, %si
 *   hex_NAME    prints %eax as 8 digits; changes %eax, %ecx, %dx
 */
	.macro ROUTINES name
print_\name:
	movw	$DEBUG_PORT, %dx
1:	lodsb	%cs:(%si), %al
	testb	%al, %al
	jz	2f
	outb	%al, %dx
	jmp	1b
2:	ret

hex_\name:
	movw	$DEBUG_PORT, %dx
	movw	$8, %cx
1:	roll	$4, %eax
	pushl	%eax
	andb	$0xf, %al
	cmpb	$10, %al
	jb	2f
	addb	$('a' - '0' - 10), %al
2:	addb	$'0', %al
	outb	%al, %dx
	popl	%eax
	loop	1b
	ret
	.endm

/* Print a string of this piece, which lies at `at` when it runs; `begin` is where it lies here. */
	.macro PRINT name, string, begin=0, at=0
	movw	$(\string - \begin + \at), %si
	call	print_\name
	.endm

/* How far we have come. Changes %al. */
	.macro POST code
	movb	$\code, %al
	outb	%al, $POST_PORT
	.endm

/* Leave SMM, where something was printed last. Bytes of the debug port may wait on the host; a read
 * of it does not, and what was written before it arrives before it: while we are in SMM. */
	.macro RETURN
	inb	%dx, %al
	rsm
	.endm

/* Read or write a PCI register; the data port is one of four. Changes %eax (for a read: but the
 * result) and %dx. */
	.macro PCI_SELECT reg
	movl	$\reg, %eax
	andb	$0xfc, %al
	movw	$PCI_ADDRESS, %dx
	outl	%eax, %dx
	movw	$(PCI_DATA + (\reg & 3)), %dx
	.endm

	.macro PCI_WRITE_BYTE reg, value
	PCI_SELECT \reg
	movb	$\value, %al
	outb	%al, %dx
	.endm

/* ---------------------------------------------------------------------------------------------- */
	.section .text

	.globl	start
start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ss
	movw	$STACK, %sp

	POST	1
	PRINT	own, text_begin
	call	read_window

	POST	2
	PCI_WRITE_BYTE SMRAM, SMRAM_OPEN
	PRINT	own, text_open
	call	print_smram
	call	copy_pieces
	call	enable_smi

	PRINT	own, text_first
	movb	$SMI_RELOCATE, %al
	outb	%al, $APM_COMMAND

	POST	3
	PCI_WRITE_BYTE SMRAM, SMRAM_LOCK
	PRINT	own, text_lock
	call	print_smram
	PCI_WRITE_BYTE SMRAM, SMRAM_OPEN
	PRINT	own, text_reopen
	call	print_smram
	call	read_window

	PRINT	own, text_second
	movb	$SMI_WRITE, %al
	outb	%al, $APM_COMMAND
	call	read_window

	PRINT	own, text_third
	movb	$SMI_READ, %al
	outb	%al, $APM_COMMAND
	call	read_window

	POST	4
	call	show_end
	PRINT	own, text_end
	movw	$EXIT_PORT, %dx
	xorb	%al, %al
	outb	%al, %dx
1:	hlt
	jmp	1b

/* The last text again, to the first line of the screen, white on black; but its newline. */
show_end:
	movw	$(SCREEN >> 4), %ax
	movw	%ax, %es
	xorw	%di, %di
	movw	$text_end, %si
	movw	$(text_newline - text_end - 2), %cx
	movb	$0x07, %ah
1:	lodsb	%cs:(%si), %al
	stosw
	loop	1b
	ret

/* Print the four bytes at A0000, read at once. */
read_window:
	PRINT	own, text_window
	movw	$(SMBASE >> 4), %ax
	movw	%ax, %es
	movl	%es:0, %eax
	call	hex_own
	jmp	end_line

/* Print the SMRAM register: what became of a write. */
print_smram:
	PCI_SELECT SMRAM
	xorl	%eax, %eax
	inb	%dx, %al
	call	hex_own
	/* Falls through. */

end_line:
	PRINT	own, text_newline
	ret

/* With SMRAM open, both places are plain memory. */
copy_pieces:
	movw	%cs, %ax
	movw	%ax, %ds
	movw	$((RESET_SMBASE + ENTRY) >> 4), %ax
	movw	%ax, %es
	movw	$stub, %si
	movw	$(stub_end - stub), %cx
	xorw	%di, %di
	rep movsb
	movw	$((SMBASE + ENTRY) >> 4), %ax
	movw	%ax, %es
	movw	$handler, %si
	movw	$(handler_end - handler), %cx
	xorw	%di, %di
	rep movsb
	ret

/* An SMI for each write to APM_COMMAND. If that bit is set from the start, the machine has no SMM:
 * the writes then do nothing. */
enable_smi:
	PCI_SELECT PM_DEVACTB
	inl	%dx, %eax
	testl	$PM_DEVACTB_APMC_EN, %eax
	jz	1f
	PRINT	own, text_no_smm
	ret
1:	PCI_SELECT PM_PMBASE
	movl	$(PMBASE_PORT | 1), %eax
	outl	%eax, %dx
	PCI_WRITE_BYTE PM_PMREGMISC, PM_PMREGMISC_PMIOSE
	movw	$GLBCTL_PORT, %dx
	inl	%dx, %eax
	orl	$GLBCTL_SMI_EN, %eax
	outl	%eax, %dx
	PCI_SELECT PM_DEVACTB
	inl	%dx, %eax
	orl	$PM_DEVACTB_APMC_EN, %eax
	outl	%eax, %dx
	ret

	ROUTINES own

text_begin:	.asciz	"own: firmware of libkvmas\n"
text_window:	.asciz	"own: A0000 reads "
text_open:	.asciz	"own: opened SMRAM: 72<-4a, reads "
text_lock:	.asciz	"own: closed and locked SMRAM: 72<-1a, reads "
text_reopen:	.asciz	"own: tried to open SMRAM: 72<-4a, reads "
text_no_smm:	.asciz	"own: this machine has no SMM: no SMI will come\n"
text_first:	.asciz	"own: first SMI\n"
text_second:	.asciz	"own: second SMI\n"
text_third:	.asciz	"own: third SMI\n"
text_end:	.asciz	"own: end\n"
text_newline:	.asciz	"\n"

/* ----------------------------------------------------------------------------------------------
 * The stub, run at 0x38000 by every SMI as long as SMBASE is that of reset. It moves SMBASE, but
 * only if SMM sees the handler at the new one: else the next SMI would find nothing to run, and
 * nowhere to save the processor's state, which is the end of a VM.
 */
stub:
	movw	$SMM_STACK, %sp
	movl	$(SMBASE + ENTRY + handler_signature - handler), %ebx
	movl	(%ebx), %eax
	cmpl	$SIGNATURE, %eax
	je	1f
	pushl	%eax
	PRINT	stub, stub_text_missing, stub, ENTRY
	popl	%eax
	call	hex_stub
	PRINT	stub, stub_text_stays, stub, ENTRY
	RETURN

1:	movl	$(RESET_SMBASE + REVISION), %ebx
	movl	(%ebx), %eax
	movl	$(RESET_SMBASE + SMBASE_FIELD_64), %ebx
	cmpw	$REVISION_64, %ax
	je	2f
	movl	$(RESET_SMBASE + SMBASE_FIELD_32), %ebx
2:	movl	$SMBASE, (%ebx)
	pushl	%eax
	PRINT	stub, stub_text_moved, stub, ENTRY
	popl	%eax
	call	hex_stub
	PRINT	stub, stub_text_newline, stub, ENTRY
	RETURN

	ROUTINES stub

stub_text_missing:	.asciz	"smm: no handler at A8000, which reads "
stub_text_stays:	.asciz	": SMBASE stays 30000\n"
stub_text_moved:	.asciz	"smm: SMBASE 30000 -> A0000, save area's revision "
stub_text_newline:	.asciz	"\n"
stub_end:

/* ----------------------------------------------------------------------------------------------
 * The handler, run at 0xa8000 in SMRAM by every SMI after that.
 */
handler:
	jmp	1f
	.balign	4
handler_signature:
	.long	SIGNATURE
1:	movw	$SMM_STACK, %sp
	movl	$SMBASE, %ebx
	inb	$APM_COMMAND, %al
	cmpb	$SMI_WRITE, %al
	jne	2f
	movl	$WORD, (%ebx)
	PRINT	handler, handler_text_wrote, handler, ENTRY
2:	PRINT	handler, handler_text_reads, handler, ENTRY
	movl	(%ebx), %eax
	call	hex_handler
	PRINT	handler, handler_text_newline, handler, ENTRY
	RETURN

	ROUTINES handler

handler_text_reads:	.asciz	"smm: reads "
handler_text_newline:	.asciz	"\n"
handler_text_wrote:	.asciz	"smm: wrote 5ec2e7aa\n"
handler_end:

/* ----------------------------------------------------------------------------------------------
 * For who wants to find the handler in the ROM: a mark, and offset and size in the ROM.
 */
	.section .table, "a"
	.ascii	"kvmasfw1"
	.word	handler
	.word	handler_end - handler

/* The processor's first instruction, at 0xfffffff0: on to the same ROM below 1 MiB. */
	.section .reset, "ax"
	ljmp	$0xf000, $start
