// SPDX-License-Identifier: GPL-2.0
/*
 * The policy file has one rule a line: WHO may do WHAT, nothing else is allowed.
 *
 *	user root use *
 *	user root hold
 *	group libvirt-qemu use vm-*
 */

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "../common/log.h"
#include "policy.h"

#define POLICY_MAX_SIZE (64UL * 1024)
#define MAX_WORDS 64

enum kind { KIND_USER, KIND_GROUP, KIND_ANYBODY };

struct rule {
	enum kind kind;
	uint32_t id;
	bool hold;
	char *pattern; /* of names, NULL for hold */
};

struct policy {
	struct rule *rules;
	size_t count;
	char *text;
};

void policy_free(struct policy *policy)
{
	size_t i;

	if (!policy)
		return;
	for (i = 0; i < policy->count; i++)
		free(policy->rules[i].pattern);
	free(policy->rules);
	free(policy->text);
	free(policy);
}

const char *policy_text(const struct policy *policy)
{
	return policy->text;
}

static int add_rule(struct policy *policy, const struct rule *rule,
		    const char *pattern)
{
	struct rule *more =
		reallocarray(policy->rules, policy->count + 1, sizeof(*more));
	char *copy = pattern ? strdup(pattern) : NULL;

	if (more)
		policy->rules = more;
	if (!more || (pattern && !copy)) {
		free(copy);
		return -ENOMEM;
	}
	more[policy->count] = *rule;
	more[policy->count++].pattern = copy;
	return 0;
}

/* A number, or a name that the system knows: 0, -ENOENT if it does not */
static int look_up(const char *who, enum kind kind, uint32_t *id)
{
	struct passwd *pw;
	struct group *gr;
	char *end;
	unsigned long n;

	if (*who >= '0' && *who <= '9') {
		errno = 0;
		n = strtoul(who, &end, 10);
		if (errno || *end || n >= UINT32_MAX)
			return -EINVAL;
		*id = (uint32_t)n;
		return 0;
	}
	if (kind == KIND_USER) {
		pw = getpwnam(who);
		if (!pw)
			return -ENOENT;
		*id = pw->pw_uid;
	} else {
		gr = getgrnam(who);
		if (!gr)
			return -ENOENT;
		*id = gr->gr_gid;
	}
	return 0;
}

/* What is wrong with a line, NULL if nothing is */
static const char *parse_words(struct policy *policy, char **word, size_t n)
{
	struct rule rule = { 0 };
	size_t i;
	int err;

	if (n < 3)
		return "a rule is: user|group WHO use PATTERN... or user|group WHO hold";
	if (!strcmp(word[0], "user"))
		rule.kind = KIND_USER;
	else if (!strcmp(word[0], "group"))
		rule.kind = KIND_GROUP;
	else
		return "a rule begins with user or group";

	if (rule.kind == KIND_USER && !strcmp(word[1], "*"))
		rule.kind = KIND_ANYBODY;
	err = rule.kind == KIND_ANYBODY ? 0 :
					  look_up(word[1], rule.kind, &rule.id);
	if (err == -EINVAL)
		return "this is no user or group number";
	if (err) {
		/* Not every host has every user: allowing nobody is safe */
		log_msg(LOG_NOTICE, "policy: no %s '%s' on this host", word[0],
			word[1]);
		return NULL;
	}

	if (!strcmp(word[2], "hold")) {
		if (n > 3)
			return "hold takes no patterns";
		rule.hold = true;
		return add_rule(policy, &rule, NULL) ? "out of memory" : NULL;
	}
	if (strcmp(word[2], "use") != 0)
		return "what somebody may do is use or hold";
	if (n < 4)
		return "use needs the names that may be used";
	for (i = 3; i < n; i++)
		if (add_rule(policy, &rule, word[i]))
			return "out of memory";
	return NULL;
}

static const char *parse_line(struct policy *policy, char *line)
{
	char *word[MAX_WORDS], *save = NULL, *w;
	size_t n = 0;

	line[strcspn(line, "#")] = '\0';
	for (w = strtok_r(line, " \t\r", &save); w;
	     w = strtok_r(NULL, " \t\r", &save)) {
		if (n == MAX_WORDS)
			return "too many words, use several lines";
		word[n++] = w;
	}
	return n ? parse_words(policy, word, n) : NULL;
}

struct policy *policy_parse(const char *text, size_t len, char **why)
{
	autofree char *copy = strndup(text, len);
	struct policy *policy = calloc(1, sizeof(*policy));
	char *line = copy, *next;
	const char *wrong;
	size_t number = 0;

	*why = NULL;
	if (policy)
		policy->text = strndup(text, len);
	if (!copy || !policy || !policy->text) {
		policy_free(policy);
		return NULL;
	}
	for (; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		number++;
		wrong = parse_line(policy, line);
		if (wrong) {
			if (asprintf(why, "line %zu: %s", number, wrong) < 0)
				*why = NULL;
			policy_free(policy);
			return NULL;
		}
	}
	return policy;
}

struct policy *policy_load(const char *path, char **why)
{
	autofree char *text = NULL;
	struct stat st;
	ssize_t n = -EPERM;

	*why = NULL;
	if (stat(path, &st))
		n = -errno;
	else if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
		 (st.st_mode & (S_IWGRP | S_IWOTH)))
		*why = strdup("others than root can change it");
	else
		n = path_read(path, POLICY_MAX_SIZE, &text);
	if (n < 0) {
		if (!*why)
			*why = strdup(strerror((int)-n));
		return NULL;
	}
	return policy_parse(text, (size_t)n, why);
}

static bool is_about(const struct rule *rule, const struct peer *peer)
{
	size_t i;

	switch (rule->kind) {
	case KIND_ANYBODY:
		return true;
	case KIND_USER:
		return peer->uid == rule->id;
	case KIND_GROUP:
		break;
	}
	if (peer->gid == rule->id)
		return true;
	for (i = 0; i < peer->nr_groups; i++)
		if (peer->groups[i] == rule->id)
			return true;
	return false;
}

bool policy_may_use(const struct policy *policy, const struct peer *peer,
		    const char *name)
{
	const struct rule *r = policy->rules;
	size_t i;

	for (i = 0; i < policy->count; i++, r++)
		if (r->pattern && is_about(r, peer) &&
		    !fnmatch(r->pattern, name, 0))
			return true;
	return false;
}

bool policy_may_hold(const struct policy *policy, const struct peer *peer)
{
	size_t i;

	for (i = 0; i < policy->count; i++)
		if (policy->rules[i].hold && is_about(&policy->rules[i], peer))
			return true;
	return false;
}
