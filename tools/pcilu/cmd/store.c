// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "store.h"

#define TOKEN_DOCUMENT 1
#define DOCUMENT_MAX (64 << 20)

static void close_lu(struct pcilu **lu)
{
	pcilu_close(*lu);
}

static void close_session(struct pcilu_session **s)
{
	pcilu_session_close(*s);
}

#define autolu __attribute__((cleanup(close_lu))) struct pcilu
#define autosession __attribute__((cleanup(close_session))) struct pcilu_session

/* The old one goes first: a memfd cannot be taken out of a session */
static int fresh_session(struct pcilu *lu, const char *name,
			 struct pcilu_session **session)
{
	autosession *old = NULL;
	int err;

	if (!pcilu_session_attach(lu, name, &old)) {
		err = pcilu_session_release(lu, old);
		if (err)
			return err;
		pcilu_session_close(take_ptr(old));
	}
	return pcilu_session_create(lu, name, session);
}

int store_save(const char *name, struct json_object *doc)
{
	const char *text = json_object_to_json_string(doc);
	size_t len = strlen(text);
	autoclose int memfd = memfd_create(name, MFD_CLOEXEC);
	autolu *lu = NULL;
	autosession *session = NULL;
	int err;

	if (memfd < 0)
		return -errno;
	if (write(memfd, text, len) != (ssize_t)len)
		return -ENOSPC;
	/* Without the daemon the session would end with us */
	err = pcilu_open(&lu, PCILU_MODE_DAEMON);
	if (!err)
		err = fresh_session(lu, name, &session);
	if (!err)
		err = pcilu_session_preserve_fd(session, memfd, TOKEN_DOCUMENT);
	return err;
}

static struct json_object *read_document(int memfd, int *err)
{
	autofree char *text = NULL;
	struct json_object *doc;
	struct stat st;

	*err = -EBADMSG;
	if (fstat(memfd, &st) || st.st_size <= 0 || st.st_size > DOCUMENT_MAX)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text || pread(memfd, text, (size_t)st.st_size, 0) != st.st_size)
		return NULL;
	text[st.st_size] = '\0';
	doc = json_tokener_parse(text);
	*err = doc ? 0 : -EBADMSG;
	return doc;
}

struct json_object *store_load(const char *name, int *err)
{
	autolu *lu = NULL;
	autosession *session = NULL;
	autoclose int memfd = -1;

	*err = pcilu_open(&lu, PCILU_MODE_DAEMON);
	if (!*err)
		*err = pcilu_session_retrieve(lu, name, &session);
	if (*err)
		return NULL;
	memfd = pcilu_session_retrieve_fd(session, TOKEN_DOCUMENT);
	if (memfd < 0) {
		*err = memfd;
		return NULL;
	}
	return read_document(memfd, err);
}

void store_drop(const char *name)
{
	autolu *lu = NULL;
	autosession *session = NULL;

	if (!pcilu_open(&lu, PCILU_MODE_DAEMON) &&
	    !pcilu_session_attach(lu, name, &session))
		pcilu_session_release(lu, session);
}

void store_finish(const char *name)
{
	autolu *lu = NULL;
	autosession *session = NULL;

	if (!pcilu_open(&lu, PCILU_MODE_DAEMON) &&
	    !pcilu_session_retrieve(lu, name, &session))
		pcilu_session_finish(lu, session);
}
