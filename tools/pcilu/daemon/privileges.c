// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../common/log.h"
#include "privileges.h"

int privileges_drop(const char *user)
{
	struct passwd *pw;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (geteuid() != 0 || !strcmp(user, "root"))
		return 0;
	pw = getpwnam(user);
	if (!pw) {
		log_msg(LOG_ERR,
			"there is no user '%s' to run as: make one, or name another with --user",
			user);
		return -ESRCH;
	}
	if (setgroups(0, NULL) ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid)) {
		int err = -errno;

		log_msg(LOG_ERR, "cannot become user '%s': %s", user,
			strerror(-err));
		return err;
	}
	return 0;
}
