// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/log.h"
#include "privileges.h"

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &head, none) ? -errno : 0;
}

int privileges_drop(const char *user, bool must_go_on)
{
	struct passwd *pw;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (geteuid() != 0 || !strcmp(user, "root"))
		return 0;
	pw = getpwnam(user);
	if (!pw) {
		log_msg(LOG_ERR,
			"there is no user '%s' to run as%s: make one, or name another with --user",
			user,
			must_go_on ? ", so it goes on as root without rights" :
				     "");
		return must_go_on ? drop_capabilities() : -ESRCH;
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
