// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a VMM does with libpcilu: `vmm save NAME` before the kexec, `vmm restore
 * NAME` after it. The memory is a memfd; a device file goes the same way.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pcilu.h>

enum { TOKEN_MEMORY = 1 };

static int save(struct pcilu *lu, const char *name, struct pcilu_session **s)
{
	int memory = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (memory < 0 || write(memory, "guest memory", 12) != 12)
		return -1;
	err = pcilu_session_create(lu, name, s);
	if (!err)
		err = pcilu_session_preserve_fd(*s, memory, TOKEN_MEMORY);
	close(memory); /* the session holds the file */
	return err;
}

/* After this, nothing is handed over any more. If pcilud does not hear of it, no harm is done. */
static int finish(struct pcilu *lu, struct pcilu_session *s)
{
	int err = pcilu_session_finish(NULL, s);

	if (err)
		return err;
	err = pcilu_session_release(lu, s);
	if (err && err != -ENOENT)
		fprintf(stderr, "vmm: pcilud still lists %s: %s\n",
			pcilu_session_name(s), strerror(-err));
	return 0;
}

static int restore(struct pcilu *lu, const char *name, struct pcilu_session **s)
{
	char text[13] = "";
	int memory, err = pcilu_session_retrieve(lu, name, s);

	if (err)
		return err;
	memory = pcilu_session_retrieve_fd(*s, TOKEN_MEMORY);
	if (memory < 0)
		return memory;
	if (pread(memory, text, 12, 0) == 12)
		puts(text);
	close(memory);
	return finish(lu, *s);
}

int main(int argc, char **argv)
{
	struct pcilu_session *s = NULL;
	struct pcilu *lu;
	int err;

	if (argc != 3)
		return 2;
	err = pcilu_open(&lu, PCILU_MODE_AUTO);
	if (err) {
		fprintf(stderr, "vmm: no sessions to be had: %s\n",
			strerror(-err));
		return 1;
	}
	err = strcmp(argv[1], "save") ? restore(lu, argv[2], &s) :
					save(lu, argv[2], &s);
	if (err)
		fprintf(stderr, "vmm: %s %s: %s\n", argv[1], argv[2],
			strerror(-err));
	pcilu_session_close(s); /* the daemon keeps its copy */
	pcilu_close(lu);
	return !!err;
}
