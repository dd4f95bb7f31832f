// SPDX-License-Identifier: GPL-2.0
/*
 * What runs in the guest of the rig: `receive [--drive DRIVE] [INTERFACE]` prints a line
 * of JSON each second, with the guest's clocks, what has become of the frames that come to
 * the interface, and of the reads of the drive. Frames have a sequence number
 * (rig/rig/frames.py), from which it is told whether one is missing. Nothing here knows of
 * live updates.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "read.h"

#define PROTOCOL 0x88b5
#define MAGIC 0x50434c55
#define RING 4096
#define BUFFER (16 << 20)

struct frame {
	uint8_t header[14];
	uint32_t magic, stream;
	uint64_t seq, sent_ns;
} __attribute__((packed));

struct counts {
	uint64_t frames, lost, again, last;
	double longest; /* seconds without a frame, of CLOCK_MONOTONIC */
	double before;
};

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* As many frames as the NIC can take while nobody looks */
static int open_interface(const char *name)
{
	struct ethtool_ringparam ring = {
		.cmd = ETHTOOL_SRINGPARAM,
		.rx_pending = RING,
		.tx_pending = 256,
	};
	struct sockaddr_ll a = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = if_nametoindex(name),
	};
	struct ifreq r = { .ifr_data = (char *)&ring };
	int buffer = BUFFER, s;

	s = socket(AF_PACKET, SOCK_RAW, htons(PROTOCOL));
	if (s < 0 || !a.sll_ifindex)
		return -1;
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(s, SIOCETHTOOL, &r) ||
	    setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &buffer,
		       sizeof(buffer)) ||
	    bind(s, (struct sockaddr *)&a, sizeof(a)))
		return -1;
	return s;
}

/* From 0 on, so that those which come before the interface is up count as lost, too */
static void count(struct counts *c, uint64_t seq)
{
	double t = now(CLOCK_MONOTONIC);

	if (c->frames && seq <= c->last) {
		c->again++;
		return;
	}
	c->lost += c->frames ? seq - c->last - 1 : seq;
	if (c->frames && t - c->before > c->longest)
		c->longest = t - c->before;
	c->before = t;
	c->last = seq;
	c->frames++;
}

static void take(struct counts *c, int s)
{
	uint8_t buffer[2048];
	struct frame f;

	while (recv(s, buffer, sizeof(buffer), MSG_DONTWAIT) >=
	       (ssize_t)sizeof(f)) {
		memcpy(&f, buffer, sizeof(f));
		if (ntohl(f.magic) == MAGIC)
			count(c, be64toh(f.seq));
	}
}

/* [] without a drive */
static void print_reads(const struct reads *r)
{
	unsigned int n;

	printf("\"reads\": [");
	for (n = 0; n < r->nr_cpus; n++)
		printf("%s%llu", n ? ", " : "",
		       (unsigned long long)r->count[n]);
	printf("], \"wrong\": %llu, \"failed\": %llu, \"longest_read\": %.3f",
	       (unsigned long long)r->wrong, (unsigned long long)r->failed,
	       r->longest);
}

static void print(const struct counts *c, unsigned int tick)
{
	struct reads r = reads_up_to_now();

	printf("{\"tick\": %u, \"cpus\": %ld, \"uptime\": %.3f, \"clock\": %.3f, \"frames\": %llu, "
	       "\"lost\": %llu, \"again\": %llu, \"longest\": %.3f, ",
	       tick, sysconf(_SC_NPROCESSORS_ONLN), now(CLOCK_BOOTTIME),
	       now(CLOCK_REALTIME), (unsigned long long)c->frames,
	       (unsigned long long)c->lost, (unsigned long long)c->again,
	       c->longest);
	print_reads(&r);
	printf("}\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct counts c = { 0 };
	struct pollfd p = { .fd = -1, .events = POLLIN };
	unsigned int tick = 0;
	double next;

	/* A line is written in one piece, as others write to the console, too */
	setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
	if (argc > 2 && !strcmp(argv[1], "--drive")) {
		if (reads_start(argv[2])) {
			perror(argv[2]);
			return 1;
		}
		argc -= 2;
		argv += 2;
	}
	if (argc > 1) {
		p.fd = open_interface(argv[1]);
		if (p.fd < 0) {
			perror(argv[1]);
			return 1;
		}
	}
	for (next = now(CLOCK_MONOTONIC);;) {
		double left = next - now(CLOCK_MONOTONIC);

		if (left > 0) {
			poll(&p, 1, left * 1000 + 1);
			take(&c, p.fd);
			continue;
		}
		print(&c, tick++);
		next = now(CLOCK_MONOTONIC) + 1;
	}
}
