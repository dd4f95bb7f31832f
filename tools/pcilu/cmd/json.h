/* SPDX-License-Identifier: GPL-2.0 */
/* Documents: a name and a version of their schema, then what there is to say. */
#ifndef PCILU_JSON_H
#define PCILU_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#define SCHEMA_VERSION 1

/* {"schema": "pcilu/NAME", "schema_version": 1} */
struct json_object *doc_new(const char *name);
/* True if it is a document of that name and of a version that we read */
bool doc_is(struct json_object *doc, const char *name);
void doc_print(struct json_object *doc);
bool doc_printed(void); /* was any? */
/* Both take "-". Writing replaces a file, and nothing that is none. 0 or -errno. */
int doc_write(struct json_object *doc, const char *path);
struct json_object *doc_read(const char *path, int *err);

void add_str(struct json_object *o, const char *key,
	     const char *s); /* NULL: null */
void add_int(struct json_object *o, const char *key, int64_t n);
void add_bool(struct json_object *o, const char *key, bool b);
struct json_object *add_array(struct json_object *o, const char *key);
struct json_object *array_object(struct json_object *array);

/* The member, or a default if there is none of that kind */
const char *get_str(struct json_object *o, const char *key);
int64_t get_int(struct json_object *o, const char *key);
bool get_bool(struct json_object *o, const char *key);
struct json_object *get_array(struct json_object *o, const char *key);

static inline void cleanup_json(struct json_object **o)
{
	json_object_put(*o);
}

#define autojson __attribute__((cleanup(cleanup_json))) struct json_object

#endif /* PCILU_JSON_H */
