// SPDX-License-Identifier: GPL-2.0
/*
 * The console: a UART of which nothing but sending works. What is written is sent at
 * once, so that the holding register is always empty, and its interrupt (the one that a
 * driver needs) is raised whenever the guest cares to hear that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm.h"

/* For a line; then it is lost */
#define PATIENCE_MS 100

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define IER_THR_EMPTY 0x02
#define IIR_NONE 0x01
#define IIR_THR_EMPTY 0x02
#define LCR_DLAB 0x80
#define LSR_EMPTY 0x60 /* holding and shift register */
#define MSR_READY 0xb0 /* carrier, data set ready, clear to send */

int serial_open(struct serial *s, const char *path)
{
	s->out = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
			     0600) :
			STDOUT_FILENO;
	return s->out < 0 ? fail(-errno, "%s", path) : 0;
}

void serial_flush(struct serial *s)
{
	struct pollfd out = { .fd = s->out, .events = POLLOUT };

	/* A console that nobody reads is no reason to stop the guest, nor one that is slow */
	if (s->length && poll(&out, 1, PATIENCE_MS) == 1 &&
	    write(s->out, s->line, s->length) < 0)
		errno = 0;
	s->length = 0;
}

static void put(struct serial *s, uint8_t c)
{
	s->line[s->length++] = c;
	if (c == '\n' || s->length == sizeof(s->line))
		serial_flush(s);
}

/* Also after a restore: the lines are not in the interrupt controllers' state */
void serial_update_irq(const struct serial *s, int vm)
{
	struct kvm_irq_level line = { .irq = SERIAL_IRQ,
				      .level = s->r.thr_empty };

	if (ioctl(vm, KVM_IRQ_LINE, &line))
		fail(-errno, "KVM_IRQ_LINE");
}

uint8_t serial_read(struct serial *s, int vm, unsigned int reg)
{
	uint8_t value;

	switch (reg) {
	case DATA:
		return s->r.lcr & LCR_DLAB ? s->r.dll : 0;
	case IER:
		return s->r.lcr & LCR_DLAB ? s->r.dlm : s->r.ier;
	case IIR:
		value = s->r.thr_empty ? IIR_THR_EMPTY : IIR_NONE;
		s->r.thr_empty = 0; /* reading it is the answer */
		serial_update_irq(s, vm);
		return value;
	case LCR:
		return s->r.lcr;
	case MCR:
		return s->r.mcr;
	case LSR:
		return LSR_EMPTY;
	case MSR:
		return MSR_READY;
	default:
		return s->r.scr;
	}
}

void serial_write(struct serial *s, int vm, unsigned int reg, uint8_t value)
{
	bool latch = s->r.lcr & LCR_DLAB;

	switch (reg) {
	case DATA:
		if (latch)
			s->r.dll = value;
		else
			put(s, value);
		break;
	case IER:
		if (latch)
			s->r.dlm = value;
		else
			s->r.ier = value & 0x0f;
		break;
	case LCR:
		s->r.lcr = value;
		break;
	case MCR:
		s->r.mcr = value;
		break;
	case SCR:
		s->r.scr = value;
		break;
	}
	if (reg <= IER && !latch) {
		s->r.thr_empty = !!(s->r.ier & IER_THR_EMPTY);
		serial_update_irq(s, vm);
	}
}
