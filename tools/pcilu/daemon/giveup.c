// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "../common/log.h"
#include "giveup.h"

#define UNIT "pcilud.service"

/*
 * pcilud-may-stop finds the yes in what systemd's services get. From version 254 on a
 * store outlives its unit, and is emptied by "clean".
 */
static const char stop[] =
	"systemctl set-environment PCILU_GIVE_UP=yes; systemctl stop " UNIT
	"; status=$?; systemctl unset-environment PCILU_GIVE_UP; "
	"systemctl clean --what=fdstore " UNIT " 2> /dev/null; exit $status";

static void close_lu(struct pcilu **lu)
{
	pcilu_close(*lu);
}

static int is_yes(const char *word)
{
	return word && (!strcmp(word, "y") || !strcmp(word, "yes"));
}

static bool with_systemd(void)
{
	autofree char *systemd = path_of("/run/systemd/system");

	return systemd && !access(systemd, F_OK);
}

/*
 * Sessions in the store of a unit that does not run, which are named, or descriptors among
 * which they may be, if systemd does not tell their names: how many. See store.h.
 */
static int stored(void)
{
	int all = 0, sessions = 0;
	char name[128];
	FILE *f;

	f = popen("systemctl show -P NFileDescriptorStore " UNIT, "r");
	if (!f || fscanf(f, "%d", &all) != 1)
		all = 0;
	if (f)
		pclose(f);
	if (!all)
		return 0;
	f = popen("systemd-analyze --no-pager fdstore " UNIT " 2> /dev/null",
		  "r");
	while (f && fscanf(f, "%127s%*[^\n]", name) == 1) {
		if (!strchr("oia", name[0]) || name[1] != '.')
			continue;
		log_msg(LOG_ERR,
			"session '%s', which systemd keeps for the stopped " UNIT
			", would be lost",
			name + 2);
		sessions++;
	}
	if (f && !pclose(f))
		return sessions;
	log_msg(LOG_ERR,
		"systemd keeps %d descriptors for the stopped " UNIT
		", and those of sessions would be lost: start it to see which",
		all);
	return all;
}

static int ask(void)
{
	char line[16] = "";

	if (is_yes(getenv("PCILU_GIVE_UP")))
		return EX_OK;
	if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
		fputs("Give them up, with all that they preserve? [y/N] ",
		      stderr);
		if (!fgets(line, sizeof(line), stdin))
			line[0] = '\0';
		line[strcspn(line, "\n")] = '\0';
	}
	if (is_yes(line))
		return EX_OK;
	log_msg(LOG_ERR,
		"they are not given up; finish or release them first, or set PCILU_GIVE_UP=yes");
	return EX_UNAVAILABLE;
}

static int stop_unit(void)
{
	if (!with_systemd())
		return EX_OK; /* whoever asks knows who started it */
	if (system(stop)) {
		log_msg(LOG_ERR, UNIT " is not stopped, nothing is given up");
		return EX_OSERR;
	}
	log_msg(LOG_NOTICE, "they are given up");
	return EX_OK;
}

/* What a running pcilud knows is named: how many, or -errno */
static int listed(struct pcilu *lu)
{
	autofree struct pcilu_session_info **list = NULL;
	size_t i, n = 0;
	int err = pcilu_session_list(lu, &list, &n);

	for (i = 0; i < n; i++)
		log_msg(LOG_ERR, "%s session '%s' of user %u would be lost",
			list[i]->direction == PCILU_DIRECTION_OUTGOING ?
				"outgoing" :
				"incoming",
			list[i]->name, list[i]->uid);
	return err ? err : (int)n;
}

int give_up(bool dry_run)
{
	__attribute__((cleanup(close_lu))) struct pcilu *lu = NULL;
	int lost, ret, err = pcilu_open(&lu, PCILU_MODE_DAEMON);

	if (err == -ENOENT || err == -ECONNREFUSED)
		lost = with_systemd() ? stored() : 0;
	else
		lost = err ? err : listed(lu);
	if (lost < 0)
		log_msg(LOG_ERR, "what would be lost is not known: %s",
			strerror(-lost));
	if (!lost)
		return EX_OK;
	ret = ask();
	return ret || dry_run ? ret : stop_unit();
}
