// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "json.h"
#include "text.h"

#define DOC_MAX (64 << 20)
#define DOC_FLAGS (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)

struct json_object *doc_new(const char *name)
{
	struct json_object *doc = json_object_new_object();
	char schema[64];

	snprintf(schema, sizeof(schema), "pcilu/%s", name);
	add_str(doc, "schema", schema);
	add_int(doc, "schema_version", SCHEMA_VERSION);
	return doc;
}

bool doc_is(struct json_object *doc, const char *name)
{
	const char *schema = get_str(doc, "schema");

	return schema && !strncmp(schema, "pcilu/", 6) &&
	       !strcmp(schema + 6, name) &&
	       get_int(doc, "schema_version") == SCHEMA_VERSION;
}

static bool printed;

void doc_print(struct json_object *doc)
{
	printed = true;
	puts(json_object_to_json_string_ext(doc, DOC_FLAGS));
}

bool doc_printed(void)
{
	return printed;
}

/* A device, a pipe or a socket takes what is written, and stays what it is */
static int write_into(const char *text, const char *path)
{
	autofclose FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%s\n", text) < 0 || fflush(f))
		return -errno;
	return 0;
}

/* In one piece or not at all: a reader never sees half of it */
int doc_write(struct json_object *doc, const char *path)
{
	const char *text = json_object_to_json_string_ext(doc, DOC_FLAGS);
	autofree char *temp = NULL;
	autofclose FILE *f = NULL;
	struct stat st;

	if (!strcmp(path, "-")) {
		doc_print(doc);
		return 0;
	}
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : write_into(text, path);

	if (asprintf(&temp, "%s.new", path) < 0) {
		temp = NULL;
		return -ENOMEM;
	}
	f = fopen(temp, "we");
	if (!f)
		return -errno;
	if (fprintf(f, "%s\n", text) < 0 || fflush(f) || rename(temp, path)) {
		int err = -errno;

		unlink(temp);
		return err;
	}
	return 0;
}

struct json_object *doc_read(const char *path, int *err)
{
	autofree char *text = NULL;
	struct json_object *doc;
	const char *from = strcmp(path, "-") ? path : "/dev/stdin";
	ssize_t n = path_read(from, DOC_MAX, &text);

	*err = n < 0 ? (int)n : 0;
	if (n < 0)
		return NULL;
	doc = json_tokener_parse(text);
	if (!doc || !json_object_is_type(doc, json_type_object)) {
		json_object_put(doc);
		*err = -EBADMSG;
		return NULL;
	}
	return doc;
}

void add_str(struct json_object *o, const char *key, const char *s)
{
	autofree char *valid = s && !text_is_utf8(s) ? text_utf8(s) : NULL;

	if (valid)
		s = valid;
	json_object_object_add(o, key, s ? json_object_new_string(s) : NULL);
}

void add_int(struct json_object *o, const char *key, int64_t n)
{
	json_object_object_add(o, key, json_object_new_int64(n));
}

void add_bool(struct json_object *o, const char *key, bool b)
{
	json_object_object_add(o, key, json_object_new_boolean(b));
}

struct json_object *add_array(struct json_object *o, const char *key)
{
	struct json_object *array = json_object_new_array();

	json_object_object_add(o, key, array);
	return array;
}

struct json_object *array_object(struct json_object *array)
{
	struct json_object *o = json_object_new_object();

	json_object_array_add(array, o);
	return o;
}

const char *get_str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_string) ?
		       json_object_get_string(v) :
		       NULL;
}

int64_t get_int(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ?
		       json_object_get_int64(v) :
		       0;
}

bool get_bool(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	       json_object_get_boolean(v);
}

struct json_object *get_array(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_array) ?
		       v :
		       NULL;
}
